//! Key reloads: follows the sources of keys and is the one writer of the key sets.
//!
//! All sources of an issuer make one set, so a key that moves from one source to another is never
//! lost, and a key that is in no source any more is no longer used. A source that cannot be used keeps
//! the keys that it had, and is tried again at every interval.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::select_all};
use portcullis_runtime::{
    boot_clock::BootInstant,
    drain::Drain,
    readiness::{BlockReady, Readiness},
    telemetry::{IssuerKeyMetrics, KeyMetrics},
};
use tokio::{
    sync::Notify,
    task::JoinError,
    time::{MissedTickBehavior, interval},
};

use super::{
    key::KeySet,
    key_fault::LoadKeysError,
    key_source::KeySource,
    remote::{KeyRequests, RemoteTask},
    verifier::Verifier,
    watched_source::{Context, WatchedSource},
};

/// How often the sources are checked again because one of them has changed: a change of several
/// may be caught halfway.
const MAX_CHECKS: u32 = 3;

/// The task that follows the sources of keys.
#[derive(Debug)]
pub struct KeyReloader {
    verifier: Verifier,
    /// In the verifier's order of issuers.
    issuers: Vec<IssuerKeys>,
    /// They fetch the keys of issuers.
    tasks: Vec<RemoteTask>,
    interval: Duration,
}

/// One issuer's sources of keys, and the set of their keys.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    name: String,
    sources: Vec<WatchedSource>,
    key_set: Arc<KeySet>,
    /// About the sources that are fetched.
    requests: Vec<KeyRequests>,
    /// A source has something to load.
    changed: Arc<Notify>,
    /// Until all sources have had keys once.
    not_ready: Option<BlockReady>,
    metrics: IssuerKeyMetrics,
}

// === impl KeyReloader ===

impl KeyReloader {
    pub(super) fn new(
        verifier: Verifier,
        issuers: Vec<IssuerKeys>,
        tasks: Vec<RemoteTask>,
        interval: Duration,
    ) -> Self {
        Self { verifier, issuers, tasks, interval }
    }

    /// Blocks `readiness` until every issuer whose keys are fetched has keys.
    #[must_use]
    pub fn block(mut self, readiness: &Readiness) -> Self {
        for issuer in &mut self.issuers {
            issuer.not_ready = issuer.lacks_keys().then(|| readiness.block("keys of an issuer"));
        }
        self
    }

    /// Counts into `metrics` from now on.
    #[must_use]
    pub fn report_to(mut self, metrics: &KeyMetrics) -> Self {
        for issuer in &mut self.issuers {
            issuer.metrics = metrics.issuer(&issuer.name);
        }
        self
    }

    /// Follows the sources until the process drains. No issuer waits for the sources of another, and
    /// the end waits for none: a file may lie on a volume that hangs.
    pub async fn run(self, drain: Drain) {
        let Self { verifier, issuers, tasks, interval } = self;
        let follow = |(position, issuer)| {
            IssuerKeys::follow(issuer, verifier.clone(), position, interval).boxed()
        };
        let mut all: Vec<_> = issuers.into_iter().enumerate().map(follow).collect();
        all.extend(tasks.into_iter().map(|task| task.run().boxed()));
        if all.is_empty() {
            return drain.stopping().await;
        }
        tokio::select! {
            () = drain.stopping() => {}
            // It panicked. Ending here lets the drain report that keys are no longer followed.
            _ = select_all(all) => {}
        }
    }

    /// Reads the sources that have changed since they were last checked, and those that could not be
    /// used then. What [`KeyReloader::run`] does at each interval.
    ///
    /// # Errors
    /// When reading a source panicked.
    pub async fn reload_changed(&mut self) -> Result<(), JoinError> {
        for (position, issuer) in self.issuers.iter_mut().enumerate() {
            issuer.reload(&self.verifier, position).await?;
        }
        Ok(())
    }
}

// === impl IssuerKeys ===

impl IssuerKeys {
    /// Reads every source, each of which must be usable.
    pub(super) fn load(
        name: &str,
        sources: Vec<Box<dyn KeySource>>,
        requests: Vec<KeyRequests>,
        changed: Arc<Notify>,
    ) -> Result<Self, LoadKeysError> {
        let sources: Vec<_> =
            sources.into_iter().map(WatchedSource::load).collect::<Result<_, _>>()?;
        let key_set = Arc::new(union(&sources));
        if key_set.is_empty() && requests.is_empty() {
            tracing::warn!(issuer = name, "{}", NO_KEYS);
        }
        let metrics = KeyMetrics::default().issuer(name);
        let name = name.to_owned();
        Ok(Self { name, sources, key_set, requests, changed, not_ready: None, metrics })
    }

    /// Until when the keys of all sources may be used, if they are fetched.
    fn usable_until(&self) -> Option<BootInstant> {
        let all = self.requests.iter().map(KeyRequests::usable_until);
        all.map(|until| until.unwrap_or(BootInstant::START)).min()
    }

    /// Whether keys of a source were never fetched, or may no longer be used.
    fn lacks_keys(&self) -> bool {
        self.requests.iter().any(|source| source.usable_until().is_none())
    }

    /// The keys of all sources together.
    pub(super) const fn key_set(&self) -> &Arc<KeySet> {
        &self.key_set
    }

    /// Checks the sources at each interval, and when something was fetched; ends only by a panic.
    async fn follow(mut self, verifier: Verifier, position: usize, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.changed.notified() => {}
            }
            if self.reload(&verifier, position).await.is_err() {
                return;
            }
        }
    }

    /// Reads what has changed, and replaces the issuer's set once if it is another one then.
    async fn reload(&mut self, verifier: &Verifier, position: usize) -> Result<(), JoinError> {
        for number in 0..MAX_CHECKS {
            if !self.look(number == 0).await? {
                break;
            }
        }
        let failing = self.sources.iter().filter(|source| source.is_failing()).count();
        self.metrics.set_failing(failing);
        self.metrics.set_usable_until(self.usable_until());
        self.replace(verifier, position);
        // Only now: requests that wait for these keys go on.
        if !self.sources.iter().any(WatchedSource::is_being_read) {
            self.requests.iter().for_each(KeyRequests::applied);
        }
        if self.not_ready.is_some() && !self.lacks_keys() {
            self.not_ready = None;
        }
        Ok(())
    }

    /// Has the verifier use the keys of all sources, if they are other ones than before.
    fn replace(&mut self, verifier: &Verifier, position: usize) {
        let key_set = union(&self.sources);
        if key_set == *self.key_set {
            return;
        }
        if key_set.is_empty() {
            tracing::warn!(issuer = self.name, "{}", NO_KEYS);
        } else {
            tracing::info!(issuer = self.name, "the keys were reloaded");
        }
        self.key_set = Arc::new(key_set);
        verifier.replace_key_set(position, &self.key_set);
    }

    /// Checks all sources at once. Whether one has changed.
    async fn look(&mut self, retry: bool) -> Result<bool, JoinError> {
        for source in &mut self.sources {
            source.begin(retry);
        }
        let context = Context { issuer: &self.name, metrics: &self.metrics };
        let mut has_changed = false;
        for source in &mut self.sources {
            has_changed |= source.finish(&context).await?;
        }
        Ok(has_changed)
    }
}

const NO_KEYS: &str = "none of the issuer's `keys` can verify tokens, so every token of this issuer is \
                       refused; add a key to a source that `keys` names";

fn union(sources: &[WatchedSource]) -> KeySet {
    KeySet::new(sources.iter().flat_map(|source| source.keys().iter().map(Arc::clone)))
}
