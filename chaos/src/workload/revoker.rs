//! Revoker: revokes, unrevokes and revokes again, one step at a time, and records when each step
//! was acknowledged.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::mpsc;

use super::{Board, Phase, Stop, publish::Publishing, rows::Rows, transition_prober::Transition};
use crate::{
    endpoints::{Endpoints, Source},
    history::{History, Revocation, Target, Unrevocation, Way},
    moment::{Clock, Moment},
    plan::{Action, Path, PlannedStep},
};

/// A running revoker.
#[derive(Debug)]
pub(super) struct Revoker {
    client: SourceClient,
    board: Arc<Board>,
    transitions: Vec<mpsc::UnboundedSender<Transition>>,
    clock: Clock,
    /// Tokens whose last step may or may not have taken effect. They get no further steps, because
    /// a step may take effect late.
    undecided: HashSet<usize>,
    history: History,
}

/// The client of the source.
#[derive(Debug)]
enum SourceClient {
    Publishing(Box<Publishing>),
    Rows(Box<Rows>),
}

// === impl SourceClient ===

impl SourceClient {
    fn new(endpoints: &Endpoints, board: Arc<Board>) -> Self {
        match &endpoints.source {
            Source::Broker { store, command, broker, redis } => {
                let (store, admins) = (Arc::clone(store), endpoints.admins.clone());
                let connections = (broker.as_str(), *redis);
                let command = command.clone();
                let publishing = Publishing::new(connections, store, admins, command, board);
                Self::Publishing(Box::new(publishing))
            }
            Source::Table(address) => Self::Rows(Box::new(Rows::new(*address, board))),
        }
    }

    async fn revoke(&self, target: Target, path: Path) -> Option<Way> {
        match self {
            Self::Publishing(publishing) => publishing.revoke(target, path).await,
            Self::Rows(rows) => rows.revoke(target).await,
        }
    }

    async fn unrevoke(&self, token: usize, path: Path) -> Option<Way> {
        match self {
            Self::Publishing(publishing) => publishing.unrevoke(token, path).await,
            Self::Rows(rows) => rows.unrevoke(token).await,
        }
    }
}

// === impl Revoker ===

impl Revoker {
    /// Announces each transition to the probers through `transitions`.
    pub(super) fn new(
        endpoints: &Endpoints,
        board: Arc<Board>,
        transitions: Vec<mpsc::UnboundedSender<Transition>>,
        clock: Clock,
    ) -> Self {
        let client = SourceClient::new(endpoints, Arc::clone(&board));
        let (undecided, history) = (HashSet::new(), History::default());
        Self { client, board, transitions, clock, undecided, history }
    }

    /// Makes the steps of the plan until revoking stops.
    pub(super) async fn run(mut self, plan: Vec<PlannedStep>, mut stop: Stop) -> History {
        for step in plan {
            tokio::select! {
                _ = stop.wait_for(|phase| *phase > Phase::Running) => break,
                () = tokio::time::sleep(step.after) => {}
            }
            match step.action {
                Action::Revoke(target, path) => {
                    let covered = self.board.covered(target);
                    if !self.is_decided(&covered) {
                        continue;
                    }
                    self.announce(&covered, true);
                    let began = self.clock.now();
                    let way = self.client.revoke(target, path).await;
                    self.revoked(target, began, way, &covered);
                }
                Action::Unrevoke(token, path) => {
                    if !self.is_decided(&[token]) {
                        continue;
                    }
                    self.announce(&[token], false);
                    let began = self.clock.now();
                    let way = self.client.unrevoke(token, path).await;
                    self.unrevoked(token, began, way);
                }
            }
        }
        self.history
    }

    fn revoked(&mut self, target: Target, began: Moment, way: Option<Way>, covered: &[usize]) {
        let acknowledged = self.acknowledged(way, covered);
        let way = way.unwrap_or(Way::Exchange);
        self.history.revocations.push(Revocation { target, way, began, acknowledged });
    }

    fn unrevoked(&mut self, token: usize, began: Moment, way: Option<Way>) {
        let acknowledged = self.acknowledged(way, &[token]);
        let way = way.unwrap_or(Way::Exchange);
        self.history.unrevocations.push(Unrevocation { token, way, began, acknowledged });
    }

    /// Records whether a step was acknowledged.
    fn acknowledged(&mut self, way: Option<Way>, covered: &[usize]) -> Option<Moment> {
        let acknowledged = way.map(|_| self.clock.now());
        if acknowledged.is_some() {
            self.board.note(covered);
        } else {
            self.undecided.extend(covered);
        }
        acknowledged
    }

    fn is_decided(&self, covered: &[usize]) -> bool {
        covered.iter().all(|token| !self.undecided.contains(token))
    }

    fn announce(&self, covered: &[usize], revokes: bool) {
        for prober in &self.transitions {
            for token in covered {
                // The prober may have stopped.
                let _ = prober.send(Transition { token: *token, revokes });
            }
        }
    }
}
