//! Location of a key set: a URL, or an issuer whose metadata name the URL.

use std::fmt;

use super::metadata::{self, MetadataFault};
use crate::fetch::{Document, FetchError, FetchUrl, FetchUrlError, Fetcher};

/// Where an issuer publishes its keys.
#[derive(Debug, Clone)]
pub(super) enum Location {
    /// At this URL.
    KeySet(FetchUrl),
    /// At the URL that its metadata name.
    Metadata {
        /// What the metadata must say of themselves, and where they are.
        issuer: String,
        /// Whether URLs without encryption are permitted.
        allow_http: bool,
    },
}

/// A key set could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RemoteFault {
    /// The document of keys.
    #[error("{0}")]
    KeySet(FetchError),
    /// The document of metadata.
    #[error("the metadata at {url}: {fault}")]
    Metadata {
        /// Where they were looked for last.
        url: String,
        /// What is wrong.
        fault: MetadataFault,
    },
    /// The configured issuer is no URL.
    #[error("`issuer` {0}")]
    Issuer(FetchUrlError),
}

// === impl Location ===

impl Location {
    /// What tells it from every other location.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::KeySet(url) => url.expose(),
            Self::Metadata { issuer, .. } => issuer,
        }
    }

    /// Fetches the key set.
    pub(super) async fn fetch(&self, fetcher: &Fetcher) -> Result<Document, RemoteFault> {
        let key_set = match self {
            Self::KeySet(url) => url.clone(),
            Self::Metadata { issuer, allow_http } => discover(issuer, *allow_http, fetcher).await?,
        };
        fetcher.get(&key_set).await.map_err(RemoteFault::KeySet)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeySet(url) => url.fmt(f),
            Self::Metadata { issuer, .. } => f.write_str(issuer),
        }
    }
}

/// The URL of the key set, from the first metadata document that the issuer has.
async fn discover(
    issuer: &str,
    allow_http: bool,
    fetcher: &Fetcher,
) -> Result<FetchUrl, RemoteFault> {
    let [openid, oauth] = metadata::urls(issuer, allow_http).map_err(RemoteFault::Issuer)?;
    let wrong = |url: &FetchUrl, fault| RemoteFault::Metadata { url: url.to_string(), fault };
    let (url, answer) = match fetcher.get(&openid).await {
        Err(FetchError::Status(400..=499)) => {
            let answer = fetcher.get(&oauth).await;
            (oauth, answer)
        }
        answer => (openid, answer),
    };
    let document = answer.map_err(|fault| wrong(&url, fault.into()))?;
    metadata::jwks_uri(&document.body, issuer, allow_http).map_err(|fault| wrong(&url, fault))
}
