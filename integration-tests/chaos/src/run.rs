//! Owns one run: a plan carried out against a cluster, and the history of it.

use std::sync::Arc;

use crate::{
    checker::Rules,
    cluster::Cluster,
    history::{Clock, History},
    inject::inject,
    plan::{Plan, REPLICAS},
    workload::{Board, Workload, sweep},
};

/// Carries a plan out.
pub async fn run(cluster: &mut Cluster, plan: &Plan, rules: &Rules) -> History {
    cluster.use_topology(plan.topology).await;
    let endpoints = cluster.endpoints();
    let board = Arc::new(Board::new(plan));
    let clock = Clock::begin();
    let workload = Workload::start(plan, &endpoints, &board, clock);
    let mut history = History { tokens: plan.tokens.clone(), ..History::default() };
    for planned in &plan.faults {
        tokio::time::sleep(planned.after).await;
        history.merge(inject(cluster, planned, clock).await);
    }
    tokio::time::sleep(plan.last_quiet).await;
    workload.stop_revoking();
    // From here on nothing may be late any more; whatever was missed, the sweep finds.
    tokio::time::sleep(rules.bound + rules.relay).await;
    for replica in 0..REPLICAS {
        history.merge(sweep(replica, &endpoints, &board, clock).await);
    }
    history.merge(workload.finish().await);
    history
}
