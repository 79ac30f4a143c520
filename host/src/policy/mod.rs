//! Owns policies: loading components, keeping instances warm, asking them, replacing them.
//!
//! The only module that knows wasmtime. It knows neither routes nor tokens: it is given names,
//! settings and inputs, and gives back verdicts that it does not trust.

mod beat;
mod bindings;
mod budget;
mod component;
mod config;
mod configured;
mod convert;
mod engine;
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

pub use beat::Beat;
pub use budget::Budget;
pub use component::{Inspection, PrepareError};
pub use config::{HostConfig, PolicyConfig};
pub use configured::{ConfigureError, EvaluateError};
pub use engine::{EngineError, EpochTicker, TICK};
pub use input::{Identity, Input};
pub use instance::CallError;
pub use linker::{INERT_PACKAGES, LinkError};
pub use loader::{LoadCause, LoadError, PolicyStatus, PolicyUse};
pub use manifest::{Manifest, ManifestError, Parts};
pub use reloader::{PolicyReloader, Reload, ReloadTimeout};
pub use slot::{Evaluation, PolicyHandle};

use configured::Surroundings;
use filler::Filler;
use loader::{Loaded, Loader};
use share::SharedByAll;

use crate::{file_watch::FileWatch, telemetry::Metrics};

/// Revisions of a policy that may be alive at once: the one that serves, the one being loaded, and
/// one that slow calls still hold.
const REVISIONS: usize = 3;

/// Every configured policy, loaded.
#[derive(Clone)]
pub struct Policies {
    loaded: Arc<Vec<Arc<Loaded>>>,
    beat: Beat,
}

/// The policies cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
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
) -> Result<(Policies, Reload, PolicyReloader), BuildError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let configured: usize = uses.values().map(Vec::len).sum();
    let instances = configured.max(1) * configured::capacity(host, threads) * REVISIONS;
    let engine = engine::build(host, u32::try_from(instances).unwrap_or(u32::MAX))?;
    let beat = Beat::default();
    let ticker = EpochTicker::start(&engine, beat.clone()).map_err(EngineError::from)?;
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
        .collect::<Result<Vec<_>, BuildError>>()?;
    let (reloader, reload) = PolicyReloader::new(loaded.iter().cloned().zip(watches), host);
    let policies = Policies { loaded: Arc::new(loaded), beat };
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
    /// The handle for the `index`-th use of the policy `name`; `None` if there is no such policy.
    pub fn handle(&self, name: &str, index: usize) -> Option<PolicyHandle> {
        let loaded = self.loaded.iter().find(|loaded| &*loaded.slot.name == name)?;
        Some(PolicyHandle::new(Arc::clone(&loaded.slot), index))
    }

    /// What keeps the runtime awake while policies run; to be run on it.
    pub fn beat(&self) -> Beat {
        self.beat.clone()
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
