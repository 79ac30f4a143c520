//! The authorization pipeline: route, token, blacklist, policy, guard, in this order.
//!
//! It returns a decision whatever happens; there is no error to mishandle. It knows no protobuf, no
//! wasmtime and no broker.

mod ambiguity;
mod answer;
mod authority;
mod authorize;
mod challenge;
mod challenge_config;
mod claim_path;
mod config;
mod cors;
mod coverage;
mod credentials;
mod guard;
mod headers;
mod identity;
mod matcher;
mod method;
mod path;
mod patience;
mod pattern;
mod percent;
mod proof;
mod record;
mod request_line;
mod revocation;
mod route;
mod route_error;
mod target;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use answer::guard_verdict;
use answer::policy_deny;
pub use authority::{Host, HostsConfig, MalformedHost, PortMatching, TrailingDot, read_host};
pub(crate) use authorize::Refusal;
pub use authorize::{Authorize, ask, refuse, refuse_known};
pub use challenge_config::ChallengeConfig;
pub use claim_path::{ClaimPath, ParseClaimPathError};
pub use config::{
    DEFAULT_DEADLINE, DenialConfig, DenialPreset, IdentityEncoding, MatchConfig, RouteConfig,
    TokenMode, UnusableClaims,
};
use cors::Cors;
pub use cors::{CorsConfig, CorsError, Preflight};
use credentials::{Credentials, Presented};
pub use guard::RequestLimits;
use matcher::ReadingRules;
pub use path::{CanonicalPath, PathConfig, PathError, Tolerance, TrailingSlash, canonicalize};
use patience::patience;
pub use pattern::{ParsePatternError, Pattern};
use portcullis_types::{
    attributes::{Attributes, HeaderView, Headers, HttpAttributes},
    decision::{Allow, Decision, Reason, Verdict},
    timestamp::Timestamp,
};
pub use record::{Recorder, reason_codes};
use request_line::RequestLine;
pub use revocation::Revocation;
use revocation::refreshed;
use route::{Route, RoutePolicy, Routes};
pub use route_error::{RouteCause, RouteError};

use crate::{
    policy::{self, Budget, Input, Policies, PolicyUse},
    token::{BearerError, KeysFetched, Possession, VerifiedToken, Verifier},
};

/// How long a request waits for keys at most, whatever time its caller gives.
const LONGEST_FETCH: Duration = Duration::from_secs(5);

/// The settings of the pipeline.
#[derive(Debug, Clone, Default)]
pub struct PipelineConfig {
    /// Routes in order.
    pub routes: Vec<RouteConfig>,
    /// How hosts are read.
    pub hosts: HostsConfig,
    /// How paths are read.
    pub paths: PathConfig,
    /// How CORS is handled.
    pub cors: CorsConfig,
    /// What denials say.
    pub denials: DenialConfig,
    /// How large a request may be after an allow has changed it.
    pub request_limits: RequestLimits,
}

/// The pipeline.
#[derive(Debug)]
pub struct Authorizer {
    routes: Routes,
    hosts: HostsConfig,
    paths: PathConfig,
    cors: Cors,
    denials: DenialConfig,
    request_limits: RequestLimits,
    /// Of all routes.
    credentials: Credentials,
    verifier: Verifier,
    possession: Possession,
    revocation: Revocation,
    recorder: Recorder,
}

/// The settings that each policy must accept, by policy name: one entry per route.
#[must_use]
pub fn policy_uses(routes: &[RouteConfig]) -> BTreeMap<String, Vec<PolicyUse>> {
    let mut uses: BTreeMap<String, Vec<PolicyUse>> = BTreeMap::new();
    for route in routes {
        if let Some(policy) = &route.policy {
            uses.entry(policy.clone()).or_default().push(PolicyUse {
                route: route.name.clone(),
                settings: route.settings.to_string(),
            });
        }
    }
    uses
}

/// Builds the pipeline from what it joins.
///
/// # Errors
/// When a route contradicts itself or names what does not exist.
pub fn build(
    config: PipelineConfig,
    (verifier, possession): (Verifier, Possession),
    revocation: Revocation,
    policies: &Policies,
    recorder: Recorder,
) -> Result<Authorizer, RouteError> {
    let mut routes: Vec<Route> = Vec::with_capacity(config.routes.len());
    for route in &config.routes {
        let error = |cause| RouteError { route: route.name.clone(), cause };
        if routes.iter().any(|earlier| *earlier.name == *route.name) {
            return Err(error(RouteCause::DuplicateName));
        }
        let policy = match &route.policy {
            None => None,
            Some(name) => {
                let handle = policies
                    .handle(name, &route.name)
                    .ok_or_else(|| error(RouteCause::UnknownPolicy(name.clone())))?;
                Some(RoutePolicy { handle, metrics: recorder.metrics().policy(name) })
            }
        };
        let credentials = Credentials::new(route, &verifier, &possession).map_err(error)?;
        let reading = ReadingRules { hosts: config.hosts, paths: &config.paths };
        let compiled = Route::new(route, policy, credentials, reading).map_err(error)?;
        compiled.check_reachable(&routes).map_err(error)?;
        routes.push(compiled);
    }
    let none = verifier.issuer_set(&[]).map_err(|error| {
        let cause = RouteCause::Issuers(error.to_string());
        RouteError { route: String::new(), cause }
    })?;
    let credentials = Credentials::of_all(routes.iter().map(|route| &route.credentials), &none);
    let PipelineConfig { hosts, paths, cors, denials, request_limits, .. } = config;
    Ok(Authorizer {
        credentials,
        routes: Routes::new(routes, &paths)?,
        hosts,
        paths,
        cors: Cors::new(cors),
        denials,
        request_limits,
        verifier,
        possession,
        revocation,
        recorder,
    })
}

/// A request on its way through the pipeline.
struct Check<'a> {
    attributes: &'a Attributes,
    route: &'a Route,
    now: Timestamp,
    deadline: Option<Instant>,
}

impl Authorize for Authorizer {
    async fn authorize(&self, attributes: &Attributes, deadline: Option<Duration>) -> Decision {
        let started = Instant::now();
        let _in_flight = self.recorder.in_flight();
        let deadline = deadline.and_then(|deadline| started.checked_add(deadline));
        let decision = self.decide(attributes, deadline, Timestamp::now()).await;
        let decision = self.finish_denial(decision, attributes);
        self.recorder.decision(attributes, &decision, started);
        decision
    }

    fn refuse_known(&self, known: &Attributes, reason: Reason, detail: String) -> Decision {
        let decision = self.finish_denial(Decision::deny(reason).with_detail(detail), known);
        self.recorder.decision(known, &decision, Instant::now());
        decision
    }
}

// === impl Authorizer ===

impl Authorizer {
    async fn decide(
        &self,
        attributes: &Attributes,
        deadline: Option<Instant>,
        now: Timestamp,
    ) -> Decision {
        let Some(http) = &attributes.http else {
            return Box::pin(self.decide_connection(attributes, deadline, now)).await;
        };
        if let Some(refresh) = self.refresh_asked_for(http) {
            // Boxed, so that the many that do not wait need not carry along what the few wait with.
            return refreshed(Box::pin(refresh.refresh(patience(deadline))).await);
        }
        let line =
            match RequestLine::read(http, self.hosts, &self.paths, self.routes.tolerant.as_ref()) {
                Ok(line) => line,
                Err((reason, detail)) => return Decision::deny(reason).with_detail(detail),
            };
        let key = line.key();
        let extensions = &attributes.context_extensions;
        if let Some(decision) = self.decide_preflight(http, extensions, key) {
            return decision;
        }
        let route = match self.routes.find(extensions, key) {
            Ok(route) => route,
            Err(cause) => return cause.denied(),
        };
        let check = Check { attributes, route, now, deadline };
        self.decide_on_route(&check, http, &line).await
    }

    async fn decide_on_route(
        &self,
        check: &Check<'_>,
        http: &HttpAttributes,
        line: &RequestLine<'_>,
    ) -> Decision {
        let token = match self.verified(check, http, line).await {
            Ok(token) => token,
            Err(denied) => return denied.with_route(&check.route.name),
        };
        let input = Input {
            route: &check.route.name,
            method: line.method,
            scheme: &http.scheme,
            host: line.host.name(),
            path: &line.path.path,
            raw_path: &http.path,
            query: line.path.query,
            headers: &http.headers,
            header_view: http.header_view,
            context: &check.attributes.context_extensions,
            metadata: &check.attributes.metadata,
            identity: token.as_deref().map(identity::of),
            source: &check.attributes.source,
            body: http.body.as_ref(),
        };
        self.ask_policy(check, &input, token.as_deref()).await
    }

    /// A raw TCP connection: no headers, so no token; a policy may decide by the peer.
    async fn decide_connection(
        &self,
        attributes: &Attributes,
        deadline: Option<Instant>,
        now: Timestamp,
    ) -> Decision {
        let Some(route) = self.routes.find_tcp(&attributes.context_extensions) else {
            return Decision::deny(Reason::MalformedRequest).with_detail("no HTTP request");
        };
        let input = Input {
            route: &route.name,
            method: "",
            scheme: "tcp",
            host: "",
            path: "",
            raw_path: "",
            query: None,
            headers: &Headers::default(),
            header_view: HeaderView::default(),
            context: &attributes.context_extensions,
            metadata: &attributes.metadata,
            identity: None,
            source: &attributes.source,
            body: None,
        };
        self.ask_policy(&Check { attributes, route, now, deadline }, &input, None).await
    }

    /// The verified and unrevoked token of the request, if the route reads one and there is one.
    async fn verified(
        &self,
        check: &Check<'_>,
        http: &HttpAttributes,
        line: &RequestLine<'_>,
    ) -> Result<Option<Arc<VerifiedToken>>, Box<Decision>> {
        let route = check.route;
        if route.token == TokenMode::Ignored {
            return Ok(None);
        }
        let deny = |reason| Box::new(Decision::deny(reason));
        let invalid =
            |detail: String| Box::new(Decision::deny(Reason::InvalidToken).with_detail(detail));
        let presented = match route.credentials.find(http) {
            Ok(presented) => presented,
            Err(BearerError::Missing) if route.token == TokenMode::Optional => return Ok(None),
            Err(BearerError::Missing) => return Err(deny(Reason::MissingToken)),
            Err(error) => return Err(invalid(error.code().to_owned())),
        };
        let verified = match self.verifier.verify(presented.token, presented.issuers, check.now) {
            Err(error) if error.may_lack_key() && self.verifier.fetches_keys() => {
                // Boxed, so that the many that do not wait need not carry along what the few wait with.
                Box::pin(self.verified_with_new_keys(check, &presented)).await?
            }
            verified => verified.map_err(|error| invalid(error.detail()))?,
        };
        self.check_possession(check, &presented, &verified, http, line)?;
        match self.is_revoked(check, &verified).await {
            None => Ok(Some(verified)),
            Some((reason, detail)) => Err(Box::new(match detail {
                Some(detail) => Decision::deny(reason).with_detail(detail),
                None => Decision::deny(reason),
            })),
        }
    }

    /// The same for a token whose key is not known: its issuer may have a new one.
    async fn verified_with_new_keys(
        &self,
        check: &Check<'_>,
        presented: &Presented<'_>,
    ) -> Result<Arc<VerifiedToken>, Box<Decision>> {
        let Presented { token, issuers, .. } = presented;
        let patience = patience(check.deadline).unwrap_or(LONGEST_FETCH).min(LONGEST_FETCH);
        let fetched = tokio::time::timeout(patience, self.verifier.fetch_keys(token, issuers));
        match (fetched.await, self.verifier.verify(token, issuers, check.now)) {
            (_, Ok(verified)) => Ok(verified),
            (Err(_) | Ok(KeysFetched::Unavailable), Err(error)) if error.may_lack_key() => {
                let detail = "the keys of the issuer are not known";
                Err(Box::new(Decision::deny(Reason::NotReady).with_detail(detail)))
            }
            (_, Err(error)) => {
                Err(Box::new(Decision::deny(Reason::InvalidToken).with_detail(error.detail())))
            }
        }
    }

    async fn ask_policy(
        &self,
        check: &Check<'_>,
        input: &Input<'_>,
        token: Option<&VerifiedToken>,
    ) -> Decision {
        let (route, http) = (check.route, check.attributes.http.as_ref());
        let Some(policy) = &route.policy else {
            return self
                .guarded(Allow::default(), Some(route), token, http)
                .with_route(&route.name);
        };
        let budget = Budget::new(route.deadline, patience(check.deadline));
        let policy::Evaluation { digest, outcome } = policy.handle.evaluate(input, budget).await;
        policy.metrics.evaluated(record::outcome(&outcome));
        let decision = match outcome {
            Ok((Verdict::Allow(allow), _)) => self.guarded(allow, Some(route), token, http),
            Ok((Verdict::Deny(deny), reason)) => policy_deny(deny, reason),
            Err(error) if error.is_about_time() => {
                Decision::deny(Reason::PolicyTimeout).with_detail(error.to_string())
            }
            Err(error) => Decision::deny(Reason::PolicyFailed).with_detail(error.to_string()),
        };
        Decision { revision: Some(digest), ..decision.with_route(&route.name) }
    }

    /// Gives a deny its configured body and headers, and lets scripts of known origins read it.
    fn finish_denial(&self, mut decision: Decision, attributes: &Attributes) -> Decision {
        let Verdict::Deny(deny) = &mut decision.verdict else { return decision };
        let route = decision.route.as_deref();
        let challenge = route.and_then(|route| self.routes.challenge(route));
        if let Some(usual) = challenge.filter(|challenge| !challenge.is_configured) {
            usual.put(decision.reason, deny);
        }
        if decision.reason != Reason::PolicyDenied {
            self.denials.word(decision.reason, deny);
        }
        if let Some(configured) = challenge.filter(|challenge| challenge.is_configured) {
            configured.put(decision.reason, deny);
        }
        let origin = attributes.http.as_ref().and_then(|http| http.headers.first("origin"));
        self.cors.share(&mut deny.headers, origin);
        decision
    }
}
