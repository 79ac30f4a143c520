//! Key reloads: follows the key files and is the one writer of the key sets.
//!
//! All files of an issuer make one set, so a key that moves from one file to another is never lost,
//! and one that is in no file any more is used no more. A file that cannot be used keeps the keys that
//! it had, and is tried again at every interval.

use std::{sync::Arc, time::Duration};

use futures_util::future::select_all;
use tokio::{
    task::JoinError,
    time::{MissedTickBehavior, interval},
};

use super::{
    config::KeyConfig,
    key::KeySet,
    key_fault::LoadKeysError,
    verifier::Verifier,
    watched_file::{Context, WatchedFile},
};
use crate::{
    drain::Drain,
    telemetry::{IssuerKeyMetrics, KeyMetrics},
};

/// How often the files are looked at again because one of them has changed: a change of several files
/// may be caught halfway.
const MAX_LOOKS: u32 = 3;

/// The task that follows the key files.
#[derive(Debug)]
pub struct KeyReloader {
    verifier: Verifier,
    /// In the verifier's order of issuers.
    issuers: Vec<IssuerKeys>,
    interval: Duration,
}

/// One issuer's key files, and the set of their keys.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    name: String,
    files: Vec<WatchedFile>,
    key_set: Arc<KeySet>,
    metrics: IssuerKeyMetrics,
}

// === impl KeyReloader ===

impl KeyReloader {
    pub(super) fn new(verifier: Verifier, issuers: Vec<IssuerKeys>, interval: Duration) -> Self {
        Self { verifier, issuers, interval }
    }

    /// Counts into `metrics` from now on.
    #[must_use]
    pub fn report_to(mut self, metrics: &KeyMetrics) -> Self {
        for issuer in &mut self.issuers {
            issuer.metrics = metrics.issuer(&issuer.name);
        }
        self
    }

    /// Follows the key files until the process drains. No issuer waits for the files of another, and
    /// the end waits for none: a file may lie on a volume that hangs.
    pub async fn run(self, drain: Drain) {
        let Self { verifier, issuers, interval } = self;
        let follow = |(position, issuer)| {
            Box::pin(IssuerKeys::follow(issuer, verifier.clone(), position, interval))
        };
        let all: Vec<_> = issuers.into_iter().enumerate().map(follow).collect();
        if all.is_empty() {
            return drain.stopping().await;
        }
        tokio::select! {
            () = drain.stopping() => {}
            // It panicked. Ending here lets the drain report that keys are no longer followed.
            _ = select_all(all) => {}
        }
    }

    /// Reads the files that have changed since they were last looked at, and those that could not be
    /// used then. What [`KeyReloader::run`] does at each interval.
    ///
    /// # Errors
    /// When reading a file panicked.
    pub async fn reload_changed(&mut self) -> Result<(), JoinError> {
        for (position, issuer) in self.issuers.iter_mut().enumerate() {
            issuer.reload(&self.verifier, position).await?;
        }
        Ok(())
    }
}

// === impl IssuerKeys ===

impl IssuerKeys {
    /// Reads every file, each of which must be usable.
    pub(super) fn load(name: &str, configs: &[KeyConfig]) -> Result<Self, LoadKeysError> {
        let files: Vec<_> = configs.iter().map(WatchedFile::load).collect::<Result<_, _>>()?;
        let key_set = Arc::new(union(&files));
        if key_set.is_empty() {
            tracing::warn!(issuer = name, "{}", NO_KEYS);
        }
        let metrics = KeyMetrics::default().issuer(name);
        Ok(Self { name: name.to_owned(), files, key_set, metrics })
    }

    /// The keys of all files together.
    pub(super) const fn key_set(&self) -> &Arc<KeySet> {
        &self.key_set
    }

    /// Looks at the files at each interval; ends only by a panic.
    async fn follow(mut self, verifier: Verifier, position: usize, period: Duration) {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.reload(&verifier, position).await.is_err() {
                return;
            }
        }
    }

    /// Reads what has changed, and replaces the issuer's set once if it is another one then.
    async fn reload(&mut self, verifier: &Verifier, position: usize) -> Result<(), JoinError> {
        for number in 0..MAX_LOOKS {
            if !self.look(number == 0).await? {
                break;
            }
        }
        let failing = self.files.iter().filter(|file| file.is_failing()).count();
        self.metrics.set_failing(failing);
        let key_set = union(&self.files);
        if key_set == *self.key_set {
            return Ok(());
        }
        if key_set.is_empty() {
            tracing::warn!(issuer = self.name, "{}", NO_KEYS);
        } else {
            tracing::info!(issuer = self.name, "the keys were reloaded");
        }
        self.key_set = Arc::new(key_set);
        verifier.replace_key_set(position, &self.key_set);
        Ok(())
    }

    /// Looks at every file, at all of them at once. Whether one has changed.
    async fn look(&mut self, retry: bool) -> Result<bool, JoinError> {
        for file in &mut self.files {
            file.begin(retry);
        }
        let context = Context { issuer: &self.name, metrics: &self.metrics };
        let mut has_changed = false;
        for file in &mut self.files {
            has_changed |= file.finish(&context).await?;
        }
        Ok(has_changed)
    }
}

const NO_KEYS: &str = "the key files hold no key that can verify tokens; every token of this issuer \
                       is refused until one does";

fn union(files: &[WatchedFile]) -> KeySet {
    KeySet::new(files.iter().flat_map(|file| file.keys().iter().map(Arc::clone)))
}
