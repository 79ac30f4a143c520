//! CORS settings: origins, methods and header names, checked against what browsers send.

use std::time::Duration;

use portcullis_types::duration::HumanDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use url::Url;

use super::{super::headers::is_override, usual::is_never_sent};
use crate::authorizer::method::wrong_in_settings;

/// How CORS is handled; `docs/cors.md` describes it.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// What becomes of preflights: the `OPTIONS` requests without credentials by which browsers ask
    /// what a page of another origin may send.
    pub preflight: Preflight,
    /// Request headers that the proxies on the way add to each request, besides the usual ones such as
    /// `x-forwarded-for`. Only with `preflight: forward`: an `OPTIONS` request with a header that neither
    /// browsers nor proxies add is a request like any other. List none that the upstream trusts
    /// when a client sets it.
    #[serde(deserialize_with = "proxy_headers")]
    pub proxy_headers: Vec<String>,
    /// Origins whose pages may call, as browsers send them, such as `https://app.example.com`. They
    /// are compared exactly; there are no wildcards. Their scripts may read denials. Where none are
    /// listed, an `OPTIONS` request needs what any other request needs, a token for example.
    #[serde(deserialize_with = "origins")]
    pub allowed_origins: Vec<String>,
    /// Methods that these pages may use. Only with `preflight: answer`.
    #[serde(deserialize_with = "methods")]
    pub allowed_methods: Vec<String>,
    /// Request headers that these pages may set. Only with `preflight: answer`.
    #[serde(deserialize_with = "request_headers")]
    pub allowed_headers: Vec<String>,
    /// Whether these pages may send cookies and read the answers to such requests.
    pub allow_credentials: bool,
    /// Headers of a denial that these pages may read besides those that every page may.
    #[serde(deserialize_with = "exposed_headers")]
    pub exposed_headers: Vec<String>,
    /// How long browsers remember the answer to a preflight, in whole seconds; at most 24h, as no
    /// browser remembers it for longer. Only with `preflight: answer`.
    #[serde(deserialize_with = "whole_seconds")]
    pub max_age: HumanDuration,
}

/// What becomes of preflights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preflight {
    /// Portcullis answers those of `allowed_origins` with 204 and refuses all others with 403. None
    /// reaches the upstream. Without `allowed_origins`, the same as `deny`.
    #[default]
    Answer,
    /// The upstream answers them, whatever their origin: a request with the shape of a preflight
    /// reaches it without a token, if a route matches its host, its path and the method that it
    /// asks for, and it has no header but those that browsers send and proxies add. Envoy reports a
    /// body without `content-length` only if it sends bodies: set `with_request_body`. `strict` is
    /// another name for this.
    #[serde(alias = "strict")]
    Forward,
    /// As `forward`, for every `OPTIONS` request, with body, cookies and query: whatever the upstream
    /// does upon `OPTIONS` is open to every client.
    AnyOptions,
    /// `OPTIONS` is a method like any other.
    Deny,
}

/// A setting would be read and then ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct CorsError {
    /// The key, such as `cors.max_age`.
    pub key: String,
    /// Why, and what to do.
    pub message: &'static str,
}

/// Those that are part of answers to preflights.
const OF_ANSWERS: [&str; 3] = ["allowed_methods", "allowed_headers", "max_age"];

/// Methods that no script can use: Fetch, "forbidden method".
pub(super) const FORBIDDEN_METHODS: [&str; 3] = ["CONNECT", "TRACE", "TRACK"];

/// What browsers cut `access-control-max-age` down to: Firefox to this, others to less.
const LONGEST_AGE: Duration = Duration::from_hours(24);

/// Headers that no script can set: Fetch, "forbidden request-header".
const FORBIDDEN_HEADERS: [&str; 21] = [
    "accept-charset",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "date",
    "dnt",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Schemes of URLs that are not the address of a page.
const NO_PAGES: [&str; 8] = ["about", "blob", "data", "file", "ftp", "javascript", "ws", "wss"];

// === impl CorsConfig ===

impl CorsConfig {
    /// Refuses settings that have no effect beside the others. `written` is the section as it was
    /// written, since a default shows no more.
    ///
    /// # Errors
    /// When there is such a setting.
    pub fn check_written(&self, written: &Value) -> Result<(), CorsError> {
        let is_written = |key: &str| written.get(key).is_some_and(|value| !value.is_null());
        let error = |key: &str, message| Err(CorsError { key: format!("cors.{key}"), message });
        if self.preflight != Preflight::Answer
            && let Some(key) = OF_ANSWERS.into_iter().find(|key| is_written(key))
        {
            return error(key, "only `cors.preflight: answer` uses it; set that, or remove this");
        }
        if self.preflight != Preflight::Forward && is_written("proxy_headers") {
            return error(
                "proxy_headers",
                "only `cors.preflight: forward` uses it; set that, or remove this",
            );
        }
        if !self.allowed_origins.is_empty() {
            return Ok(());
        }
        if self.preflight == Preflight::Answer && is_written("preflight") {
            return error(
                "preflight",
                "`answer` answers pages of `cors.allowed_origins`, and none are listed; list them, \
                 or write `deny`",
            );
        }
        let mut of_origins = OF_ANSWERS.into_iter().chain(["allow_credentials", "exposed_headers"]);
        match of_origins.find(|key| is_written(key)) {
            Some(key) => error(
                key,
                "it is about pages of `cors.allowed_origins`, and none are listed; list them, or \
                 remove this",
            ),
            None => Ok(()),
        }
    }
}

impl Default for CorsConfig {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().copied().map(str::to_owned).collect();
        Self {
            preflight: Preflight::default(),
            proxy_headers: Vec::new(),
            allowed_origins: Vec::new(),
            allowed_methods: texts(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
            allowed_headers: texts(&["authorization", "content-type"]),
            allow_credentials: true,
            exposed_headers: Vec::new(),
            max_age: HumanDuration::from_millis(600_000),
        }
    }
}

/// The origin that browsers send for a page at `url`; none if no page is there.
///
/// For `http` and `https` the URL standard says how it is written. Apps and browser extensions have
/// their own schemes, whose origins browsers write as scheme, host and port.
pub(super) fn canonical_origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let (scheme, host) = (url.scheme(), url.host_str()?);
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if NO_PAGES.contains(&scheme) || !(host.starts_with('[') || host.chars().all(is_host)) {
        return None;
    }
    if matches!(scheme, "http" | "https") {
        return Some(url.origin().ascii_serialization());
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{scheme}://{host}{port}"))
}

/// Whether a method is one that a request can have: a token in upper case. Settings name fewer.
pub(super) fn is_method(text: &str) -> bool {
    http::Method::from_bytes(text.as_bytes()).is_ok()
        && !text.bytes().any(|byte| byte.is_ascii_lowercase())
}

fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let origins = Vec::<String>::deserialize(deserializer)?;
    origins.iter().try_for_each(|origin| check_origin(origin)).map_err(D::Error::custom)?;
    Ok(origins)
}

fn check_origin(origin: &str) -> Result<(), String> {
    // What stands before an `@` may be a password.
    let shown = origin.rsplit('@').next().unwrap_or_default();
    match (origin, canonical_origin(origin)) {
        ("*", _) => Err("`*` is not an origin, so it would match none; list every origin whose \
                         pages may call, such as https://app.example.com"
            .to_owned()),
        ("null", _) => {
            Err("`null` is the origin of every sandboxed page, of whatever author; list \
                            origins that have a host, such as https://app.example.com"
                .to_owned())
        }
        (_, Some(canonical)) if canonical == origin => Ok(()),
        (_, Some(canonical)) => {
            Err(format!("no browser sends the origin `{shown}`; write `{canonical}`"))
        }
        (_, None) => Err(format!(
            "no page has the origin `{shown}`; write scheme, host, and the port if it is not the \
             scheme's own, such as https://app.example.com"
        )),
    }
}

fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let methods = Vec::<String>::deserialize(deserializer)?;
    let is_bad = |method: &&String| {
        wrong_in_settings(method).is_some() || FORBIDDEN_METHODS.contains(&method.as_str())
    };
    match methods.iter().find(is_bad) {
        Some(method) => Err(D::Error::custom(format!(
            "no page can use the method `{method}`; write methods one by one and in upper case, \
             without CONNECT, TRACE and TRACK, which browsers do not send"
        ))),
        None => Ok(methods),
    }
}

fn request_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let is_forbidden = |name: &str| {
        FORBIDDEN_HEADERS.contains(&name) || name.starts_with("proxy-") || name.starts_with("sec-")
    };
    names(deserializer, is_forbidden, "no script can set it")
}

fn exposed_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let is_forbidden = |name: &str| ["set-cookie", "set-cookie2"].contains(&name);
    names(deserializer, is_forbidden, "no script can read it")
}

fn proxy_headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let is_forbidden = |name: &str| is_never_sent(name) || is_override(name);
    names(deserializer, is_forbidden, "no preflight has it")
}

/// Header names, in lower case whatever they were written in.
fn names<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_forbidden: impl Fn(&str) -> bool,
    forbidden: &str,
) -> Result<Vec<String>, D::Error> {
    let mut names = Vec::<String>::deserialize(deserializer)?;
    for name in &mut names {
        name.make_ascii_lowercase();
        if name == "*" || http::HeaderName::from_lowercase(name.as_bytes()).is_err() {
            let message = format!("`{name}` is not a header name; write names one by one");
            return Err(D::Error::custom(message));
        }
        if is_forbidden(name) {
            return Err(D::Error::custom(format!("`{name}`: {forbidden}; remove it")));
        }
    }
    Ok(names)
}

fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
    let duration = HumanDuration::deserialize(deserializer)?;
    if duration.get().subsec_nanos() > 0 {
        return Err(D::Error::custom("browsers count whole seconds; write such a time, as 10m"));
    }
    if duration.get() > LONGEST_AGE {
        return Err(D::Error::custom(
            "no browser remembers it for longer than 24h; write 24h or less",
        ));
    }
    Ok(duration)
}
