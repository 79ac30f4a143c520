//! Owns the route table: compiling it from configuration, and finding the route of a request.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    config::{MatchConfig, RouteConfig, TokenMode},
    guard,
    pattern::Pattern,
};
use crate::{policy::PolicyHandle, telemetry::PolicyMetrics, token::IssuerSet};

/// The key of Envoy's `context_extensions` that names a route directly.
const ROUTE_EXTENSION: &str = "route";

/// All routes, in order, and the names of every identity header that any of them emits.
#[derive(Debug)]
pub(super) struct Routes {
    routes: Vec<Route>,
    /// Removed from every request on which the route does not set them.
    pub(super) identity_headers: Vec<String>,
}

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: Arc<str>,
    pub(super) token: TokenMode,
    pub(super) issuers: IssuerSet,
    /// `None` lets requests pass on the strength of the token alone.
    pub(super) policy: Option<RoutePolicy>,
    pub(super) deadline: Duration,
    pub(super) forward_token: bool,
    /// Header name, and the claims to take its value from.
    pub(super) identity_headers: Vec<(String, Vec<String>)>,
    matches: MatchConfig,
}

/// The policy of a route, and where its calls are counted.
#[derive(Debug)]
pub(super) struct RoutePolicy {
    pub(super) handle: PolicyHandle,
    pub(super) metrics: PolicyMetrics,
}

/// A route does not make sense.
#[derive(Debug, thiserror::Error)]
#[error("routes: route `{route}`: {cause}")]
pub struct RouteError {
    /// Name of the route.
    pub route: String,
    /// What is wrong.
    pub cause: RouteCause,
}

/// What is wrong with a route.
#[derive(Debug, thiserror::Error)]
pub enum RouteCause {
    /// Two routes have one name.
    #[error("the name is used twice; names are unique")]
    DuplicateName,
    /// Neither or both of the ways to decide.
    #[error("give either `policy: NAME` or `allow_without_policy: true`")]
    NoVerdict,
    /// The policy is not configured.
    #[error("`policy: {0}` is not listed under `policies`")]
    UnknownPolicy(String),
    /// Settings for nobody.
    #[error("`settings` needs a `policy` to read them")]
    SettingsWithoutPolicy,
    /// An issuer is not configured.
    #[error("`issuers`: {0}")]
    Issuers(String),
    /// Several issuers to choose from, and no choice.
    #[error("`issuers` is needed, because several are configured: {0}")]
    IssuersNeeded(String),
    /// A method that no request has.
    #[error(
        "`match.methods`: `{0}` is not in upper case, as methods are; no request would have it"
    )]
    Method(String),
    /// Headers from claims that nobody reads.
    #[error("`identity_headers` needs a token; set `token: required` or `optional`")]
    HeadersWithoutToken,
    /// A name that cannot be set.
    #[error(
        "`identity_headers`: `{0}` is not a permitted header name; write it in lower case, and \
             do not name a pseudo header, `host` or a connection header"
    )]
    HeaderName(String),
    /// No claim to take the value from.
    #[error("`identity_headers.{0}` lists no claim")]
    NoClaim(String),
    /// A raw connection has neither token nor path.
    #[error("`match.tcp` takes no other condition, no token, and no identity headers")]
    Tcp,
    /// A zero deadline denies everything.
    #[error("`deadline` is zero; write at least 1ms")]
    ZeroDeadline,
}

/// What a route is found by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// `None` matches whatever methods a route asks for.
    pub(super) method: Option<&'a str>,
}

// === impl Routes ===

impl Routes {
    pub(super) fn new(routes: Vec<Route>) -> Self {
        let names: BTreeSet<_> =
            routes.iter().flat_map(|route| &route.identity_headers).map(|(name, _)| name).collect();
        let identity_headers = names.into_iter().cloned().collect();
        Self { routes, identity_headers }
    }

    /// The route that Envoy's `context_extensions` name, or the first that matches.
    pub(super) fn find(&self, extensions: &[(String, String)], key: Key<'_>) -> Option<&Route> {
        match named(extensions) {
            Some(name) => {
                self.routes.iter().find(|route| !route.matches.tcp && &*route.name == name)
            }
            None => self.routes.iter().find(|route| route.matches(key)),
        }
    }

    /// The same for a raw TCP connection.
    pub(super) fn find_tcp(&self, extensions: &[(String, String)]) -> Option<&Route> {
        let mut tcp = self.routes.iter().filter(|route| route.matches.tcp);
        match named(extensions) {
            Some(name) => tcp.find(|route| &*route.name == name),
            None => tcp.next(),
        }
    }
}

fn named(extensions: &[(String, String)]) -> Option<&str> {
    extensions.iter().find(|(key, _)| key == ROUTE_EXTENSION).map(|(_, name)| name.as_str())
}

// === impl Route ===

impl Route {
    /// Compiles `config`; `policy` and `issuers` are what its names stand for.
    pub(super) fn new(
        config: &RouteConfig,
        policy: Option<RoutePolicy>,
        issuers: IssuerSet,
    ) -> Result<Self, RouteError> {
        check(config).map_err(|cause| RouteError { route: config.name.clone(), cause })?;
        let mut matches = config.matches.clone();
        matches.hosts = matches.hosts.iter().map(Pattern::to_lowercase).collect();
        Ok(Self {
            name: config.name.as_str().into(),
            token: config.token,
            issuers,
            policy,
            deadline: config.deadline.get(),
            forward_token: config.forward_token,
            identity_headers: config.identity_headers.clone().into_iter().collect(),
            matches,
        })
    }

    fn matches(&self, key: Key<'_>) -> bool {
        let MatchConfig { hosts, paths, not_paths, methods, tcp } = &self.matches;
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
        !tcp && (hosts.is_empty() || any(hosts, key.host))
            && (paths.is_empty() || any(paths, key.path))
            && !any(not_paths, key.path)
            && (methods.is_empty()
                || key.method.is_none_or(|method| methods.iter().any(|m| m == method)))
    }
}

/// Checks what can be checked without knowing policies and issuers.
fn check(config: &RouteConfig) -> Result<(), RouteCause> {
    if config.policy.is_some() == config.allow_without_policy {
        return Err(RouteCause::NoVerdict);
    }
    if config.policy.is_none() && !config.settings.is_null() {
        return Err(RouteCause::SettingsWithoutPolicy);
    }
    if config.deadline.get().is_zero() {
        return Err(RouteCause::ZeroDeadline);
    }
    if config.token == TokenMode::Ignored && !config.identity_headers.is_empty() {
        return Err(RouteCause::HeadersWithoutToken);
    }
    for (name, claims) in &config.identity_headers {
        if !guard::is_permitted_name(name) {
            return Err(RouteCause::HeaderName(name.clone()));
        }
        if claims.is_empty() {
            return Err(RouteCause::NoClaim(name.clone()));
        }
    }
    let MatchConfig { hosts, paths, not_paths, methods, tcp } = &config.matches;
    if let Some(method) =
        methods.iter().find(|method| method.contains(|c: char| c.is_ascii_lowercase()))
    {
        return Err(RouteCause::Method(method.clone()));
    }
    let is_http =
        !(hosts.is_empty() && paths.is_empty() && not_paths.is_empty() && methods.is_empty())
            || config.token != TokenMode::Ignored;
    if *tcp && is_http { Err(RouteCause::Tcp) } else { Ok(()) }
}
