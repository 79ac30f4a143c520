//! Route table: compiling it from configuration, and finding the route of a request.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    ambiguity::Ambiguity,
    authority::Host,
    claim_path::ClaimPath,
    config::{IdentityEncoding, MatchConfig, RouteConfig, TokenMode, UnusableClaims},
    headers::{self, Names, OVERRIDES},
    identity,
    matcher::{Matcher, Reading},
    path::{PathConfig, PathError, Tolerance},
    pattern::Pattern,
};
use crate::{
    attributes::Headers,
    decision::{Decision, Reason},
    policy::PolicyHandle,
    telemetry::PolicyMetrics,
    token::{self, IssuerSet},
};

/// The key of Envoy's `context_extensions` that names a route directly.
const ROUTE_EXTENSION: &str = "route";

/// All routes, in order, and the names of every identity header that any of them emits.
#[derive(Debug)]
pub(super) struct Routes {
    in_order: Vec<Route>,
    /// Removed from every request on which the route does not set them.
    pub(super) identity_headers: Names,
    /// The override headers, for requests without a route.
    pub(super) overrides: Names,
    /// How paths are read that some route tolerates and not all do.
    pub(super) tolerant: Option<PathConfig>,
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
    pub(super) identity_headers: Vec<(String, Vec<ClaimPath>)>,
    pub(super) identity_encoding: IdentityEncoding,
    pub(super) unusable_claims: UnusableClaims,
    /// The override headers that the route does not keep.
    pub(super) overrides: Names,
    ignored_schemes: Vec<String>,
    matches: Matcher,
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
    #[error("`match.methods`: `{0}` {1}")]
    Method(String, String),
    /// A pattern that no request matches.
    #[error("`match.{key}`: no request matches `{}`: it {fault}", without_user(.pattern))]
    Unmatchable {
        /// `hosts`, `paths` or `not_paths`.
        key: &'static str,
        /// The pattern.
        pattern: Pattern,
        /// What is wrong with it, and the remedy.
        fault: String,
    },
    /// A path that belongs to the route and does not.
    #[error(
        "`match.not_paths`: `{1}` excludes all that `{0}` of `match.paths` matches; remove one"
    )]
    Excluded(Pattern, Pattern),
    /// A reading of the path that must be the same for all routes.
    #[error(
        "`match.tolerate`: `{0}` changes which route a path belongs to; set it in `paths.tolerate`"
    )]
    Tolerance(&'static str),
    /// No part of a path decides on the route before an ambiguity.
    #[error(
        "`match.tolerate` needs a `prefix*` in `match.paths` for the part before the ambiguity"
    )]
    NoPrefix,
    /// No request is left for the route.
    #[error(
        "every request that matches belongs to the route `{0}` before it; put the narrower route \
         first, or remove one; if Envoy names it in `context_extensions.route`, set \
         `match.only_by_name: true`"
    )]
    Unreachable(String),
    /// Headers from claims that nobody reads.
    #[error("`identity_headers` needs a token; set `token: required` or `optional`")]
    HeadersWithoutToken,
    /// A name that cannot be set.
    #[error(
        "`identity_headers`: `{0}` is not a permitted header name; write it in lower case, and \
             do not name a pseudo header, `host`, `authorization`, a connection header or one that \
             begins with `x-envoy`"
    )]
    HeaderName(String),
    /// No claim to take the value from.
    #[error("`identity_headers.{0}` lists no claim")]
    NoClaim(String),
    /// Settings of identity headers that there are not.
    #[error("`unusable_claims` and `identity_encoding` need `identity_headers`; leave them out")]
    NothingToEncode,
    /// A header to keep that would not be removed.
    #[error(
        "`keep_override_headers`: `{name}` is not one of the headers that are removed, which are {}",
        OVERRIDES.join(", ")
    )]
    NoOverride {
        /// The name.
        name: String,
    },
    /// Schemes that are looked at on no or on every request.
    #[error("`ignored_schemes` needs `token: optional`; leave it out")]
    SchemesWithoutOption,
    /// A text is not an authorization scheme, or is that of the tokens.
    #[error(
        "`ignored_schemes[{0}]` is not the name of another scheme than `Bearer`; write `Basic`, \
         `Negotiate` or the like, without credentials"
    )]
    Scheme(usize),
    /// Servers would take one identity header for the other.
    #[error(
        "`identity_headers`: servers in the tradition of CGI take `{0}` and `{1}` for one header; \
         use one name on all routes"
    )]
    Alike(String, String),
    /// A raw connection has neither token nor path.
    #[error(
        "`match.tcp` takes no other condition but `only_by_name`, no token, no identity headers and \
         keeps no headers"
    )]
    Tcp,
    /// A zero deadline denies everything.
    #[error("`deadline` is zero; write at least 1ms")]
    ZeroDeadline,
}

/// A pattern as messages show it: what stands before an `@` may be a password.
fn without_user(pattern: &Pattern) -> String {
    let pattern = pattern.to_string();
    pattern.rsplit_once('@').map_or_else(|| pattern.clone(), |(_, host)| format!("…@{host}"))
}

/// There is no one route for a request.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotFound {
    #[error("no route matches")]
    NoRoute,
    #[error("path {0}")]
    AmbiguousPath(PathError),
    #[error("host ends with a dot; see hosts.trailing_dot")]
    TrailingDot,
    /// Whether the port counts makes a difference, and to which route.
    #[error(
        "host has a port, or is not spelled in canonical form, and if that counts the request belongs \
         to {0}; see hosts.port"
    )]
    Port(String),
}

/// What a route is found by.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) path: &'a str,
    /// `None` matches whatever methods a route asks for.
    pub(super) method: Option<&'a str>,
    /// If only a route that tolerates it may have the path.
    pub(super) ambiguity: Option<&'a Ambiguity<'a>>,
}

// === impl Routes ===

impl Routes {
    /// All routes, in their order; `paths` is how all read paths.
    pub(super) fn new(routes: Vec<Route>, paths: &PathConfig) -> Result<Self, RouteError> {
        let names: BTreeSet<_> =
            routes.iter().flat_map(|route| &route.identity_headers).map(|(name, _)| name).collect();
        let identity_headers: Names = names.into_iter().cloned().collect();
        if let Some((one, other)) = identity_headers.alike() {
            let emits =
                |route: &&Route| route.identity_headers.iter().any(|(name, _)| name == other);
            let route = routes.iter().find(emits).map(|route| route.name.to_string());
            let cause = RouteCause::Alike(one.to_owned(), other.to_owned());
            return Err(RouteError { route: route.unwrap_or_default(), cause });
        }
        let more: Vec<Tolerance> = routes
            .iter()
            .filter_map(|route| route.matches.tolerant.as_ref())
            .flat_map(|paths| paths.tolerate.iter().copied())
            .collect();
        let tolerant = (!more.is_empty()).then(|| PathConfig { tolerate: more, ..paths.clone() });
        Ok(Self {
            in_order: routes,
            identity_headers,
            overrides: Names::overrides_but(&[]),
            tolerant,
        })
    }

    /// The route that Envoy's `context_extensions` name, if it matches, or the first that matches.
    ///
    /// # Errors
    /// When there is none, or when the host could belong to another one too.
    pub(super) fn find(
        &self,
        extensions: &[(String, String)],
        key: Key<'_>,
    ) -> Result<&Route, NotFound> {
        if let Some(name) = named(extensions) {
            // Envoy has found the virtual host, so how it compares hosts makes no difference.
            let named = self.in_order.iter().find(|route| *route.name == *name);
            let route = named.filter(|route| route.matches(key)).ok_or(NotFound::NoRoute)?;
            return check_ambiguity(route, &[], key);
        }
        if key.host.has_trailing_dot() {
            return Err(NotFound::TrailingDot);
        }
        let found = self.first(key, key.host.matched());
        if let Some(as_sent) = key.host.as_sent() {
            self.agrees(found, self.first(key, as_sent), key)?;
        }
        match (found, key.ambiguity) {
            (Some(route), _) => check_ambiguity(route, &self.in_order, key),
            (None, Some(ambiguity)) => Err(NotFound::AmbiguousPath(ambiguity.cause)),
            (None, None) => Err(NotFound::NoRoute),
        }
    }

    fn first(&self, key: Key<'_>, host: &str) -> Option<&Route> {
        let mut routes = self.in_order.iter().filter(|route| !route.matches.only_by_name);
        routes.find(|route| route.matches.matches(host, key.path, key.method))
    }

    /// Whether a proxy that compares the host as it was sent comes to the same route. It comes to none
    /// where there is a single site, and then `found` is meant; where other hosts have routes for the
    /// request, it may be a default site that serves them.
    fn agrees(
        &self,
        found: Option<&Route>,
        as_sent: Option<&Route>,
        key: Key<'_>,
    ) -> Result<(), NotFound> {
        let other = match (found, as_sent) {
            (Some(found), Some(as_sent)) if std::ptr::eq(found, as_sent) => None,
            (_, Some(as_sent)) => Some(as_sent),
            (None, None) => None,
            (Some(_), None) => self.in_order.iter().find(|route| {
                !route.matches.only_by_name
                    && !route.matches.matches_host(key.host.matched())
                    && route.matches.matches_but_for_host(key.path, key.method)
            }),
        };
        match other {
            None => Ok(()),
            Some(route) => Err(NotFound::Port(format!("the route `{}`", route.name))),
        }
    }

    /// The same for a raw TCP connection.
    pub(super) fn find_tcp(&self, extensions: &[(String, String)]) -> Option<&Route> {
        let mut tcp = self.in_order.iter().filter(|route| route.matches.tcp);
        match named(extensions) {
            Some(name) => tcp.find(|route| &*route.name == name),
            None => tcp.find(|route| !route.matches.only_by_name),
        }
    }
}

/// Whether the route tolerates the path, and no reading of it leads to another of `routes`, which come
/// before it.
fn check_ambiguity<'r>(
    found: &'r Route,
    routes: &[Route],
    key: Key<'_>,
) -> Result<&'r Route, NotFound> {
    let Some(ambiguity) = key.ambiguity else { return Ok(found) };
    let mut earlier = routes.iter().take_while(|route| !std::ptr::eq(*route, found));
    let may_take = |route: &Route| {
        !route.matches.only_by_name
            && route.matches.matches_host(key.host.matched())
            && route.matches.matches_method(key.method)
            && ambiguity.may_belong_to(&route.matches)
    };
    let is_tolerated =
        found.matches.tolerant.as_ref().is_some_and(|paths| ambiguity.is_tolerated_by(paths));
    if is_tolerated && ambiguity.surely_belongs_to(&found.matches) && !earlier.any(may_take) {
        return Ok(found);
    }
    Err(NotFound::AmbiguousPath(ambiguity.cause))
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
        reading: Reading<'_>,
    ) -> Result<Self, RouteCause> {
        check(config)?;
        Ok(Self {
            name: config.name.as_str().into(),
            token: config.token,
            issuers,
            policy,
            deadline: config.deadline.get(),
            forward_token: config.forward_token,
            identity_headers: config.identity_headers.clone().into_iter().collect(),
            identity_encoding: config.identity_encoding,
            unusable_claims: config.unusable_claims,
            overrides: Names::overrides_but(&config.keep_override_headers),
            ignored_schemes: config.ignored_schemes.clone(),
            matches: Matcher::new(&config.matches, reading)?,
        })
    }

    /// Checks that one of `earlier` does not take every request before this route.
    pub(super) fn check_reachable(&self, earlier: &[Self]) -> Result<(), RouteCause> {
        match earlier.iter().find(|route| route.matches.covers(&self.matches)) {
            Some(route) => Err(RouteCause::Unreachable(route.name.to_string())),
            None => Ok(()),
        }
    }

    /// Whether the request's credentials are of another scheme that counts as no token here.
    pub(super) fn ignores_scheme(&self, headers: &Headers) -> bool {
        if self.ignored_schemes.is_empty() {
            return false;
        }
        token::other_scheme(headers.all("authorization")).is_some_and(|scheme| {
            self.ignored_schemes.iter().any(|ignored| ignored.eq_ignore_ascii_case(scheme))
        })
    }

    fn matches(&self, key: Key<'_>) -> bool {
        self.matches.matches(key.host.matched(), key.path, key.method)
    }
}

// === impl NotFound ===

impl NotFound {
    /// The deny of the request.
    pub(super) fn denied(&self) -> Decision {
        let reason = match self {
            Self::NoRoute => return Decision::deny(Reason::NoRoute),
            Self::AmbiguousPath(cause) => cause.reason(),
            Self::TrailingDot | Self::Port(_) => Reason::AmbiguousHost,
        };
        Decision::deny(reason).with_detail(self.to_string())
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
    identity::check(config)?;
    headers::check(config)?;
    let MatchConfig { hosts, paths, not_paths, tolerate, methods, tcp, only_by_name: _ } =
        &config.matches;
    let is_http = !(hosts.is_empty()
        && paths.is_empty()
        && not_paths.is_empty()
        && methods.is_empty()
        && tolerate.is_empty())
        || config.token != TokenMode::Ignored
        || !config.keep_override_headers.is_empty();
    if *tcp && is_http { Err(RouteCause::Tcp) } else { Ok(()) }
}
