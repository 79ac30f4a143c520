//! Site of a run: services and replicas, and how faults are injected and healed there.

use portcullis_integration_tests::services::sentinel::Member;

use crate::{endpoints::Endpoints, plan::PlannedFault, setup::Setup};

/// Services and replicas.
#[expect(async_fn_in_trait, reason = "a run is one task, so no future has to be sent")]
pub trait Site {
    /// Restarts all replicas with this set-up, if it differs from the current one.
    async fn use_setup(&mut self, setup: Setup);

    /// The addresses and clients of the site.
    fn endpoints(&self) -> Endpoints;

    /// Injects a fault, and returns what healing needs to know.
    async fn break_one(&mut self, planned: &PlannedFault) -> Broken;

    /// Heals a fault.
    async fn heal(&mut self, planned: &PlannedFault, broken: &Broken);

    /// Waits until everything has recovered.
    async fn recovered(&mut self);
}

/// State of an injected fault that healing needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Broken {
    /// The Redis that was the primary.
    pub primary: Option<Member>,
}
