//! Construction of the verifier, and of the task that keeps its keys current, from the configuration.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::Notify;

use super::{
    build_error::{LARGEST_TOKEN_BYTES, SMALLEST_TOKEN_BYTES, TokenBuildError},
    config::{FetchConfig, IssuerConfig, TokensConfig},
    issuer::Issuer,
    key_config::KeyConfig,
    key_fault::LoadKeysError,
    key_file::{KeyFile, KeyFormat},
    key_source::KeySource,
    possession::Possession,
    reload::{IssuerKeys, KeyReloader},
    remote::{self, Remote, RemoteSetupError, RemoteTask},
    verifier::{IssuerParts, Verifier},
};

/// Reads every source of keys, and makes the verifier and the task that follows their changes.
/// `skew` is how far `iat` may be ahead, if that is more than the issuer's leeway. Nothing is fetched.
///
/// # Errors
/// When a setting makes no sense or a source of keys cannot be used.
pub fn build(
    issuers_by_name: &BTreeMap<String, IssuerConfig>,
    tokens: &TokensConfig,
    skew: Duration,
) -> Result<(Verifier, KeyReloader), TokenBuildError> {
    check(issuers_by_name, tokens)?;
    let fetch = tokens.fetch.clone().unwrap_or_default();
    let mut issuers = Vec::new();
    let mut issuer_keys = Vec::new();
    let mut tasks = Vec::new();
    for (name, config) in issuers_by_name {
        let rules = Issuer::new(name, config)?;
        let changed = Arc::new(Notify::new());
        let Sources { all, requests, tasks: of_issuer } = sources(name, config, &fetch, &changed)?;
        let keys = IssuerKeys::load(name, all, requests.clone(), changed)
            .map_err(|source| TokenBuildError::Keys { issuer: name.clone(), source })?;
        issuers.push(IssuerParts { rules, key_set: Arc::clone(keys.key_set()), requests });
        issuer_keys.push(keys);
        tasks.extend(of_issuer);
    }
    let verifier = Verifier::new(issuers, tokens.cache_capacity, tokens.max_bytes, skew);
    let interval = tokens.key_reload_interval.get();
    let reloader = KeyReloader::new(verifier.clone(), issuer_keys, tasks, interval);
    Ok((verifier, reloader))
}

/// Makes what checks that requests come from the clients that their tokens are bound to.
///
/// # Errors
/// When a setting makes no sense or has no effect, or the secret of nonces cannot be read.
pub fn possession(
    issuers: &BTreeMap<String, IssuerConfig>,
    tokens: &TokensConfig,
) -> Result<Possession, TokenBuildError> {
    let rules = issuers.iter().map(|(name, issuer)| (name.clone(), issuer.binding())).collect();
    let xfcc = tokens.x_forwarded_client_cert.as_ref();
    Ok(Possession::new(rules, tokens.dpop.as_ref(), xfcc)?)
}

/// Fetches the keys of all issuers once. For each key set: where it is, and how many keys it has.
///
/// # Errors
/// As [`build()`]. What cannot be fetched is among the results.
pub async fn fetch_once(
    issuers: &BTreeMap<String, IssuerConfig>,
    tokens: &TokensConfig,
) -> Result<Vec<(String, Result<usize, LoadKeysError>)>, TokenBuildError> {
    let fetch = tokens.fetch.clone().unwrap_or_default();
    let mut all = Vec::new();
    for (name, config) in issuers {
        let sources = sources(name, config, &fetch, &Arc::default())?;
        for task in sources.tasks {
            all.push(task.try_fetch().await);
        }
    }
    Ok(all)
}

/// Checks the settings that are not about one issuer alone.
fn check(
    issuers: &BTreeMap<String, IssuerConfig>,
    tokens: &TokensConfig,
) -> Result<(), TokenBuildError> {
    if tokens.key_reload_interval.get() == Duration::ZERO {
        return Err(TokenBuildError::NoReloadInterval);
    }
    if !(SMALLEST_TOKEN_BYTES..=LARGEST_TOKEN_BYTES).contains(&tokens.max_bytes) {
        return Err(TokenBuildError::MaxBytes);
    }
    let Some(fetch) = &tokens.fetch else { return Ok(()) };
    if !issuers.values().flat_map(|issuer| &issuer.keys).any(KeyConfig::is_remote) {
        return Err(TokenBuildError::NothingToFetch);
    }
    let longest = fetch.longest_refresh.get();
    let max_stale = fetch.max_stale.get();
    if fetch.shortest_refresh.get() > longest || longest.max(fetch.timeout.get()) > max_stale {
        return Err(TokenBuildError::RefreshOrder);
    }
    if fetch.cache_dir.as_ref().is_some_and(|dir| !dir.is_dir()) {
        return Err(TokenBuildError::CacheDir);
    }
    Ok(())
}

/// The sources of an issuer's keys. For those that are fetched, there are tasks that fetch, and handles
/// that ask them to.
#[derive(Default)]
struct Sources {
    all: Vec<Box<dyn KeySource>>,
    requests: Vec<remote::KeyRequests>,
    tasks: Vec<RemoteTask>,
}

/// The sources of keys that the configuration lists. Each kind of source is registered here.
fn sources(
    name: &str,
    config: &IssuerConfig,
    fetch: &FetchConfig,
    changed: &Arc<Notify>,
) -> Result<Sources, TokenBuildError> {
    let mut found = Sources::default();
    for key in &config.keys {
        let of_file = |path, format| Box::new(KeyFile::new(path, format));
        match key {
            KeyConfig::Secret(key) => {
                found.all.push(of_file(&key.secret_file, KeyFormat::Secret(key.clone())));
            }
            KeyConfig::Pem(key) => {
                found.all.push(of_file(&key.pem_file, KeyFormat::Pem(key.clone())));
            }
            KeyConfig::Jwks(keys) => found.all.push(of_file(&keys.jwks_file, KeyFormat::Jwks)),
            KeyConfig::Url(keys) => {
                found.add(name, remote::at_url(name, keys, fetch, Arc::clone(changed)))?;
            }
            KeyConfig::Discovered(keys) => {
                let Some(url) = config.issuer.clone() else {
                    return Err(TokenBuildError::Setting {
                        issuer: name.to_owned(),
                        setting: "keys",
                        problem: "have `discovery`, which needs the issuer's URL as `issuer`",
                    });
                };
                let changed = Arc::clone(changed);
                found.add(name, remote::discovered(name, keys, url, fetch, changed))?;
            }
        }
    }
    Ok(found)
}

// === impl Sources ===

impl Sources {
    fn add(
        &mut self,
        issuer: &str,
        remote: Result<Remote, RemoteSetupError>,
    ) -> Result<(), TokenBuildError> {
        let remote = remote
            .map_err(|source| TokenBuildError::Remote { issuer: issuer.to_owned(), source })?;
        self.all.push(Box::new(remote.source));
        self.requests.push(remote.requests);
        self.tasks.push(remote.task);
        Ok(())
    }
}

/// What the configuration leaves open although it can be used: settings with a risk that should have
/// been taken on purpose.
#[must_use]
pub fn warnings(issuers: &BTreeMap<String, IssuerConfig>) -> Vec<String> {
    let is_open =
        |issuer: &IssuerConfig| issuer.audiences.is_empty() && issuer.authorized_parties.is_empty();
    let open = issuers.iter().filter(|(_, issuer)| is_open(issuer));
    open.map(|(name, _)| {
        format!(
            "issuers.{name}.audiences: is empty, so every token that this issuer signs is accepted, \
             whichever service it is meant for, ID tokens included; name the audience of this one, or \
             its clients in authorized_parties"
        )
    })
    .collect()
}
