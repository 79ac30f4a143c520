//! Owns the request to read all revocations again: who may make it, how often it is heeded, and
//! waiting until it is done.
//!
//! The answer is a promise: whatever was revoked before the request is in force. So a request never
//! shares a reading that began before it, and one that comes too soon after the last reading waits
//! for the next. All that wait share one.

use std::{future::pending, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::config::RefreshConfig;
use crate::{
    drain::Drain,
    secret::{ReadSecretError, Secret},
};

/// How many requests may wait for one reading. Anybody can send one, so there has to be an end.
const WAITING_REQUESTS: usize = 256;

/// How long the source may take.
const LONGEST_READING: Duration = Duration::from_secs(10);

/// How long a request waits that says nothing of how long it can.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Asks for a refresh. Clones ask the same source.
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
    /// The source did not answer, or too many wait for it.
    Failed,
}

/// Turns requests into as few readings as the promise allows, while [`Refresher::run`] runs.
#[derive(Debug)]
pub struct Refresher {
    min_interval: Duration,
    requests: mpsc::Receiver<oneshot::Sender<Refreshed>>,
    resyncs: mpsc::Sender<Resync>,
}

/// Where a source hears that it is to read everything again.
#[derive(Debug)]
pub(super) struct Resyncs(Option<mpsc::Receiver<Resync>>);

/// Whoever takes this reads everything again from the beginning, has it applied, and then says that
/// it is [`Resync::done`]. To drop it is to fail.
#[derive(Debug)]
pub(super) struct Resync(oneshot::Sender<Refreshed>);

/// The three ends of the request: who asks, who decides when, and who reads. Without
/// `refresh.enabled`, nobody asks.
///
/// # Errors
/// When the secret cannot be read.
pub(super) fn build(
    config: &RefreshConfig,
) -> Result<(Option<(Refresh, Refresher)>, Resyncs), ReadSecretError> {
    if !config.enabled {
        return Ok((None, Resyncs(None)));
    }
    let secret = config.secret_file.as_deref().map(Secret::read).transpose()?;
    let (sender, requests) = mpsc::channel(WAITING_REQUESTS);
    let refresh = Refresh { secret, requests: sender };
    let (resyncs, asked) = mpsc::channel(1);
    let refresher = Refresher { min_interval: config.min_interval.get(), requests, resyncs };
    Ok((Some((refresh, refresher)), Resyncs(Some(asked))))
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

    /// Resolves when everything that was revoked before this call is in force, or cannot be known
    /// within `patience`.
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
    /// Serves requests until `drain` begins, or nobody can ask any more.
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
            // Whoever has asked by now did so before the reading begins. Those who gave up count as
            // well: what they were worried about comes into force sooner than by polling.
            let mut waiting = vec![first];
            while let Ok(next) = self.requests.try_recv() {
                waiting.push(next);
            }
            let refreshed = self.read_again().await;
            tracing::debug!(requests = waiting.len(), ?refreshed, "revocations read again");
            // A failure is an attempt all the same: a source in trouble is not asked more often.
            not_before = Instant::now() + self.min_interval;
            for request in waiting {
                // Whoever asked may have stopped waiting.
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
    /// The next order to read everything again; pending for ever where nobody can give one. May be
    /// dropped and called again without losing any.
    pub(super) async fn next(&mut self) -> Resync {
        let Some(asked) = &mut self.0 else { return pending().await };
        loop {
            match asked.recv().await {
                // Nobody waits any longer for one that had to wait too long.
                Some(Resync(done)) if done.is_closed() => {}
                Some(resync) => return resync,
                None => return pending().await,
            }
        }
    }
}

// === impl Resync ===

impl Resync {
    /// Everything that was there when the order came is in force.
    pub(super) fn done(self) {
        // The refresher is gone when the process stops.
        let _ = self.0.send(Refreshed::Done);
    }
}

#[cfg(test)]
mod tests;
