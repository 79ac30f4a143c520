//! CORS: which requests are preflights, what answers them, and who may read a denial.
//!
//! A preflight carries no credentials, so it is the one request that passes every check of a token.
//! Therefore only what a browser can send is one: the WHATWG's Fetch standard, "CORS-preflight
//! fetch". Anything else with the method `OPTIONS` is a request like any other.

mod config;
mod usual;

pub use config::{CorsConfig, CorsError, Preflight};
use config::{FORBIDDEN_METHODS, canonical_origin, is_method};
use portcullis_types::{
    attributes::HttpAttributes,
    decision::{Allow, Decision, Header, Reason, Verdict},
};
use usual::is_never_sent;

use super::{
    Authorizer,
    headers::is_override,
    route::{NotFound, RouteKey},
};

/// The settings, in the form in which requests need them.
#[derive(Debug)]
pub(super) struct Cors {
    preflight: Preflight,
    /// What proxies add to each request, besides what is usual.
    proxy_headers: Vec<String>,
    origins: Vec<String>,
    allow_credentials: bool,
    exposed: Option<Header>,
    /// What the answer to a preflight has besides that.
    answer: Vec<Header>,
}

/// A preflight: who asks, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PreflightRequest<'a> {
    origin: &'a str,
    method: &'a str,
}

// === impl Authorizer ===

impl Authorizer {
    /// The decision on a preflight, unless it goes the way of all other requests. `key` is what its
    /// route is found by, apart from the method: that is the one that it asks for.
    pub(super) fn decide_preflight(
        &self,
        http: &HttpAttributes,
        extensions: &[(String, String)],
        key: RouteKey<'_>,
    ) -> Option<Decision> {
        if http.method != "OPTIONS" {
            return None;
        }
        let find = |method| self.routes.find(extensions, RouteKey { method, ..key });
        let forward = |method| {
            let route = match find(method) {
                Ok(route) => route,
                // `OPTIONS` may have its own route.
                Err(NotFound::NoRoute) => return None,
                Err(cause) => return Some(cause.denied()),
            };
            let passed = self.guarded(Allow::default(), None, None, Some(http));
            let reason = if passed.is_allowed() { Reason::CorsPreflight } else { passed.reason };
            Some(Decision { reason, ..passed.with_route(&route.name) })
        };
        match self.cors.preflight {
            Preflight::Deny => None,
            Preflight::AnyOptions => forward(asked(http).map(|asked| asked.method)),
            Preflight::Forward => {
                let asked = asked(http)?;
                if !self.cors.is_usual(http) {
                    return None;
                }
                forward(Some(asked.method))
            }
            Preflight::Answer if self.cors.origins.is_empty() => None,
            Preflight::Answer => {
                let asked = asked(http)?;
                if !self.cors.allows(asked.origin) {
                    return Some(Decision::deny(Reason::OriginNotAllowed));
                }
                Some(match find(Some(asked.method)) {
                    Ok(route) => self.cors.answered().with_route(&route.name),
                    Err(cause) => cause.denied(),
                })
            }
        }
    }
}

// === impl Cors ===

impl Cors {
    pub(super) fn new(config: CorsConfig) -> Self {
        let list = |name: &str, values: &[String]| {
            let value = values.join(", ");
            (!value.is_empty()).then(|| Header { name: name.to_owned(), value })
        };
        let max_age = config.max_age.get().as_secs().to_string();
        let answer = [
            list("access-control-allow-methods", &config.allowed_methods),
            list("access-control-allow-headers", &config.allowed_headers),
            list("access-control-max-age", &[max_age]),
        ];
        Self {
            preflight: config.preflight,
            proxy_headers: config.proxy_headers,
            exposed: list("access-control-expose-headers", &config.exposed_headers),
            answer: answer.into_iter().flatten().collect(),
            allow_credentials: config.allow_credentials,
            origins: config.allowed_origins,
        }
    }

    /// Whether a preflight has nothing but what a browser sends and proxies add. One that is answered here
    /// may have more: it does not reach the upstream.
    fn is_usual(&self, http: &HttpAttributes) -> bool {
        http.headers.iter().all(|(name, _)| {
            usual::is_usual(name) || self.proxy_headers.iter().any(|known| known == name)
        })
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| allowed == origin)
    }

    /// The answer to a preflight of an allowed origin; [`Cors::share`] adds the origin. To a proxy
    /// it is a deny: the request goes no further.
    fn answered(&self) -> Decision {
        let mut decision = Decision::deny(Reason::CorsPreflight);
        if let Verdict::Deny(deny) = &mut decision.verdict {
            deny.headers.extend(self.answer.iter().cloned());
        }
        decision
    }

    /// Lets pages of allowed origins read an answer with these headers. Every answer says that it
    /// depends on the origin, lest a cache gives one origin what another one got.
    pub(super) fn share(&self, headers: &mut Vec<Header>, origin: Option<&str>) {
        if self.origins.is_empty() {
            return;
        }
        let vary = vary(headers);
        replace(headers, "vary", Some(vary));
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else { return };
        let credentials = self.allow_credentials.then(|| "true".to_owned());
        replace(headers, "access-control-allow-origin", Some(origin.to_owned()));
        replace(headers, "access-control-allow-credentials", credentials);
        if let Some(exposed) = &self.exposed {
            replace(headers, &exposed.name, Some(exposed.value.clone()));
        }
    }
}

/// The preflight that this request is; none if no browser sends it.
fn asked(http: &HttpAttributes) -> Option<PreflightRequest<'_>> {
    let has_body =
        |body: &portcullis_types::attributes::Body| !body.bytes.is_empty() || body.truncated;
    if http.method != "OPTIONS" || http.body.as_ref().is_some_and(has_body) {
        return None;
    }
    let (mut origin, mut method, mut names) = (None, None, None);
    for (name, value) in http.headers.iter() {
        let field = match name {
            "origin" => &mut origin,
            "access-control-request-method" => &mut method,
            "access-control-request-headers" => &mut names,
            "content-length" if value == "0" => continue,
            _ if is_never_sent(name) || is_override(name) => return None,
            _ => continue,
        };
        // A header that comes twice has two readings.
        if field.replace(value).is_some() {
            return None;
        }
    }
    let asked = PreflightRequest { origin: origin?, method: method? };
    // `*` is a method to the letter of the standard, and all methods to a route.
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_sent = is_origin(asked.origin)
        && is_method(asked.method)
        && asked.method.bytes().all(is_word)
        && !FORBIDDEN_METHODS.contains(&asked.method)
        && names.is_none_or(is_list_of_names);
    is_sent.then_some(asked)
}

fn is_origin(text: &str) -> bool {
    text == "null" || canonical_origin(text).is_some_and(|canonical| canonical == text)
}

/// Whether a text is a list of header names, with or without blanks between them.
fn is_list_of_names(text: &str) -> bool {
    text.split(',').all(|name| http::HeaderName::from_bytes(name.trim().as_bytes()).is_ok())
}

/// What an answer depends on besides the origin, if it says so, and the origin.
fn vary(headers: &[Header]) -> String {
    let own = headers.iter().filter(|header| header.name == "vary");
    let mut all: Vec<&str> = own.map(|header| header.value.as_str()).collect();
    let mut names = all.iter().flat_map(|value| value.split(','));
    if !names.any(|name| name.trim().eq_ignore_ascii_case("origin")) {
        all.push("origin");
    }
    all.join(", ")
}

/// Leaves one header of this name, or none.
fn replace(headers: &mut Vec<Header>, name: &str, value: Option<String>) {
    headers.retain(|header| header.name != name);
    headers.extend(value.map(|value| Header { name: name.to_owned(), value }));
}

#[cfg(test)]
mod tests;
