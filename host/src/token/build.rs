//! Owns turning the configuration into a verifier and the task that keeps its keys current.

use std::{sync::Arc, time::Duration};

use super::{
    config::Config,
    issuer::Issuer,
    key::DuplicateKidError,
    key_fault::LoadKeysError,
    reload::{IssuerKeys, KeyReloader},
    verifier::Verifier,
};

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
    /// Two keys of an issuer have the same id.
    #[error("issuers.{issuer}.keys: {source}")]
    DuplicateKid {
        /// The issuer's name in the configuration.
        issuer: String,
        /// Which id.
        source: DuplicateKidError,
    },
    /// The key files cannot be looked at without a pause.
    #[error("tokens.key_reload_interval: must be longer than zero, such as 1s")]
    NoReloadInterval,
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
    let mut issuers = Vec::new();
    let mut sources = Vec::new();
    let mut key_sets = Vec::new();
    for (name, issuer) in &config.issuers {
        issuers.push(Issuer::new(name, issuer)?);
        let keys = IssuerKeys::load(name, &issuer.keys)
            .map_err(|source| BuildError::Keys { issuer: name.clone(), source })?;
        let set = keys
            .key_set()
            .map_err(|source| BuildError::DuplicateKid { issuer: name.clone(), source })?;
        key_sets.push(Arc::new(set));
        sources.push(keys);
    }
    let verifier = Verifier::new(issuers, key_sets, config.cache_capacity);
    let reloader = KeyReloader::new(verifier.clone(), sources, interval);
    Ok((verifier, reloader))
}
