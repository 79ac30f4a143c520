//! Owns loading policies and replacing them: the one writer of every slot.
//!
//! A revision is compiled, type-checked and configured with the settings of every route before it
//! takes a slot. Whatever goes wrong on the way leaves the slot as it is.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use wasmtime::Engine;

use super::{
    HostConfig,
    component::{self, PrepareError, Prepared},
    configured::{ConfigureError, Configured, Surroundings},
    slot::{Revision, Slot},
};
use crate::{drain::Drain, file_watch::FileWatch, telemetry::PolicyMetrics, timestamp::Timestamp};

/// A policy could not be loaded. The message names the policy, the file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("policy `{policy}` ({}): {cause}", .file.display())]
pub struct LoadError {
    /// Name of the policy.
    pub policy: String,
    /// Its file.
    pub file: PathBuf,
    /// What went wrong.
    pub cause: LoadCause,
}

/// Why a policy could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadCause {
    /// The file cannot be read.
    #[error("cannot read the file: {0}; check the path and the permissions")]
    Unreadable(#[from] std::io::Error),
    /// The file is too large.
    #[error("the file has {size} bytes, more than `policy_host.max_component_bytes` ({limit})")]
    TooLarge {
        /// Size of the file.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The bytes are not a policy.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The policy refuses the settings of a route.
    #[error("route `{route}`: {cause}")]
    Configure {
        /// The route.
        route: String,
        /// What the policy says.
        cause: ConfigureError,
    },
}

/// One route's use of a policy.
#[derive(Debug, Clone)]
pub struct PolicyUse {
    /// Name of the route.
    pub route: String,
    /// The route's settings as JSON text.
    pub settings: String,
}

/// The state of one policy, for the admin API.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyStatus {
    /// Name of the policy.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// Digest of the revision that serves.
    pub digest: String,
    /// When that revision was loaded, in seconds since the epoch.
    pub loaded_at: i64,
    /// Successful replacements since the start.
    pub reloads: u64,
    /// Failed attempts since the start.
    pub failures: u64,
    /// Why the last attempt failed; absent if it succeeded.
    pub last_error: Option<String>,
}

/// Loads one policy and replaces it.
pub(super) struct Loader {
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) uses: Vec<PolicyUse>,
    pub(super) engine: Engine,
    pub(super) surroundings: Surroundings,
    pub(super) metrics: PolicyMetrics,
}

/// What a loader and the admin API both know of a policy.
pub(super) struct Loaded {
    pub(super) loader: Loader,
    pub(super) slot: Arc<Slot>,
    tally: Mutex<Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    reloads: u64,
    failures: u64,
    last_error: Option<String>,
}

/// Asks the reload task to look at every policy file now. Clones ask the same task.
#[derive(Debug, Clone)]
pub struct Reload(mpsc::Sender<oneshot::Sender<()>>);

/// A policy and its file, as it looked before it was read.
pub(super) type Watched = (Arc<Loaded>, FileWatch);

/// The task that replaces policies.
pub struct PolicyReloader {
    pub(super) policies: Vec<Watched>,
    pub(super) requests: mpsc::Receiver<oneshot::Sender<()>>,
    pub(super) host: HostConfig,
}

// === impl Loader ===

impl Loader {
    /// Reads, compiles, checks and configures. Takes long.
    pub(super) fn load(&self) -> Result<Revision, LoadError> {
        self.try_load().map_err(|cause| LoadError {
            policy: self.name.clone(),
            file: self.file.clone(),
            cause,
        })
    }

    fn try_load(&self) -> Result<Revision, LoadCause> {
        let prepared = component::prepare(&self.engine, &self.read(&self.file)?)?;
        let configured = self
            .uses
            .iter()
            .map(|policy_use| self.configure(&prepared, policy_use))
            .collect::<Result<_, _>>()?;
        Ok(Revision { digest: prepared.digest, loaded_at: Timestamp::now(), configured })
    }

    fn read(&self, file: &Path) -> Result<Vec<u8>, LoadCause> {
        let limit = self.surroundings.host.max_component_bytes;
        let size = std::fs::metadata(file)?.len();
        if size > limit {
            return Err(LoadCause::TooLarge { size, limit });
        }
        Ok(std::fs::read(file)?)
    }

    fn configure(
        &self,
        prepared: &Prepared,
        policy_use: &PolicyUse,
    ) -> Result<Arc<Configured>, LoadCause> {
        Configured::new(prepared, policy_use.settings.clone(), self.surroundings.clone())
            .map_err(|cause| LoadCause::Configure { route: policy_use.route.clone(), cause })
    }
}

// === impl Loaded ===

impl Loaded {
    pub(super) fn new(loader: Loader) -> Result<Arc<Self>, LoadError> {
        let revision = loader.load()?;
        loader.metrics.reloaded(Some(&revision.digest));
        let slot = Slot::new(&loader.name, revision);
        Ok(Arc::new(Self { loader, slot, tally: Mutex::default() }))
    }

    pub(super) fn status(&self) -> PolicyStatus {
        let revision = self.slot.current();
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        PolicyStatus {
            name: self.slot.name.to_string(),
            file: self.loader.file.clone(),
            digest: revision.digest.to_string(),
            loaded_at: revision.loaded_at.as_secs(),
            reloads: tally.reloads,
            failures: tally.failures,
            last_error: tally.last_error.clone(),
        }
    }

    /// Loads the file again and, if all is well, lets it serve.
    fn reload(&self) {
        let loaded = self.loader.load();
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(revision) if revision.digest == self.slot.current().digest => {
                tally.last_error = None;
            }
            Ok(revision) => {
                tracing::info!(policy = %self.slot.name, digest = %revision.digest, "policy replaced");
                self.loader.metrics.reloaded(Some(&revision.digest));
                self.slot.replace(revision);
                tally.reloads += 1;
                tally.last_error = None;
            }
            Err(error) => {
                tracing::error!(policy = %self.slot.name, %error, "policy not replaced; the old one keeps serving");
                self.loader.metrics.reloaded(None);
                tally.failures += 1;
                tally.last_error = Some(error.to_string());
            }
        }
    }
}

// === impl Reload ===

impl Reload {
    pub(super) fn channel() -> (Self, mpsc::Receiver<oneshot::Sender<()>>) {
        let (sender, receiver) = mpsc::channel(16);
        (Self(sender), receiver)
    }

    /// Loads every policy file again, and returns when that is done, successful or not.
    pub async fn reload(&self) {
        let (done, finished) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // Only the end of the process loses the answer.
            let _ = finished.await;
        }
    }
}

// === impl PolicyReloader ===

impl PolicyReloader {
    /// Replaces policies when their files change or when asked to, until the drain begins.
    pub async fn run(mut self, drain: Drain) {
        let mut interval = tokio::time::interval(self.host.reload_interval.get());
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (due, done) = tokio::select! {
                () = drain.stopping() => return,
                _ = interval.tick() => (changed(&mut self.policies), None),
                Some(done) = self.requests.recv() => {
                    changed(&mut self.policies);
                    (self.policies.iter().map(|(policy, _)| Arc::clone(policy)).collect(), Some(done))
                }
            };
            if !due.is_empty() {
                reload(due).await;
            }
            if let Some(done) = done {
                // Whoever asked may have gone away since.
                let _ = done.send(());
            }
        }
    }
}

fn changed(policies: &mut [Watched]) -> Vec<Arc<Loaded>> {
    policies
        .iter_mut()
        .filter_map(|(policy, watch)| watch.has_changed().then(|| Arc::clone(policy)))
        .collect()
}

/// Compiles on a thread that serves no requests.
async fn reload(policies: Vec<Arc<Loaded>>) {
    let task = tokio::task::spawn_blocking(move || policies.iter().for_each(|p| p.reload()));
    if let Err(error) = task.await {
        tracing::error!(%error, "reloading a policy failed; the old ones keep serving");
    }
}

impl std::fmt::Debug for PolicyReloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyReloader")
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}
