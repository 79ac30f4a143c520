//! Policies: loading components, keeping instances warm, calling them, replacing them.
//!
//! The only module that knows wasmtime. It knows neither routes nor tokens: it is given names,
//! settings and inputs, and returns verdicts that it does not trust.

mod bindings;
mod budget;
mod component;
mod config;
mod configured;
mod convert;
mod engine;
mod epoch_waker;
mod filler;
mod input;
mod instance;
mod linker;
mod loader;
mod manifest;
mod pool;
mod reloader;
mod share;
mod slot;
mod turns;

use std::{collections::BTreeMap, path::Path, sync::Arc, thread};

pub use budget::Budget;
pub use component::{Inspection, PrepareError};
pub use config::{HostConfig, PolicyConfig};
use configured::Surroundings;
pub use configured::{ConfigureError, EvaluateError};
pub use engine::{EngineError, EpochTicker, TICK};
pub use epoch_waker::EpochWaker;
use filler::Filler;
pub use input::{Identity, Input};
pub use instance::CallError;
pub use linker::{INERT_PACKAGES, LinkError};
pub use loader::{LoadCause, LoadError, PolicyStatus, PolicyUse};
use loader::{Loaded, Loader};
pub use manifest::{InputParts, Manifest, ManifestError};
use portcullis_runtime::{file_watch::FileWatch, telemetry::Metrics};
pub use reloader::{PolicyReloader, Reload, ReloadTimeout};
use share::SharedByAll;
pub use slot::{Evaluation, PolicyHandle};

/// Revisions of a policy that may be alive at once: the one that serves, the one being loaded, and
/// one that slow calls still hold.
const REVISIONS: usize = 3;

/// Every configured policy, loaded.
#[derive(Clone)]
pub struct Policies {
    loaded: Arc<Vec<Arc<Loaded>>>,
    epoch_waker: EpochWaker,
}

/// The policies cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PolicyBuildError {
    /// The engine cannot be built.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A policy cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Loads every policy that a route uses; `uses` holds the routes' settings by policy name.
///
/// # Errors
/// When the engine cannot be built or a policy cannot be loaded with the settings of its routes.
pub fn build(
    host: &HostConfig,
    policies: &BTreeMap<String, PolicyConfig>,
    uses: &BTreeMap<String, Vec<PolicyUse>>,
    metrics: &Metrics,
) -> Result<(Policies, Reload, PolicyReloader), PolicyBuildError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let configured: usize = uses.values().map(Vec::len).sum();
    let instances = configured.max(1) * configured::capacity(host, threads) * REVISIONS;
    let engine = engine::build(host, u32::try_from(instances).unwrap_or(u32::MAX))?;
    let epoch_waker = EpochWaker::default();
    let ticker = EpochTicker::start(&engine, epoch_waker.clone()).map_err(EngineError::from)?;
    let ticker = Arc::new(ticker);
    let shared = SharedByAll::new(host, threads);
    // Watched before they are read: a change in between is then seen at the first look.
    let watches: Vec<_> = policies.values().map(|policy| FileWatch::new(&policy.file)).collect();
    let loaded = policies
        .iter()
        .enumerate()
        .map(|(number, (name, policy))| {
            let loader = Loader {
                name: name.clone(),
                file: policy.file.clone(),
                uses: uses.get(name).cloned().unwrap_or_default(),
                engine: engine.clone(),
                surroundings: Surroundings {
                    host: host.clone(),
                    threads,
                    filler: Filler::start().map_err(EngineError::from)?,
                    share: shared.policy(number),
                    ticker: Arc::clone(&ticker),
                },
                metrics: metrics.policy(name),
            };
            Ok(Loaded::new(loader)?)
        })
        .collect::<Result<Vec<_>, PolicyBuildError>>()?;
    let (reloader, reload) = PolicyReloader::new(loaded.iter().cloned().zip(watches), host);
    let policies = Policies { loaded: Arc::new(loaded), epoch_waker };
    Ok((policies, reload, reloader))
}

/// Describes the component in `file`, usable or not.
///
/// # Errors
/// When the file cannot be read or is no component.
pub fn inspect(host: &HostConfig, file: &Path) -> Result<Inspection, InspectError> {
    let engine = engine::build(host, 1)?;
    let bytes = std::fs::read(file)
        .map_err(|source| InspectError::Unreadable { file: file.to_owned(), source })?;
    component::inspect(&engine, &bytes)
        .map_err(|cause| InspectError::NoComponent { file: file.to_owned(), cause })
}

/// A file cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The engine cannot be built.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The file cannot be read.
    #[error("{}: cannot read the file: {source}; check the path and the permissions", .file.display())]
    Unreadable {
        /// The file.
        file: std::path::PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file holds no component.
    #[error("{}: {cause}", .file.display())]
    NoComponent {
        /// The file.
        file: std::path::PathBuf,
        /// What it is instead.
        cause: PrepareError,
    },
}

// === impl Policies ===

impl Policies {
    /// The handle of a policy for a route; `None` if there is no such policy, or it was not loaded for
    /// this route.
    pub fn handle(&self, policy: &str, route: &str) -> Option<PolicyHandle> {
        let loaded = self.loaded.iter().find(|loaded| &*loaded.slot.name == policy)?;
        let index = loaded.loader.uses.iter().position(|used| used.route == route)?;
        Some(PolicyHandle::new(Arc::clone(&loaded.slot), index))
    }

    /// What keeps the runtime awake while policies run; to be run on it.
    pub fn epoch_waker(&self) -> EpochWaker {
        self.epoch_waker.clone()
    }

    /// The state of every policy.
    pub fn status(&self) -> Vec<PolicyStatus> {
        self.loaded.iter().map(|loaded| loaded.status()).collect()
    }
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.loaded.iter().map(|loaded| &loaded.slot.name)).finish()
    }
}
