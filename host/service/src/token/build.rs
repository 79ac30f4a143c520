//! Construction of the verifier, and of the task that keeps its keys current, from the configuration.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    build_error::{LARGEST_TOKEN_BYTES, SMALLEST_TOKEN_BYTES, TokenBuildError},
    config::{IssuerConfig, KeyConfig, TokensConfig},
    issuer::Issuer,
    key_file::{KeyFile, KeyFormat},
    key_source::KeySource,
    reload::{IssuerKeys, KeyReloader},
    verifier::Verifier,
};

/// Reads every source of keys, and makes the verifier and the task that follows their changes.
/// `skew` is how far `iat` may be ahead, if that is more than the issuer's leeway.
///
/// # Errors
/// When a setting makes no sense or a source of keys cannot be used.
pub fn build(
    issuers_by_name: &BTreeMap<String, IssuerConfig>,
    tokens: &TokensConfig,
    skew: Duration,
) -> Result<(Verifier, KeyReloader), TokenBuildError> {
    let interval = tokens.key_reload_interval.get();
    if interval == Duration::ZERO {
        return Err(TokenBuildError::NoReloadInterval);
    }
    if !(SMALLEST_TOKEN_BYTES..=LARGEST_TOKEN_BYTES).contains(&tokens.max_bytes) {
        return Err(TokenBuildError::MaxBytes);
    }
    let mut issuers = Vec::new();
    let mut issuer_keys = Vec::new();
    let mut key_sets = Vec::new();
    for (name, issuer) in issuers_by_name {
        issuers.push(Issuer::new(name, issuer)?);
        let keys = IssuerKeys::load(name, issuer.keys.iter().map(source))
            .map_err(|source| TokenBuildError::Keys { issuer: name.clone(), source })?;
        key_sets.push(Arc::clone(keys.key_set()));
        issuer_keys.push(keys);
    }
    let verifier = Verifier::new(issuers, key_sets, tokens.cache_capacity, tokens.max_bytes, skew);
    let reloader = KeyReloader::new(verifier.clone(), issuer_keys, interval);
    Ok((verifier, reloader))
}

/// The source of keys that `config` describes. Each kind of source is registered here.
fn source(config: &KeyConfig) -> Box<dyn KeySource> {
    let (path, format) = match config {
        KeyConfig::Secret(key) => (&key.secret_file, KeyFormat::Secret(key.clone())),
        KeyConfig::Pem(key) => (&key.pem_file, KeyFormat::Pem(key.clone())),
        KeyConfig::Jwks(keys) => (&keys.jwks_file, KeyFormat::Jwks),
    };
    Box::new(KeyFile::new(path, format))
}

/// What the configuration leaves open although it can be used: settings with a risk that should have
/// been taken on purpose.
#[must_use]
pub fn warnings(issuers: &BTreeMap<String, IssuerConfig>) -> Vec<String> {
    let open = issuers.iter().filter(|(_, issuer)| issuer.audiences.is_empty());
    open.map(|(name, _)| {
        format!(
            "issuers.{name}.audiences: is empty, so every token that this issuer signs is accepted, \
             whichever service it is meant for, ID tokens included; name the audience of this one"
        )
    })
    .collect()
}
