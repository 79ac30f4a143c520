//! Answers: the one way to an allow, and what becomes of a policy's deny.

use portcullis_types::{
    attributes::HttpAttributes,
    decision::{Allow, Decision, Deny, Reason, Verdict},
};

use super::{
    Authorizer,
    config::UnusableClaims,
    guard::{self, RequestLimits, UnsafeDecision},
    headers::{self, Matters, Names, OwnHeader},
    identity::{self, Claimed},
    route::Route,
};
use crate::token::VerifiedToken;

// === impl Authorizer ===

impl Authorizer {
    /// The one way to an allow. Without a route, every identity header is removed, and the token.
    /// `http` is the request that passes; a raw connection has none.
    pub(super) fn guarded(
        &self,
        mut allow: Allow,
        route: Option<&Route>,
        token: Option<&VerifiedToken>,
        http: Option<&HttpAttributes>,
    ) -> Decision {
        let payload = token.and_then(|_| route?.payload(http?));
        let (mut own, left_out) = match self.identity_headers(route, token, payload) {
            Ok(headers) => headers,
            Err(detail) => return Decision::deny(Reason::UnusableClaim).with_detail(detail),
        };
        // A preflight has no route.
        let credentials = route.map_or(&self.credentials, |route| &route.credentials);
        if let Some(http) = http
            && route.is_none_or(|route| !route.forward_token)
        {
            credentials.remove(http, &mut allow, &mut own);
        }
        let matters = Matters {
            identity: &self.routes.identity_headers,
            overrides: route.map_or(&self.routes.overrides, |route| &route.overrides),
            credentials: Some(&credentials.headers),
        };
        let decision = allowed(allow, own, http, &matters, self.request_limits);
        Decision { detail: decision.detail.or(left_out), ..decision }
    }

    /// The identity headers; with a word for the log if a claim was left out.
    fn identity_headers(
        &self,
        route: Option<&Route>,
        token: Option<&VerifiedToken>,
        payload: Option<&str>,
    ) -> Result<(Vec<OwnHeader>, Option<String>), String> {
        let mut left_out = None;
        let names = self.routes.identity_headers.iter();
        let rules = route.map(|route| &route.identity);
        let mut own: Vec<OwnHeader> = Vec::with_capacity(names.len() + 1);
        let is_payload = |name: &str| {
            rules.and_then(|rules| rules.payload.as_deref()).is_some_and(|payload| payload == name)
        };
        for name in names {
            if is_payload(name) {
                own.push((name.to_owned(), payload.map(str::to_owned)));
                continue;
            }
            let value = match identity::header(name, rules, token) {
                Claimed::Nothing => None,
                Claimed::Value(value) => Some(value.into_owned()),
                Claimed::Unusable(claim) => {
                    let detail = format!("{name}: the claim {claim} has no header form");
                    if rules.is_some_and(|rules| rules.unusable_claims == UnusableClaims::Deny) {
                        return Err(detail);
                    }
                    left_out = Some(detail);
                    None
                }
            };
            own.push((name.to_owned(), value));
        }
        Ok((own, left_out))
    }
}

/// An allow whose changes mean the same to the proxy and to the upstream, whatever `http` looks like;
/// or the deny that takes its place.
fn allowed(
    allow: Allow,
    own: Vec<OwnHeader>,
    http: Option<&HttpAttributes>,
    matters: &Matters<'_>,
    limits: RequestLimits,
) -> Decision {
    let deny = |reason, detail: String| Decision::deny(reason).with_detail(detail);
    let mut allow = match guard::allow(allow, own) {
        Ok(allow) => allow,
        Err(error) => return deny(Reason::UnsafeDecision, error.to_string()),
    };
    let query = http.and_then(|http| http.path.split_once('?')).map(|(_, query)| query);
    if let Err(error) = guard::rewrite_query(&mut allow, query) {
        return deny(Reason::MalformedRequest, error.to_string());
    }
    let stripped = http.map_or(Ok(()), |http| headers::strip(&mut allow, http, matters));
    if let Err(error) = stripped {
        return deny(Reason::MalformedRequest, error.to_string());
    }
    let is_removed = |name: &String| allow.remove_request_headers.contains(name);
    if let Some(header) = allow.response_headers.iter().find(|header| is_removed(&header.name)) {
        let error = UnsafeDecision::ResponseName(header.name.clone());
        return deny(Reason::UnsafeDecision, error.to_string());
    }
    let size = http.map_or(Ok(()), |http| guard::check_request_size(&allow, http, limits));
    if let Err(error) = size {
        return deny(Reason::UnsafeDecision, error.to_string());
    }
    Decision::new(Verdict::Allow(allow), Reason::Allowed)
}

/// What becomes of a policy's verdict about `http` on a route without identity headers. For fuzzing; the
/// pipeline does the same with each verdict.
#[must_use]
pub fn guard_verdict(verdict: Verdict, http: &HttpAttributes) -> Decision {
    match verdict {
        Verdict::Deny(deny) => policy_deny(deny, None),
        Verdict::Allow(allow) => {
            let (identity, overrides) = (Names::default(), Names::overrides_but(&[]));
            let matters = Matters { identity: &identity, overrides: &overrides, credentials: None };
            allowed(allow, Vec::new(), Some(http), &matters, RequestLimits::default())
        }
    }
}

/// What becomes of a policy's deny.
pub(super) fn policy_deny(deny: Deny, reason: Option<String>) -> Decision {
    match guard::deny(deny) {
        Ok(deny) => {
            let decision = Decision::new(Verdict::Deny(deny), Reason::PolicyDenied);
            Decision { detail: reason, ..decision }
        }
        Err(error) => Decision::deny(Reason::UnsafeDecision).with_detail(error.to_string()),
    }
}
