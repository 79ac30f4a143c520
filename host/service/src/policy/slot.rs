//! Policy slot: the place from which requests take the current revision of a policy.
//!
//! Reading takes no lock; a call that has begun finishes on the revision it began with. Only the
//! loader replaces.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use portcullis_types::{decision::Verdict, timestamp::Timestamp};

use super::{
    budget::Budget,
    configured::{Attempt, Configured, EvaluateError, Unanswered},
    convert::PolicyAnswer,
    input::Input,
};

/// A loaded policy: one component, configured with the settings of every route that names it.
pub(super) struct Revision {
    pub(super) digest: Arc<str>,
    pub(super) loaded_at: Timestamp,
    /// In the order of the uses given to the loader.
    pub(super) configured: Vec<Arc<Configured>>,
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

/// The verdict of a policy, and which revision gave it.
#[derive(Debug)]
pub struct Evaluation {
    /// Digest of the component that was asked.
    pub digest: Arc<str>,
    /// Verdict with the policy's own reason, or why there is no verdict.
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
        let replaced = self.revision.swap(Arc::new(revision));
        replaced.configured.iter().for_each(|configured| configured.retire());
    }
}

// === impl PolicyHandle ===

impl PolicyHandle {
    pub(super) fn new(slot: Arc<Slot>, index: usize) -> Self {
        Self { slot, index }
    }

    /// Asks the current revision, within `budget`.
    ///
    /// The future is ready when it is first polled, but where the policy is slow or all its
    /// instances are in use.
    pub async fn evaluate(&self, input: &Input<'_>, budget: Budget) -> Evaluation {
        loop {
            let revision = self.slot.current();
            let digest = Arc::clone(&revision.digest);
            let Some(configured) = revision.configured.get(self.index) else {
                // Every revision is built for every use; this is out of reach, and a deny.
                let outcome = Err(EvaluateError::Failed("no such settings".to_owned()));
                return Evaluation { digest, outcome };
            };
            let attempt = match configured.evaluate_now(input, budget) {
                Attempt::Answered(outcome) => {
                    return Evaluation { digest, outcome: outcome.map(parts) };
                }
                attempt => attempt,
            };
            let configured = Arc::clone(configured);
            drop(revision);
            // Boxed, so that the many that do not wait need not carry along what the few wait with.
            let outcome = match Box::pin(configured.evaluate_later(attempt, input, budget)).await {
                Ok(answer) => Ok(parts(answer)),
                Err(Unanswered::Error(error)) => Err(error),
                Err(Unanswered::Replaced) => continue,
            };
            return Evaluation { digest, outcome };
        }
    }
}

fn parts(PolicyAnswer { verdict, reason }: PolicyAnswer) -> (Verdict, Option<String>) {
    (verdict, reason)
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
