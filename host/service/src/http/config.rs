//! Settings of the HTTP edge: the `http` section of the configuration.

use std::net::SocketAddr;

use portcullis_runtime::listen::at_least_one;
use portcullis_types::duration::{HumanDuration, longer_than_zero};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

/// The `http` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Http")]
pub struct HttpConfig {
    /// Address to listen on, for plain-text HTTP/1.1. Without it, this edge is switched off.
    pub listen: Option<SocketAddr>,
    /// Connections that may be open, as many as the proxies keep. Where all are open and a new one
    /// comes, an idle one is closed for it, as with `grpc.max_connections`.
    #[serde(deserialize_with = "at_least_one")]
    pub max_connections: u32,
    /// Where the request to be authorized is described.
    pub request_from: RequestFrom,
    /// With `request_from: envoy`, what Envoy puts before each path; the same text as its
    /// `path_prefix`.
    #[schemars(with = "String")]
    pub path_prefix: PathPrefix,
    /// How long the proxy waits for an answer, at least: nothing that a request waits for, such as
    /// a store, lasts longer. If an Envoy states a shorter time, that counts.
    #[serde(deserialize_with = "longer_than_zero")]
    pub timeout: HumanDuration,
    /// With `request_from: envoy`, the largest body, in bytes. A larger one is denied with
    /// `request_too_large`.
    pub max_body_bytes: u32,
    /// How long a connection may take until the head of its next request is complete. Longer than the
    /// proxy keeps idle connections, or it may send a request on one that is just being closed: Envoy
    /// keeps them for an hour, Caddy for two minutes, Traefik for 90 seconds, nginx for 60.
    #[serde(deserialize_with = "longer_than_zero")]
    pub idle_timeout: HumanDuration,
    /// With `request_from: x-forwarded` or `x-original`, the request headers that the proxy itself
    /// removes, or overwrites with those of the answer, before it forwards a request; names in lower
    /// case. These proxies cannot be told what to remove. So a request in which the client sent a
    /// header that the answer sets or removes, under this name or with `_` for `-`, is denied with
    /// `malformed_request` unless its name is listed here. List only what the proxy is configured to
    /// handle: a client can forge whatever is listed and not handled.
    #[serde(deserialize_with = "names")]
    pub proxy_overwrites: Vec<String>,
}

/// Where the request to be authorized is described. Headers of the other kinds are not trusted: a
/// client can send them. Those of this kind are not among the headers that policies see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RequestFrom {
    /// The request itself is the one to be authorized: Envoy's `http_service`, and `curl`.
    #[default]
    Envoy,
    /// In `x-forwarded-method`, `-host`, `-uri` and `-proto`: Traefik's `ForwardAuth` and Caddy's
    /// `forward_auth`. The proxy must set them all and not trust the client's.
    XForwarded,
    /// In `x-original-method` and either `x-original-uri` (with the host in `host`) or
    /// `x-original-url`: nginx' `auth_request` and ingress-nginx. The proxy must set them.
    XOriginal,
}

/// What Envoy puts before each path: empty, or beginning with a slash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct PathPrefix(String);

/// A text is not a path prefix.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a path prefix; begin it with a slash, write it without query, fragment and blanks and \
     percent-encoded, or leave it empty"
)]
pub struct ParsePrefixError(String);

/// A setting would be read and then ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct HttpError {
    /// The key, such as `http.proxy_overwrites`.
    pub key: String,
    /// Why, and what to do.
    pub message: &'static str,
}

// === impl HttpConfig ===

impl HttpConfig {
    /// Refuses settings that `request_from` has no use for. `written` is the section as it was
    /// written, since a default shows no more.
    ///
    /// # Errors
    /// When there is such a setting.
    pub fn check_written(&self, written: &Value) -> Result<(), HttpError> {
        let (others, message): (&[&str], _) = match self.request_from {
            RequestFrom::Envoy => (
                &["proxy_overwrites"],
                "Envoy is told which headers to remove, so `http.request_from: envoy` has no use for \
                 it; remove it",
            ),
            RequestFrom::XForwarded | RequestFrom::XOriginal => (
                &["path_prefix", "max_body_bytes"],
                "only `http.request_from: envoy` has a use for it; remove it",
            ),
        };
        let is_written = |key: &str| written.get(key).is_some_and(|value| !value.is_null());
        match others.iter().find(|key| is_written(key)) {
            Some(key) => Err(HttpError { key: format!("http.{key}"), message }),
            None => Ok(()),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: None,
            max_connections: 1024,
            request_from: RequestFrom::default(),
            path_prefix: PathPrefix::default(),
            timeout: HumanDuration::from_millis(10_000),
            max_body_bytes: 64 * 1024,
            idle_timeout: HumanDuration::from_millis(65 * 60_000),
            proxy_overwrites: Vec::new(),
        }
    }
}

// === impl PathPrefix ===

impl PathPrefix {
    /// The path without this prefix, if it begins with it and a slash follows.
    pub(super) fn strip<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.0.as_str())?;
        (self.0.is_empty() || rest.starts_with('/')).then_some(rest)
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = ParsePrefixError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Of anything else, no path on the wire has a part.
        let is_sent =
            text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
        if text.is_empty() || text.starts_with('/') && is_sent {
            return Ok(Self(text));
        }
        Err(ParsePrefixError(text))
    }
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let is_name = |name: &&String| http::HeaderName::from_lowercase(name.as_bytes()).is_ok();
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(D::Error::custom(format!(
            "`{name}` is not a header name; write names one by one and in lower case"
        ))),
        None => Ok(names),
    }
}
