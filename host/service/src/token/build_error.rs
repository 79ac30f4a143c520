//! Errors of building the verifier: settings and sources of keys that cannot be used.

use super::{key_fault::LoadKeysError, possession::PossessionError, remote::RemoteSetupError};

/// What `tokens.max_bytes` must be at least: a token with the fewest claims and the shortest
/// signature is hardly smaller.
pub(super) const SMALLEST_TOKEN_BYTES: usize = 256;

/// What `tokens.max_bytes` may be at most: Envoy limits all headers together to 60 KiB by
/// default.
pub(super) const LARGEST_TOKEN_BYTES: usize = 64 * 1024;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenBuildError {
    /// A setting of an issuer makes no sense.
    #[error("issuers.{issuer}.{setting}: {problem}")]
    Setting {
        /// The issuer's name in the configuration.
        issuer: String,
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A source of an issuer's keys cannot be used.
    #[error("issuers.{issuer}.keys: {source}")]
    Keys {
        /// The issuer's name in the configuration.
        issuer: String,
        /// What is wrong with the source.
        source: LoadKeysError,
    },
    /// The sources of keys cannot be checked without a pause.
    #[error("tokens.key_reload_interval: must be longer than zero, such as 1s")]
    NoReloadInterval,
    /// Keys cannot be fetched.
    #[error("issuers.{issuer}.{source}")]
    Remote {
        /// The issuer's name in the configuration.
        issuer: String,
        /// What is wrong.
        source: RemoteSetupError,
    },
    /// The folder of fetched keys is missing.
    #[error("tokens.fetch.cache_dir: is not a folder; create it, or leave it out")]
    CacheDir,
    /// Settings of fetching, and no keys are fetched.
    #[error(
        "tokens.fetch: has no effect, since no issuer has `jwks_url` or `discovery`; leave it out"
    )]
    NothingToFetch,
    /// Times that contradict each other.
    #[error(
        "tokens.fetch: must have shortest_refresh <= longest_refresh <= max_stale, and timeout <= \
         max_stale; change one of them"
    )]
    RefreshOrder,
    /// What tokens are bound to cannot be checked.
    #[error(transparent)]
    Possession(#[from] PossessionError),
    /// Every token would be too large, or one could be larger than proxies pass on.
    #[error(
        "tokens.max_bytes: must be {SMALLEST_TOKEN_BYTES} to {LARGEST_TOKEN_BYTES}, such as 16384"
    )]
    MaxBytes,
}
