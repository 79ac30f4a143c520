//! Cache of a key set on disk, so that a restart can serve while the issuer is down.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_runtime::boot_clock::BootInstant;
use portcullis_types::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{jwks, key::Key};

/// The file of one key set.
#[derive(Debug, Clone)]
pub(super) struct CacheFile {
    path: PathBuf,
    origin: String,
}

/// A key set that was read from the cache.
pub(super) struct CachedKeys {
    pub(super) keys: Vec<Arc<Key>>,
    /// When it was fetched.
    pub(super) fetched_at: BootInstant,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Where the keys are from: another location has other keys.
    origin: String,
    /// Seconds since the epoch.
    fetched_at: i64,
    /// The document as it was fetched.
    document: String,
}

// === impl CacheFile ===

impl CacheFile {
    /// The file for this issuer and location.
    pub(super) fn new(dir: &Path, issuer: &str, origin: &str) -> Self {
        // Names of issuers are any text.
        let name = digest(&SHA256, format!("{issuer}\n{origin}").as_bytes());
        let name = URL_SAFE_NO_PAD.encode(name);
        Self { path: dir.join(format!("keys-{name}.json")), origin: origin.to_owned() }
    }

    /// The keys in it, if they are from the same location and not older than `max_age`.
    pub(super) fn read(&self, max_age: Duration) -> Option<CachedKeys> {
        let bytes = std::fs::read(&self.path).ok()?;
        let content: Content = serde_json::from_slice(&bytes).ok()?;
        let age = Timestamp::now().as_secs().checked_sub(content.fetched_at)?;
        // A time ahead of the clock says nothing about the age.
        let age = Duration::from_secs(u64::try_from(age).ok()?);
        if content.origin != self.origin || age > max_age {
            return None;
        }
        let keys = jwks::keys(&self.origin, content.document.as_bytes()).ok()?;
        let uptime = BootInstant::now().since(BootInstant::START);
        let fetched_at = BootInstant::START.plus(uptime.saturating_sub(age));
        tracing::info!(origin = %self.origin, age_s = age.as_secs(), "cached keys are in use");
        Some(CachedKeys { keys, fetched_at })
    }

    /// Replaces its content as a whole. A failure costs the next start, so it is only logged.
    pub(super) fn write(&self, document: &[u8]) {
        let Ok(document) = std::str::from_utf8(document) else { return };
        let content = Content {
            origin: self.origin.clone(),
            fetched_at: Timestamp::now().as_secs(),
            document: document.to_owned(),
        };
        if let Err(error) = self.replace(&content) {
            tracing::warn!(%error, "cannot write to `tokens.fetch.cache_dir`; check the permissions");
        }
    }

    fn replace(&self, content: &Content) -> std::io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = std::fs::File::create(&new)?;
        serde_json::to_writer(&mut file, content)?;
        file.flush()?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}
