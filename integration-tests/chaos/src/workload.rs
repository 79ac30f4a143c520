//! Owns who asks and who revokes while faults come and go, and what they write down.
//!
//! Every task has a history of its own and hands it over at the end. None of them judges.

mod ask;
mod board;
mod hunt;
mod looks;
mod patrol;
mod revoker;
mod stalls;
mod store;

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::{ask::Asker, board::Board, store::Store};
use crate::{
    cluster::Endpoints,
    history::{Clock, History},
    plan::{Plan, REPLICAS},
    random::Random,
};

/// Running tasks. They stop when this is dropped.
#[derive(Debug)]
pub struct Workload {
    tasks: JoinSet<History>,
    stalls: stalls::Watch,
    stop: watch::Sender<Phase>,
}

/// How far the end of the run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// Nothing more is revoked.
    Fading,
    Over,
}

/// What a task needs in order to end in time.
type Stop = watch::Receiver<Phase>;

// === impl Workload ===

impl Workload {
    /// Starts to ask and to revoke as planned.
    #[must_use]
    pub fn start(plan: &Plan, endpoints: &Endpoints, board: &Arc<Board>, clock: Clock) -> Self {
        let (stop, stopping) = watch::channel(Phase::Running);
        let mut tasks = JoinSet::new();
        let mut prey = Vec::new();
        for replica in 0..REPLICAS {
            let (sender, receiver) = mpsc::unbounded_channel();
            prey.push(sender);
            let asker =
                || ask::Asker::new(replica, endpoints.grpc[replica], Arc::clone(board), clock);
            tasks.spawn(hunt::run(asker(), receiver, stopping.clone()));
            // Each patrol has numbers of its own, and the same ones for the same seed.
            let random = Random::new(plan.seed ^ (replica as u64 + 1) << 32);
            tasks.spawn(patrol::run(asker(), random, stopping.clone()));
            let look = looks::run(replica, endpoints.grpc[replica], clock, stopping.clone());
            tasks.spawn(look);
            let admin = endpoints.admins[replica].clone();
            tasks.spawn(looks::ages(replica, admin, clock, stopping.clone()));
        }
        for revocations in &plan.revocations {
            let revoker = revoker::Revoker::new(endpoints, Arc::clone(board), prey.clone(), clock);
            tasks.spawn(revoker.run(revocations.clone(), stopping.clone()));
        }
        Self { tasks, stalls: stalls::Watch::start(clock), stop }
    }

    /// Has the revokers finish what they are at, and everybody else go on.
    pub fn stop_revoking(&self) {
        self.stop.send_replace(Phase::Fading);
    }

    /// Has everybody finish what they are at, and returns what they wrote down.
    ///
    /// # Panics
    /// When one of them did.
    pub async fn finish(mut self) -> History {
        self.stop.send_replace(Phase::Over);
        let mut history = History::default();
        while let Some(ended) = self.tasks.join_next().await {
            history.merge(ended.expect("no task of the workload panics"));
        }
        history.stalls = self.stalls.finish();
        history
    }
}

/// Asks a replica once about every token that is good or was revoked.
pub async fn sweep(
    replica: usize,
    endpoints: &Endpoints,
    board: &Arc<Board>,
    clock: Clock,
) -> History {
    let mut asker = ask::Asker::new(replica, endpoints.grpc[replica], Arc::clone(board), clock);
    for token in board.decided() {
        asker.ask(token).await;
    }
    asker.finish()
}
