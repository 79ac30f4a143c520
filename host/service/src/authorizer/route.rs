//! Route table: compiling it from configuration, and finding the route of a request.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use portcullis_runtime::telemetry::PolicyMetrics;
use portcullis_types::{
    attributes::{HttpAttributes, fold_alike},
    decision::{Decision, Reason},
};

use super::{
    ambiguity::Ambiguity,
    authority::Host,
    challenge::Challenge,
    config::{MatchConfig, RouteConfig, TokenMode},
    credentials::Credentials,
    headers::{self, Names},
    identity::{self, IdentityRules},
    matcher::{Matcher, ReadingRules},
    path::{PathConfig, PathError, Tolerance},
    route_error::{RouteCause, RouteError},
};
use crate::policy::PolicyHandle;

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
    pub(super) credentials: Credentials,
    /// `None` lets requests pass on the strength of the token alone.
    pub(super) policy: Option<RoutePolicy>,
    pub(super) deadline: Duration,
    pub(super) forward_token: bool,
    pub(super) challenge: Option<Challenge>,
    pub(super) identity: IdentityRules,
    /// The override headers that the route does not keep.
    pub(super) overrides: Names,
    matches: Matcher,
}

/// The policy of a route, and where its calls are counted.
#[derive(Debug)]
pub(super) struct RoutePolicy {
    pub(super) handle: PolicyHandle,
    pub(super) metrics: PolicyMetrics,
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
pub(super) struct RouteKey<'a> {
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
        let names: BTreeSet<_> = routes.iter().flat_map(|route| route.identity.names()).collect();
        let identity_headers: Names = names.into_iter().cloned().collect();
        if let Some((one, other)) = identity_headers.alike() {
            let emits = |route: &&Route| route.identity.names().any(|name| name == other);
            let route = routes.iter().find(emits).map(|route| route.name.to_string());
            let cause = RouteCause::Alike(one.to_owned(), other.to_owned());
            return Err(RouteError { route: route.unwrap_or_default(), cause });
        }
        for route in &routes {
            let clash = |token: &&str| identity_headers.iter().any(|name| fold_alike(name, token));
            if let Some(name) = route.credentials.headers.iter().find(clash) {
                let cause = RouteCause::PlaceOfIdentity(name.to_owned());
                return Err(RouteError { route: route.name.to_string(), cause });
            }
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
    /// When no route matches, or when the host could belong to another one too.
    pub(super) fn find(
        &self,
        extensions: &[(String, String)],
        key: RouteKey<'_>,
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

    /// The challenge of the route of this name, if it has one.
    pub(super) fn challenge(&self, route: &str) -> Option<&Challenge> {
        let route = self.in_order.iter().find(|known| *known.name == *route)?;
        route.challenge.as_ref()
    }

    fn first(&self, key: RouteKey<'_>, host: &str) -> Option<&Route> {
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
        key: RouteKey<'_>,
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
    key: RouteKey<'_>,
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
    /// Compiles `config`; `policy` and `credentials` are what its names stand for.
    pub(super) fn new(
        config: &RouteConfig,
        policy: Option<RoutePolicy>,
        credentials: Credentials,
        reading: ReadingRules<'_>,
    ) -> Result<Self, RouteCause> {
        check(config)?;
        let challenge = Challenge::new(config, credentials.schemes)?;
        Ok(Self {
            name: config.name.as_str().into(),
            token: config.token,
            credentials,
            policy,
            deadline: config.deadline.get(),
            forward_token: config.forward_token,
            challenge,
            identity: IdentityRules::from(config),
            overrides: Names::overrides_but(&config.keep_override_headers),
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

    /// The payload of the request's token as it was sent, if the upstream is to receive it.
    pub(super) fn payload<'a>(&'a self, http: &'a HttpAttributes) -> Option<&'a str> {
        self.identity.payload.as_ref()?;
        self.credentials.find(http).ok()?.token.split('.').nth(1)
    }

    fn matches(&self, key: RouteKey<'_>) -> bool {
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
