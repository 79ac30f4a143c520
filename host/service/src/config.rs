//! The configuration file: reading it, laying the environment over it, and reporting what is wrong
//! with it. What a section means belongs to the module that it configures.
//!
//! No message shows a value that was written: it may be a password.

mod env;
mod reference;
mod typed;
mod variable;
mod yaml;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

pub use env::Env;
use portcullis_revocation as revocation;
use portcullis_runtime::telemetry;
use portcullis_types::duration::HumanDuration;
pub use reference::reference;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
pub use typed::{TypedError, read as read_typed};
use variable::{Variable, find, take_as_text};
pub use yaml::{YamlError, read as read_yaml};

use crate::{
    admin,
    authorizer::{CorsConfig, DenialConfig, HostsConfig, PathConfig, RequestLimits, RouteConfig},
    grpc, http,
    policy::{HostConfig, PolicyConfig},
    receiver::ReceiverConfig,
    token::{IssuerConfig, TokensConfig},
};

/// The configuration of Portcullis.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The gRPC edge, which Envoy's `ext_authz` filter and Istio's `envoyExtAuthzGrpc` speak to.
    pub grpc: grpc::GrpcConfig,
    /// The HTTP edge, for `envoyExtAuthzHttp`, nginx, Traefik, Caddy and curl.
    pub http: http::HttpConfig,
    /// Health, metrics, and the authenticated API for revocations and policies.
    pub admin: admin::AdminConfig,
    /// Where issuers report logouts.
    pub receiver: Option<ReceiverConfig>,
    /// Who issues tokens, by a name of your choice.
    pub issuers: BTreeMap<String, IssuerConfig>,
    /// How tokens are verified.
    pub tokens: TokensConfig,
    /// The blacklist of revoked tokens.
    pub blacklist: revocation::Config,
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
    /// How large a request may be after an allow has changed it.
    pub request_limits: RequestLimits,
    /// Cross-origin requests.
    pub cors: CorsConfig,
    /// What denials say.
    pub denials: DenialConfig,
    /// Log lines.
    pub log: telemetry::log::Config,
    /// How the process ends.
    pub shutdown: ShutdownConfig,
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

impl Config {
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
        message: YamlError,
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

impl ConfigError {
    fn key(path: &Path, variable: Option<&Variable<'_>>, key: String, message: String) -> Self {
        let place = match variable {
            Some(variable) => format!("environment variable {}", variable.name),
            None => path.display().to_string(),
        };
        Self::Key { place, key, message }
    }
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
    let mut document = if text.trim().is_empty() {
        Value::Null
    } else {
        let syntax = |message| ConfigError::Syntax { path: path.to_owned(), message };
        read_yaml(text).map_err(syntax)?
    };
    if document.is_null() {
        document = Value::Object(Map::new());
    }
    if let Some(variable) = env.unreadable() {
        let message = "its value is not UTF-8; set another value, or unset it".to_owned();
        return Err(ConfigError::Variable { variable: variable.to_owned(), message });
    }
    let variables = env
        .sorted()
        .into_iter()
        .map(|(name, text)| Variable::new(name, text).overlay(&mut document))
        .collect::<Result<Vec<_>, _>>()?;
    let config: Config = loop {
        match read_typed(&document) {
            Ok(config) => break config,
            Err(error) if take_as_text(&mut document, &variables, &error) => {}
            Err(error) => {
                let variable = find(&variables, &error.keys());
                let malformed = variable.and_then(|variable| variable.malformed.as_ref());
                let message = match malformed.filter(|_| error.found_text()) {
                    Some(cause) => format!("{}; as YAML, {cause}", error.message()),
                    None => error.message(),
                };
                return Err(ConfigError::key(path, variable, error.key(), message));
            }
        }
    };
    let without_effect = |key: &str, message: &str| {
        let keys: Vec<_> = key.split('.').map(str::to_owned).collect();
        ConfigError::key(path, find(&variables, &keys), key.to_owned(), message.to_owned())
    };
    let written = |section: &str| &document[section];
    let ignored = config.blacklist.check_written(written("blacklist"));
    ignored.map_err(|cause| without_effect(cause.key(), cause.message()))?;
    let ignored = config.cors.check_written(written("cors"));
    ignored.map_err(|cause| without_effect(&cause.key, cause.message))?;
    let ignored = config.http.check_written(written("http"));
    ignored.map_err(|cause| without_effect(&cause.key, cause.message))?;
    Ok(config)
}

/// The JSON Schema of the configuration, for editors.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod secrets;

#[cfg(test)]
mod tests;
