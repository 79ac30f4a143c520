//! Workload of a run: tasks that check and revoke while faults come and go, and record the results.
//!
//! Every task records into its own history and returns it at the end. No task judges.

mod ask;
mod board;
mod health_poller;
mod publish;
mod random_prober;
mod revoker;
mod rows;
mod stalls;
mod transition_prober;

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::{ask::Asker, board::Board};
use crate::{
    endpoints::Endpoints,
    history::History,
    moment::Clock,
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

/// The phase of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// No further revocations begin.
    Fading,
    Over,
}

/// Tells a task when to stop.
type Stop = watch::Receiver<Phase>;

// === impl Workload ===

impl Workload {
    /// Starts the checks, and the revocations of the plan.
    #[must_use]
    pub fn start(plan: &Plan, endpoints: &Endpoints, board: &Arc<Board>, clock: Clock) -> Self {
        let (stop, stopping) = watch::channel(Phase::Running);
        let mut tasks = JoinSet::new();
        let mut transitions = Vec::new();
        for replica in 0..REPLICAS {
            let (sender, receiver) = mpsc::unbounded_channel();
            transitions.push(sender);
            let asker =
                || ask::Asker::new(replica, endpoints.grpc[replica], Arc::clone(board), clock);
            tasks.spawn(transition_prober::run(asker(), receiver, stopping.clone(), plan.pause));
            // Each prober has its own random numbers, the same ones for the same seed.
            let random = Random::new(plan.seed ^ (replica as u64 + 1) << 32);
            tasks.spawn(random_prober::run(asker(), random, stopping.clone(), plan.pause));
            let address = endpoints.grpc[replica];
            tasks.spawn(health_poller::run(replica, address, clock, stopping.clone()));
            let admin = endpoints.admins[replica].clone();
            tasks.spawn(health_poller::ages(replica, admin, clock, stopping.clone()));
        }
        for steps in &plan.steps {
            let revoker =
                revoker::Revoker::new(endpoints, Arc::clone(board), transitions.clone(), clock);
            tasks.spawn(revoker.run(steps.clone(), stopping.clone()));
        }
        Self { tasks, stalls: stalls::Watch::start(clock), stop }
    }

    /// Lets the revokers finish their current step and stop. All other tasks continue.
    pub fn stop_revoking(&self) {
        self.stop.send_replace(Phase::Fading);
    }

    /// Stops all tasks, and returns what they recorded.
    ///
    /// # Panics
    /// If a task panicked.
    pub async fn finish(mut self) -> History {
        self.stop.send_replace(Phase::Over);
        let mut history = History::default();
        while let Some(ended) = self.tasks.join_next().await {
            history.merge(ended.expect("no task of the workload panics"));
        }
        history.merge(self.stalls.finish());
        history
    }
}

/// Checks every token that is good or was revoked once at a replica.
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
