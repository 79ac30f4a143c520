//! Owns the configuration file: reading it, laying the environment over it, and saying what is wrong
//! with it. What a section means belongs to the module that it configures.

mod env;
mod reference;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use env::Env;
pub use reference::reference;

use crate::{
    admin,
    authorizer::{CorsConfig, DenialConfig, HostsConfig, PathConfig, RouteConfig},
    blacklist,
    duration::{HumanDuration, longer_than_zero},
    grpc, http,
    policy::{HostConfig, PolicyConfig},
    telemetry,
    token::{self, IssuerConfig},
};

/// The configuration of Portcullis.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The gRPC edge, which Envoy's `ext_authz` filter and Istio's `envoyExtAuthzGrpc` speak to.
    pub grpc: grpc::Config,
    /// The HTTP edge, for `envoyExtAuthzHttp`, nginx, Traefik, Caddy and curl.
    pub http: http::Config,
    /// Health, metrics, and the authenticated API for revocations and policies.
    pub admin: admin::Config,
    /// Who issues tokens, by a name of your choice.
    pub issuers: BTreeMap<String, IssuerConfig>,
    /// How tokens are verified.
    pub tokens: TokensConfig,
    /// The blacklist of revoked tokens.
    pub blacklist: blacklist::Config,
    /// Policies by a name of your choice.
    pub policies: BTreeMap<String, PolicyConfig>,
    /// Limits for all policies.
    pub policy_host: HostConfig,
    /// Which requests need what. The first route that matches decides; none denies.
    pub routes: Vec<RouteConfig>,
    /// How the hosts of requests are read.
    pub hosts: HostsConfig,
    /// How paths are read.
    pub paths: PathConfig,
    /// Cross-origin requests.
    pub cors: CorsConfig,
    /// What denials say.
    pub denials: DenialConfig,
    /// Log lines.
    pub log: telemetry::log::Config,
    /// How the process ends.
    pub shutdown: ShutdownConfig,
}

/// How tokens are verified, whoever issued them.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokensConfig {
    /// How many verified tokens are remembered, so that a token that comes again costs no signature
    /// check. Expiry and revocation are checked each time all the same. At most 1,200 bytes each are
    /// taken: a larger token counts as several, and 100,000 take 120 MB at the most. Tokens that have
    /// expired leave. 0 remembers none.
    pub cache_capacity: usize,
    /// The largest token that is looked at, in bytes; 65,536 at the most. Tokens with hundreds of
    /// groups need more than the default. Envoy's `max_request_headers_kb` limits all headers
    /// together, and `grpc.max_message_bytes` the whole request.
    pub max_bytes: usize,
    /// How often key files are looked at for changes, and those that could not be read or used are
    /// tried again.
    #[serde(deserialize_with = "longer_than_zero")]
    pub key_reload_interval: HumanDuration,
}

/// How the process ends after SIGTERM.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// How long to go on serving while reporting "not ready", so that load balancers notice.
    pub grace: HumanDuration,
    /// How long requests that have begun may take after that.
    pub timeout: HumanDuration,
}

impl Default for TokensConfig {
    fn default() -> Self {
        Self {
            cache_capacity: 100_000,
            max_bytes: 16 * 1024,
            key_reload_interval: HumanDuration::from_millis(1_000),
        }
    }
}

impl Config {
    /// What the token subsystem is built from.
    #[must_use]
    pub fn token(&self) -> token::Config {
        token::Config {
            issuers: self.issuers.clone(),
            cache_capacity: self.tokens.cache_capacity,
            max_bytes: self.tokens.max_bytes,
            reload_interval: self.tokens.key_reload_interval,
        }
    }

    /// A token may still be accepted this long after it expired, so its revocation must last as
    /// long.
    #[must_use]
    pub fn longest_leeway(&self) -> Duration {
        self.issuers.values().map(|issuer| issuer.leeway.get()).max().unwrap_or_default()
    }
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self {
            grace: HumanDuration::from_millis(5_000),
            timeout: HumanDuration::from_millis(10_000),
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {source}; check the path and the permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{}: not valid YAML: {message}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key is unknown, missing or has a wrong value.
    #[error("{place}: `{key}`: {message}")]
    Key {
        /// The file, or the environment variable that set the key.
        place: String,
        /// The key, such as `routes[2].match.paths`.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// An environment variable does not name a key.
    #[error("environment variable {variable}: {message}")]
    Variable {
        /// Its name.
        variable: String,
        /// What is wrong.
        message: String,
    },
}

/// Reads the file at `path` and lays `env` over it.
///
/// # Errors
/// When the file is unreadable, not YAML, or has a key that is unknown or wrong.
pub fn read(path: &Path, env: &Env) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(&text, path, env)
}

/// Like [`read`], with the content of the file given; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, path: &Path, env: &Env) -> Result<Config, ConfigError> {
    let syntax = |message| ConfigError::Syntax { path: path.to_owned(), message };
    let mut document = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_saphyr::from_str(text).map_err(|error| syntax(error.to_string()))?
    };
    if document.is_null() {
        document = Value::Object(Map::new());
    }
    if let Some(variable) = env.unreadable() {
        let message = "its value is not UTF-8; write it anew, or unset it".to_owned();
        return Err(ConfigError::Variable { variable: variable.to_owned(), message });
    }
    let mut variables = BTreeMap::new();
    for (variable, value) in env.sorted() {
        let keys = overlay(&mut document, variable, value)?;
        variables.insert(keys, variable);
    }
    let error = |key: String, message| {
        // A variable may name a key whose parent is already unknown.
        let related = |keys: &str| key.starts_with(keys) || keys.starts_with(&key);
        let variable = variables.iter().find(|(keys, _)| related(keys));
        let place = match variable {
            Some((_, variable)) => format!("environment variable {variable}"),
            None => path.display().to_string(),
        };
        ConfigError::Key { place, key, message }
    };
    let written = document.clone();
    let config: Config = serde_path_to_error::deserialize(document)
        .map_err(|cause| error(cause.path().to_string(), cause.into_inner().to_string()))?;
    let ignored = config.blacklist.check_written(&written["blacklist"]);
    ignored.map_err(|cause| error(cause.key().to_owned(), cause.message().to_owned()))?;
    let ignored = config.cors.check_written(&written["cors"]);
    ignored.map_err(|cause| error(cause.key, cause.message.to_owned()))?;
    let ignored = config.http.check_written(&written["http"]);
    ignored.map_err(|cause| error(cause.key, cause.message.to_owned()))?;
    Ok(config)
}

/// Sets one key from a variable and returns the key.
fn overlay(document: &mut Value, variable: &str, text: &str) -> Result<String, ConfigError> {
    let error = |message: String| ConfigError::Variable { variable: variable.to_owned(), message };
    let name = variable.strip_prefix(env::PREFIX).unwrap_or(variable).to_lowercase();
    let keys: Vec<&str> = name.split("__").collect();
    let value = serde_saphyr::from_str(text)
        .map_err(|cause| error(format!("not a YAML value: {cause}")))?;
    let mut place = document;
    for key in &keys {
        place = match place {
            Value::Null => {
                *place = Value::Object(Map::new());
                entry(place, key)
            }
            Value::Object(_) => entry(place, key),
            Value::Array(items) => key.parse().ok().and_then(|index: usize| items.get_mut(index)),
            _ => None,
        }
        .ok_or_else(|| error(format!("there is no key `{}`", keys.join("."))))?;
    }
    *place = value;
    Ok(keys.join("."))
}

fn entry<'a>(place: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    Some(place.as_object_mut()?.entry(key.to_owned()).or_insert(Value::Null))
}

/// The JSON Schema of the configuration, for editors.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        super::parse(text, Path::new("portcullis.yaml"), &Env::new(env.iter().copied()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_is_the_default_configuration() {
        for text in ["", "# nothing\n", "{}"] {
            assert!(parse(text, &[]).unwrap().routes.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_the_known_ones() {
        let error = parse("routes:\n- name: a\n  token: required\n  polcy: x\n", &[]).unwrap_err();
        assert!(error.contains("portcullis.yaml: `routes[0].polcy`"), "{error}");
        assert!(error.contains("policy"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_refused_with_the_fix() {
        let error = parse("shutdown: {grace: 5}", &[]).unwrap_err();
        assert!(error.contains("shutdown.grace"), "{error}");
        let error = parse("shutdown: {grace: 5x}", &[]).unwrap_err();
        assert!(error.contains("such as 250ms"), "{error}");
    }

    #[test]
    fn a_duration_of_zero_is_refused_where_it_would_lame_or_end_the_process() {
        for (section, key) in [
            ("grpc", "read_timeout"),
            ("grpc", "keepalive_interval"),
            ("grpc", "keepalive_timeout"),
            ("http", "timeout"),
            ("http", "idle_timeout"),
            ("tokens", "key_reload_interval"),
            ("policy_host", "reload_interval"),
            ("policy_host", "configure_deadline"),
            ("blacklist", "sweep_interval"),
        ] {
            let error = parse(&format!("{section}: {{{key}: 0s}}"), &[]).unwrap_err();
            assert!(error.contains(&format!("`{section}.{key}`: must be longer")), "{error}");
        }
        let zero = "shutdown: {grace: 0s, timeout: 0s}\nblacklist: {skew: 0s, max_staleness: 0s}";
        parse(zero, &[]).unwrap();
    }

    #[test]
    fn broken_yaml_is_refused_with_the_line() {
        let error = parse("grpc:\n  listen: [", &[]).unwrap_err();
        assert!(error.contains("portcullis.yaml: not valid YAML"), "{error}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "shutdown: {grace: 1s}\nroutes: [{name: a, token: ignored, deadline: 5ms}]";
        let env =
            [("PORTCULLIS__SHUTDOWN__GRACE", "2s"), ("PORTCULLIS__ROUTES__0__DEADLINE", "7ms")];
        let config = parse(text, &env).unwrap();
        assert_eq!(config.shutdown.grace.to_string(), "2s");
        assert_eq!(config.routes[0].deadline.to_string(), "7ms");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = parse("", &[("PORTCULLIS__SHUTDOWN__GRACE", "soon")]).unwrap_err();
        assert!(error.contains("environment variable PORTCULLIS__SHUTDOWN__GRACE"), "{error}");
        let error = parse("", &[("PORTCULLIS__SHUTDWN__GRACE", "1s")]).unwrap_err();
        assert!(error.contains("PORTCULLIS__SHUTDWN__GRACE"), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_text_is_refused() {
        let wrong = std::ffi::OsString::from_vec(b"b\xffd".to_vec());
        for (name, value) in [
            ("PORTCULLIS__LOG__FILTER".into(), wrong.clone()),
            (std::ffi::OsString::from_vec(b"PORTCULLIS__\xff".to_vec()), "a".into()),
        ] {
            let env = Env::from_os([(name, value)]);
            let error = super::parse("", Path::new("portcullis.yaml"), &env).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("environment variable PORTCULLIS__"), "{error}");
            assert!(error.contains("UTF-8"), "{error}");
        }
        let others = Env::from_os([("OTHER".into(), wrong)]);
        assert!(super::parse("", Path::new("portcullis.yaml"), &others).is_ok());
    }

    #[test]
    fn a_key_that_would_be_ignored_is_refused_with_its_place() {
        let error = parse("blacklist: {while_stale: serve}", &[]).unwrap_err();
        assert!(error.starts_with("portcullis.yaml: `blacklist.while_stale`: "), "{error}");
        let variable = "PORTCULLIS__BLACKLIST__WHILE_STALE";
        let error = parse("", &[(variable, "serve")]).unwrap_err();
        assert!(error.starts_with(&format!("environment variable {variable}: ")), "{error}");
        for body in ["token_revokd: a", "policy_denied: a", "allowed: a"] {
            let error = parse(&format!("denials: {{bodies: {{{body}}}}}"), &[]).unwrap_err();
            assert!(error.contains("`denials.bodies`: "), "{error}");
            assert!(error.contains("token_revoked"), "{error}");
        }
        parse("denials: {bodies: {token_revoked: no more}}", &[]).unwrap();
    }

    #[test]
    fn variables_that_kubernetes_makes_up_are_not_ours() {
        let env =
            [("PORTCULLIS_PORT", "tcp://10.0.0.1:9191"), ("PORTCULLIS_SERVICE_HOST", "10.0.0.1")];
        assert!(parse("", &env).is_ok());
    }
}
