//! Execution of a plan at a site; returns the recorded history.

use std::{sync::Arc, time::Duration};

use crate::{
    checker::Rules,
    history::History,
    inject::inject,
    load,
    moment::Clock,
    plan::{Plan, REPLICAS},
    site::Site,
    workload::{Board, Workload, sweep},
};

/// Each replica verifies an un-revocation after a second, and again after two if the key was still
/// there.
const UNREVOCATIONS: Duration = Duration::from_secs(3);
/// The longest stretch of the last wait, so that a run ends on any machine. On a slower one, the
/// last revocations may count as late.
const MAX_SLOWDOWN: f64 = 3.0;

/// Executes a plan.
pub async fn run(site: &mut impl Site, plan: &Plan, rules: &Rules) -> History {
    site.use_setup(plan.setup).await;
    let endpoints = site.endpoints();
    let board = Arc::new(Board::new(plan));
    let clock = Clock::begin();
    let workload = Workload::start(plan, &endpoints, &board, clock);
    let mut history =
        History { tokens: board.tokens().to_vec(), setup: plan.setup, ..History::default() };
    for group in &plan.faults {
        tokio::time::sleep(group.after).await;
        history.merge(inject(site, &group.faults, clock).await);
    }
    tokio::time::sleep(plan.last_quiet).await;
    workload.stop_revoking();
    // After this wait nothing may be late; the sweep finds every missed revocation.
    let slowdown = load::slowdown_now(clock).await.min(MAX_SLOWDOWN);
    tokio::time::sleep((rules.limit + rules.relay).mul_f64(slowdown) + UNREVOCATIONS).await;
    for replica in 0..REPLICAS {
        history.merge(sweep(replica, &endpoints, &board, clock).await);
    }
    history.merge(workload.finish().await);
    history
}
