//! Policy loader: loads policies and replaces them. It is the one writer of every slot.
//!
//! A revision is compiled, type-checked and configured with the settings of every route before it
//! takes a slot. Whatever goes wrong on the way leaves the slot as it is.

use std::{
    fs::OpenOptions,
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use portcullis_runtime::telemetry::PolicyMetrics;
use portcullis_types::{secret::ShownPath, timestamp::Timestamp};
use rustix::fs::OFlags;
use serde::Serialize;
use wasmtime::Engine;

use super::{
    component::{self, PrepareError, Prepared},
    configured::{ConfigureError, Configured, Surroundings},
    slot::{Revision, Slot},
};

/// A policy could not be loaded. The message names the policy, the file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("policy `{policy}` ({}): {cause}", ShownPath::of(.file))]
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
    /// What is there is a folder, a pipe or a device.
    #[error("it is not a file; put the component there")]
    NotAFile,
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
        // To open a pipe would otherwise wait for a writer. Files do not care.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(LoadCause::NotAFile);
        }
        let mut bytes = Vec::new();
        // It may be growing.
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        let size = metadata.len().max(bytes.len() as u64);
        if size > limit {
            return Err(LoadCause::TooLarge { size, limit });
        }
        Ok(bytes)
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
    pub(super) fn reload(&self) {
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
    /// An attempt to load it goes on for too long, which counts as a failure.
    pub(super) fn hangs(&self, why: String) {
        tracing::error!(policy = %self.slot.name, error = why, "policy not replaced; the old one keeps serving");
        self.loader.metrics.reloaded(None);
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.failures += 1;
        tally.last_error = Some(why);
    }
}
