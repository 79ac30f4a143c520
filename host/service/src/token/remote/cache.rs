//! Cache of a key set on disk, so that a restart can serve while the issuer is down.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_types::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{jwks, key::Key};

/// The file of one key set.
#[derive(Debug, Clone)]
pub(super) struct CacheFile {
    path: PathBuf,
    /// What tells the location of the keys from others.
    location: String,
}

/// A key set that was read from the cache.
pub(super) struct CachedKeys {
    pub(super) keys: Vec<Arc<Key>>,
    /// How long ago it was fetched.
    pub(super) age: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Where the keys are from: another location has other keys.
    location: String,
    /// Seconds since the epoch.
    fetched_at: i64,
    /// The document as it was fetched.
    document: String,
}

// === impl CacheFile ===

impl CacheFile {
    /// The file for this issuer and location.
    pub(super) fn new(dir: &Path, issuer: &str, location: &str) -> Self {
        // Names of issuers are any text.
        let name = digest(&SHA256, format!("{issuer}\n{location}").as_bytes());
        let name = URL_SAFE_NO_PAD.encode(name);
        Self { path: dir.join(format!("keys-{name}.json")), location: location.to_owned() }
    }

    /// The keys in it, if they are from the same location and not older than `max_age`.
    pub(super) fn read(&self, max_age: Duration) -> Option<CachedKeys> {
        let bytes = std::fs::read(&self.path).ok()?;
        let content: Content = serde_json::from_slice(&bytes).ok()?;
        let age = Timestamp::now().as_secs().checked_sub(content.fetched_at)?;
        // A time ahead of the clock says nothing about the age.
        let age = Duration::from_secs(u64::try_from(age).ok()?);
        if content.location != self.location || age > max_age {
            return None;
        }
        let keys = jwks::keys("tokens.fetch.cache_dir", content.document.as_bytes()).ok()?;
        tracing::info!(count = keys.len(), age_s = age.as_secs(), "cached keys are in use");
        Some(CachedKeys { keys, age })
    }

    /// Replaces its content as a whole. If that fails, the old content goes: a key in it may have been
    /// withdrawn.
    pub(super) fn write(&self, document: &[u8]) {
        let content = Content {
            location: self.location.clone(),
            fetched_at: Timestamp::now().as_secs(),
            document: String::from_utf8_lossy(document).into_owned(),
        };
        if let Err(error) = self.replace(&content) {
            // There may be none.
            let _ = std::fs::remove_file(&self.path);
            tracing::warn!(%error, "cannot write to `tokens.fetch.cache_dir`; check the permissions");
        }
    }

    fn replace(&self, content: &Content) -> std::io::Result<()> {
        let new = self.path.with_extension(format!("{}.new", std::process::id()));
        let mut file = std::fs::File::create(&new)?;
        serde_json::to_writer(&mut file, content)?;
        file.flush()?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}
