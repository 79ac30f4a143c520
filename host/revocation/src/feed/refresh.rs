//! Refresh requests: who may have all revocations read again, how often, and the wait until it is
//! done.
//!
//! The answer is a promise: everything that was revoked before the request has been applied. So a
//! request never shares a reading that began before it, and a request that comes too soon after the
//! last reading waits for the next. All waiting requests share one reading (single flight).

use std::{future::pending, time::Duration};

use portcullis_runtime::drain::Drain;
use portcullis_types::secret::{ReadSecretError, Secret};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::config::RefreshConfig;

/// How many requests may wait for one reading. Any client can send one, so there has to be a limit.
const WAITING_REQUESTS: usize = 256;

/// How long the source may take.
const LONGEST_READING: Duration = Duration::from_secs(10);

/// How long a request without a time limit of its own waits.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Requests a refresh. Clones use the same source.
#[derive(Debug, Clone)]
pub struct Refresh {
    secret: Option<Secret>,
    requests: mpsc::Sender<oneshot::Sender<Refreshed>>,
}

/// The outcome of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// Everything that was revoked before the request has been applied.
    Done,
    /// The source did not answer, or too many requests wait for it.
    Failed,
}

/// Turns requests into as few readings as the promise allows, while [`Refresher::run`] runs.
#[derive(Debug)]
pub struct Refresher {
    min_interval: Duration,
    requests: mpsc::Receiver<oneshot::Sender<Refreshed>>,
    resyncs: mpsc::Sender<Resync>,
}

/// Where a source receives orders to read everything again.
#[derive(Debug)]
pub(crate) struct Resyncs(mpsc::Receiver<Resync>);

/// An order to read everything again from the beginning, have it applied, and then call
/// [`Resync::done`]. Dropping it reports a failure.
#[derive(Debug)]
pub(crate) struct Resync(oneshot::Sender<Refreshed>);

/// The three parts: the handle for requests, the task that schedules readings, and the orders for
/// the source. Without `refresh.enabled` there are no requests.
///
/// # Errors
/// When the secret cannot be read.
pub(crate) fn build(
    config: &RefreshConfig,
) -> Result<(Option<(Refresh, Refresher)>, Resyncs), ReadSecretError> {
    let (resyncs, asked) = mpsc::channel(1);
    if !config.enabled {
        return Ok((None, Resyncs(asked)));
    }
    let secret = config.secret_file.as_deref().map(Secret::read).transpose()?;
    let (sender, requests) = mpsc::channel(WAITING_REQUESTS);
    let refresh = Refresh { secret, requests: sender };
    let refresher = Refresher { min_interval: config.min_interval.get(), requests, resyncs };
    Ok((Some((refresh, refresher)), Resyncs(asked)))
}

// === impl Refresh ===

impl Refresh {
    /// Whether a request that shows `secret` may ask for a refresh.
    #[must_use]
    pub fn permits(&self, secret: Option<&str>) -> bool {
        self.secret
            .as_ref()
            .is_none_or(|expected| secret.is_some_and(|secret| expected.matches(secret.as_bytes())))
    }

    /// Resolves when everything that was revoked before this call has been applied, or at the
    /// latest after `patience`.
    pub async fn refresh(&self, patience: Option<Duration>) -> Refreshed {
        let (done, refreshed) = oneshot::channel();
        if self.requests.try_send(done).is_err() {
            return Refreshed::Failed;
        }
        let patience = patience.map_or(LONGEST_WAIT, |patience| patience.min(LONGEST_WAIT));
        let refreshed = tokio::time::timeout(patience, refreshed).await;
        refreshed.map_or(Refreshed::Failed, |refreshed| refreshed.unwrap_or(Refreshed::Failed))
    }
}

// === impl Refresher ===

impl Refresher {
    /// Serves requests until `drain` begins, or the last handle is dropped.
    pub async fn run(mut self, drain: Drain) {
        tokio::select! {
            () = drain.stopping() => {}
            () = self.serve() => drain.stopping().await,
        }
    }

    async fn serve(&mut self) {
        let mut not_before = Instant::now();
        while let Some(first) = self.requests.recv().await {
            tokio::time::sleep_until(not_before).await;
            // Requests that have arrived by now precede the reading. Requests that were cancelled
            // count as well: their revocations then become effective sooner than by polling.
            let mut waiting = vec![first];
            while let Ok(next) = self.requests.try_recv() {
                waiting.push(next);
            }
            let refreshed = self.read_again().await;
            tracing::debug!(requests = waiting.len(), ?refreshed, "revocations read again");
            // A failure counts as an attempt: a failing source is not asked more often.
            not_before = Instant::now() + self.min_interval;
            for request in waiting {
                // The caller may have stopped waiting.
                let _ = request.send(refreshed);
            }
        }
    }

    async fn read_again(&self) -> Refreshed {
        let reading = async {
            let (done, refreshed) = oneshot::channel();
            self.resyncs.send(Resync(done)).await.ok()?;
            refreshed.await.ok()
        };
        let read = tokio::time::timeout(LONGEST_READING, reading).await;
        read.ok().flatten().unwrap_or(Refreshed::Failed)
    }
}

// === impl Resyncs ===

impl Resyncs {
    /// The next order to read everything again; pending for ever if there can be none. Cancel safe.
    pub(crate) async fn next(&mut self) -> Resync {
        while let Some(resync) = self.0.recv().await {
            // No request waits for a closed order any longer.
            if !resync.0.is_closed() {
                return resync;
            }
        }
        pending().await
    }
}

// === impl Resync ===

impl Resync {
    /// Everything that existed when the order came has been applied.
    pub(crate) fn done(self) {
        // The refresher is gone when the process stops.
        let _ = self.0.send(Refreshed::Done);
    }
}

#[cfg(test)]
mod tests;
