//! Owns the place from which requests take the policy revision of the moment.
//!
//! Reading takes no lock; a call that has begun finishes on the revision it began with. Only the
//! loader replaces.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::{
    configured::{Configured, EvaluateError},
    convert,
    input::Input,
};
use crate::{decision::Verdict, timestamp::Timestamp};

/// A loaded policy: one component, configured with the settings of every route that names it.
pub(super) struct Revision {
    pub(super) digest: Arc<str>,
    pub(super) loaded_at: Timestamp,
    /// In the order of the uses given to the loader.
    pub(super) configured: Vec<Configured>,
}

/// The current revision of one policy.
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    revision: ArcSwap<Revision>,
}

/// What a route holds: a policy, and which settings of it.
#[derive(Clone)]
pub struct PolicyHandle {
    slot: Arc<Slot>,
    index: usize,
}

/// What a policy said, and which revision of it.
#[derive(Debug)]
pub struct Evaluation {
    /// Digest of the component that was asked.
    pub digest: Arc<str>,
    /// Verdict with the policy's own reason, or why there is none.
    pub outcome: Result<(Verdict, Option<String>), EvaluateError>,
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(name: &str, revision: Revision) -> Arc<Self> {
        Arc::new(Self { name: name.into(), revision: ArcSwap::from_pointee(revision) })
    }

    pub(super) fn current(&self) -> arc_swap::Guard<Arc<Revision>> {
        self.revision.load()
    }

    pub(super) fn replace(&self, revision: Revision) {
        self.revision.store(Arc::new(revision));
    }
}

// === impl PolicyHandle ===

impl PolicyHandle {
    pub(super) fn new(slot: Arc<Slot>, index: usize) -> Self {
        Self { slot, index }
    }

    /// Name of the policy.
    pub fn name(&self) -> &Arc<str> {
        &self.slot.name
    }

    /// Asks the current revision. Takes `deadline` at the most, plus two ticks.
    pub fn evaluate(&self, input: &Input<'_>, deadline: Duration) -> Evaluation {
        let revision = self.slot.current();
        let outcome = match revision.configured.get(self.index) {
            Some(configured) => configured
                .evaluate(input, deadline)
                .map(|convert::Answer { verdict, reason }| (verdict, reason)),
            // Every revision is built for every use; this is out of reach, and a deny.
            None => Err(EvaluateError::Unsteady("no such settings".to_owned())),
        };
        Evaluation { digest: Arc::clone(&revision.digest), outcome }
    }
}

impl fmt::Debug for PolicyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyHandle")
            .field("policy", &self.slot.name)
            .field("index", &self.index)
            .finish()
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revision").field("digest", &self.digest).finish_non_exhaustive()
    }
}
