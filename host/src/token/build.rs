//! Construction of the verifier, and of the task that keeps its keys current, from the configuration.

use std::{sync::Arc, time::Duration};

use super::{
    config::Config,
    issuer::Issuer,
    key_fault::LoadKeysError,
    reload::{IssuerKeys, KeyReloader},
    verifier::Verifier,
};

/// What `tokens.max_bytes` may be at the least: a token with the fewest claims and the shortest
/// signature is hardly smaller.
const SMALLEST_TOKEN_BYTES: usize = 256;

/// What `tokens.max_bytes` may be at the most: Envoy limits all headers together to 60 KiB unless it
/// is told otherwise.
const LARGEST_TOKEN_BYTES: usize = 64 * 1024;

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
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
    /// A key file of an issuer cannot be used.
    #[error("issuers.{issuer}.keys: {source}")]
    Keys {
        /// The issuer's name in the configuration.
        issuer: String,
        /// What is wrong with the file.
        source: LoadKeysError,
    },
    /// The key files cannot be looked at without a pause.
    #[error("tokens.key_reload_interval: must be longer than zero, such as 1s")]
    NoReloadInterval,
    /// No token would be looked at, or one that no proxy passes on.
    #[error(
        "tokens.max_bytes: must be {SMALLEST_TOKEN_BYTES} to {LARGEST_TOKEN_BYTES}, such as 16384"
    )]
    MaxBytes,
}

/// Reads every key file, and makes the verifier and the task that follows changes of the files.
///
/// # Errors
/// When a setting makes no sense or a key file cannot be used.
pub fn build(config: &Config) -> Result<(Verifier, KeyReloader), BuildError> {
    let interval = config.reload_interval.get();
    if interval == Duration::ZERO {
        return Err(BuildError::NoReloadInterval);
    }
    if !(SMALLEST_TOKEN_BYTES..=LARGEST_TOKEN_BYTES).contains(&config.max_bytes) {
        return Err(BuildError::MaxBytes);
    }
    let mut issuers = Vec::new();
    let mut sources = Vec::new();
    let mut key_sets = Vec::new();
    for (name, issuer) in &config.issuers {
        issuers.push(Issuer::new(name, issuer)?);
        let keys = IssuerKeys::load(name, &issuer.keys)
            .map_err(|source| BuildError::Keys { issuer: name.clone(), source })?;
        key_sets.push(Arc::clone(keys.key_set()));
        sources.push(keys);
    }
    let verifier = Verifier::new(
        issuers,
        key_sets,
        config.cache_capacity,
        config.max_bytes,
        config.skew.get(),
    );
    let reloader = KeyReloader::new(verifier.clone(), sources, interval);
    Ok((verifier, reloader))
}

/// What the configuration leaves open although it can be used: settings with a risk that should have
/// been taken on purpose.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let open = config.issuers.iter().filter(|(_, issuer)| issuer.audiences.is_empty());
    open.map(|(name, _)| {
        format!(
            "issuers.{name}.audiences: is empty, so every token that this issuer signs is accepted, \
             whichever service it is meant for, ID tokens included; name the audience of this one"
        )
    })
    .collect()
}
