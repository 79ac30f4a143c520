//! Owns the request to read all revocations again: who may make it, how often it is heeded, and
//! waiting until it is done.

use tokio::sync::{mpsc, oneshot};

use crate::secret::Secret;

/// Asks the source to read everything again. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Refresh {
    secret: Option<Secret>,
    requests: mpsc::Sender<oneshot::Sender<Refreshed>>,
}

/// What became of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// Everything that was revoked before the request is in force.
    Done,
    /// The source did not answer.
    Failed,
}

// === impl Refresh ===

impl Refresh {
    /// `secret` is what a request must show, if anything.
    pub(super) const fn new(
        secret: Option<Secret>,
        requests: mpsc::Sender<oneshot::Sender<Refreshed>>,
    ) -> Self {
        Self { secret, requests }
    }

    /// Whether a request that shows `secret` may ask for a refresh.
    #[must_use]
    pub fn permits(&self, secret: Option<&str>) -> bool {
        self.secret
            .as_ref()
            .is_none_or(|expected| secret.is_some_and(|secret| expected.matches(secret.as_bytes())))
    }

    /// Resolves when everything that was revoked before this call is in force, or cannot be known.
    pub async fn refresh(&self) -> Refreshed {
        let (done, refreshed) = oneshot::channel();
        if self.requests.try_send(done).is_err() {
            return Refreshed::Failed;
        }
        refreshed.await.unwrap_or(Refreshed::Failed)
    }
}
