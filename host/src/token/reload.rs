//! Owns noticing that key files have changed, and is the one writer of the key sets.
//!
//! A file that cannot be used replaces nothing: an issuer never loses the keys that it has.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::{
    config::KeyConfig,
    key::{DuplicateKidError, Key, KeySet},
    key_fault::LoadKeysError,
    key_file,
    verifier::Verifier,
};
use crate::{drain::Drain, file_watch::FileWatch};

/// The task that follows the key files.
#[derive(Debug)]
pub struct KeyReloader {
    verifier: Verifier,
    /// In the verifier's order of issuers.
    issuers: Vec<IssuerKeys>,
    interval: Duration,
}

/// One issuer's key files, and the keys last read from each.
#[derive(Debug)]
pub(super) struct IssuerKeys {
    name: String,
    sources: Vec<KeySource>,
}

#[derive(Debug)]
struct KeySource {
    config: KeyConfig,
    watch: FileWatch,
    keys: Vec<Arc<Key>>,
}

// === impl KeyReloader ===

impl KeyReloader {
    pub(super) fn new(verifier: Verifier, issuers: Vec<IssuerKeys>, interval: Duration) -> Self {
        Self { verifier, issuers, interval }
    }

    /// Follows the key files until the process drains.
    pub async fn run(mut self, drain: Drain) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = drain.stopping() => return,
                _ = ticks.tick() => {}
            }
            // A file may lie on a volume that hangs; no request must wait for it.
            let checked = tokio::task::spawn_blocking(move || {
                self.reload_changed();
                self
            });
            match checked.await {
                Ok(reloader) => self = reloader,
                // It panicked. Ending here lets the drain report that keys are no longer followed.
                Err(_) => return,
            }
        }
    }

    /// Reads the files that have changed since they were last looked at, and replaces all changed
    /// key sets at once. What [`KeyReloader::run`] does at each interval.
    pub fn reload_changed(&mut self) {
        let mut changed = Vec::new();
        let mut failures = 0;
        for (index, issuer) in self.issuers.iter_mut().enumerate() {
            let reloaded = issuer.reload_changed();
            failures += reloaded.failures;
            changed.extend(reloaded.key_set.map(|set| (index, set)));
        }
        if failures > 0 {
            self.verifier.count_reload_failures(failures);
        }
        if !changed.is_empty() {
            self.verifier.replace_key_sets(changed);
        }
    }
}

/// What came of looking at one issuer's files.
struct Reloaded {
    /// The new keys, if there are any.
    key_set: Option<KeySet>,
    /// How many files have changed but cannot be used.
    failures: u64,
}

// === impl IssuerKeys ===

impl IssuerKeys {
    pub(super) fn load(name: &str, configs: &[KeyConfig]) -> Result<Self, LoadKeysError> {
        let sources = configs.iter().map(KeySource::load).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), sources })
    }

    /// The keys of all files together.
    pub(super) fn key_set(&self) -> Result<KeySet, DuplicateKidError> {
        KeySet::new(self.sources.iter().flat_map(|source| source.keys.clone()).collect())
    }

    /// Each file stands for itself, so that a bad one does not keep a key that was removed from
    /// another one alive.
    fn reload_changed(&mut self) -> Reloaded {
        let mut reloaded = Reloaded { key_set: None, failures: 0 };
        for index in 0..self.sources.len() {
            match self.reload_source(index) {
                Ok(None) => {}
                Ok(Some(set)) => {
                    let file = self.path(index);
                    tracing::info!(issuer = self.name, file, "the keys were reloaded");
                    reloaded.key_set = Some(set);
                }
                Err(error) => {
                    let file = self.path(index);
                    tracing::error!(
                        issuer = self.name,
                        file,
                        %error,
                        "the key file has changed but cannot be used; its previous keys stay in use"
                    );
                    reloaded.failures += 1;
                }
            }
        }
        reloaded
    }

    /// Reads one file if it has changed. The issuer's keys, if they are other ones now.
    fn reload_source(&mut self, index: usize) -> Result<Option<KeySet>, ReloadError> {
        let Some(source) = self.sources.get_mut(index) else { return Ok(None) };
        if !source.watch.has_changed() {
            return Ok(None);
        }
        let previous = std::mem::replace(&mut source.keys, key_file::load(&source.config)?);
        match self.key_set() {
            Ok(set) => Ok(Some(set)),
            Err(error) => {
                if let Some(source) = self.sources.get_mut(index) {
                    source.keys = previous;
                }
                Err(error.into())
            }
        }
    }

    fn path(&self, index: usize) -> Option<String> {
        self.sources.get(index).map(|source| source.config.path().display().to_string())
    }
}

/// A file has changed but cannot be used.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Load(#[from] LoadKeysError),
    #[error(transparent)]
    DuplicateKid(#[from] DuplicateKidError),
}

// === impl KeySource ===

impl KeySource {
    fn load(config: &KeyConfig) -> Result<Self, LoadKeysError> {
        // Watched before it is read: a change in between is then seen at the first look.
        let watch = FileWatch::new(config.path());
        Ok(Self { watch, keys: key_file::load(config)?, config: config.clone() })
    }
}
