//! Remote keys: key sets that issuers publish at a URL, fetched beside requests and kept while the
//! issuer does not answer.
//!
//! A task fetches and schedules (`task`), the source hands what it has fetched to the reload
//! (`source`), and requests with an unknown key ask for a fetch (`progress`).

mod cache;
mod location;
mod metadata;
mod progress;
mod source;
mod task;

use std::sync::Arc;

use portcullis_runtime::tls::TlsError;
use tokio::sync::Notify;

use self::{cache::CacheFile, location::Location, progress::Progress};
pub(super) use self::{progress::KeyRequests, source::RemoteSource, task::RemoteTask};
use super::{
    config::FetchConfig,
    key_config::{DiscoveredKeys, KeysUrl},
};
use crate::fetch::{FetchUrlError, Fetcher};

/// The parts of one remote source of keys.
pub(super) struct Remote {
    pub(super) source: RemoteSource,
    pub(super) task: RemoteTask,
    pub(super) requests: KeyRequests,
}

/// Keys cannot be fetched with these settings.
#[derive(Debug, thiserror::Error)]
pub enum RemoteSetupError {
    /// The certificates cannot be used.
    #[error("keys: `ca_file`: {0}")]
    Tls(#[from] TlsError),
    /// No metadata can be there.
    #[error("issuer: {0}")]
    Issuer(#[from] FetchUrlError),
}

/// Keys at a URL of the configuration.
pub(super) fn at_url(
    issuer: &str,
    config: &KeysUrl,
    fetch: &FetchConfig,
    changed: Arc<Notify>,
) -> Result<Remote, RemoteSetupError> {
    let fetcher = Fetcher::new(config.ca_file.as_deref(), fetch.timeout.get())?;
    Ok(build(issuer, Location::KeySet(config.jwks_url.clone()), fetcher, fetch, changed))
}

/// Keys at the URL that the metadata of the issuer name.
pub(super) fn discovered(
    issuer: &str,
    location: &DiscoveredKeys,
    url: String,
    fetch: &FetchConfig,
    changed: Arc<Notify>,
) -> Result<Remote, RemoteSetupError> {
    metadata::urls(&url, location.allow_http)?;
    let fetcher = Fetcher::new(location.ca_file.as_deref(), fetch.timeout.get())?;
    let location = Location::Metadata { issuer: url, allow_http: location.allow_http };
    Ok(build(issuer, location, fetcher, fetch, changed))
}

fn build(
    issuer: &str,
    location: Location,
    fetcher: Fetcher,
    config: &FetchConfig,
    changed: Arc<Notify>,
) -> Remote {
    let origin = location.to_string();
    let cache = config.cache_dir.as_deref().map(|dir| CacheFile::new(dir, issuer, location.id()));
    let cached = cache.as_ref().and_then(|cache| cache.read(config.max_stale.get()));
    let progress = Arc::new(Progress::new(changed));
    let task = RemoteTask::new(
        fetcher,
        location,
        config.clone(),
        cache,
        Arc::clone(&progress),
        cached.as_ref(),
    );
    let keys = cached.map(|cached| cached.keys).unwrap_or_default();
    let requests = KeyRequests::new(Arc::clone(&progress));
    Remote { source: RemoteSource::new(origin, keys, progress), task, requests }
}
