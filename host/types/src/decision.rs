//! Decisions: allow or deny, with a stable reason.
//!
//! A deny is a value, not an error. This module knows no protocol.

use std::sync::Arc;

use serde_json::Value;

/// The answer to one check, with the details for its record.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Allow or deny.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// A more specific reason for logs: the policy's own reason, the fault of a token, or the claim
    /// of an allowed request that was left out. Never a token, a token id or the value of a claim.
    pub detail: Option<String>,
    /// The route that matched, if the request got that far.
    pub route: Option<Arc<str>>,
    /// The policy revision that was evaluated, if the request got that far.
    pub revision: Option<Arc<str>>,
}

/// Allow or deny.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Let the request pass, changed as described.
    Allow(Allow),
    /// Answer the request here.
    Deny(Deny),
}

/// How to change a request that passes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Allow {
    /// Request headers to set, replacing what the client sent under these names. An empty value
    /// removes.
    pub set_request_headers: Vec<Header>,
    /// Request headers to remove.
    pub remove_request_headers: Vec<String>,
    /// Names in the request that a server may take for a header that the policy was shown. Before
    /// an allow leaves the pipeline, they are among those to remove.
    pub other_spellings: Vec<String>,
    /// Headers to add to the client's response.
    pub response_headers: Vec<Header>,
    /// Query parameters to set.
    pub set_query_parameters: Vec<(String, String)>,
    /// Query parameters to remove.
    pub remove_query_parameters: Vec<String>,
    /// Envoy dynamic metadata.
    pub metadata: Vec<(String, Value)>,
}

/// How to answer a request that does not pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Deny {
    /// HTTP status.
    pub status: u16,
    /// Response body.
    pub body: String,
    /// Response headers.
    pub headers: Vec<Header>,
    /// Envoy dynamic metadata.
    pub metadata: Vec<(String, Value)>,
}

/// A header field, name in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Name, in lower case.
    pub name: String,
    /// Value.
    pub value: String,
}

crate::listed_enum! {
    /// Why a decision came out as it did. The codes are stable: dashboards and alerts name them.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Reason: code {
        /// The policy, or a route that needs none, let the request pass.
        Allowed = "allowed",
        /// A CORS preflight, which carries no credentials by specification: answered here, or
        /// passed to the upstream if so configured.
        CorsPreflight = "cors_preflight",
        /// A CORS preflight of an origin whose pages may not call.
        OriginNotAllowed = "origin_not_allowed",
        /// The route requires a token and the request has none.
        MissingToken = "missing_token",
        /// The token, or the way it was sent, is not acceptable.
        InvalidToken = "invalid_token",
        /// The token is bound to a key of its client, and the proof that the client has the key is missing
        /// or not acceptable (RFC 9449).
        InvalidProof = "invalid_proof",
        /// The same proof would do with the nonce that the answer has (RFC 9449 section 9).
        NonceNeeded = "nonce_needed",
        /// The token is blacklisted.
        TokenRevoked = "token_revoked",
        /// The token has a claim for an identity header that cannot be written into one, and the
        /// route does not leave it out.
        UnusableClaim = "unusable_claim",
        /// The policy denied the request.
        PolicyDenied = "policy_denied",
        /// No route matches.
        NoRoute = "no_route",
        /// The request cannot be read: undecodable message, missing parts.
        MalformedRequest = "malformed_request",
        /// The path can be read in two ways.
        AmbiguousPath = "ambiguous_path",
        /// The host can be taken for two hosts.
        AmbiguousHost = "ambiguous_host",
        /// The request is larger than the configured limit.
        RequestTooLarge = "request_too_large",
        /// Portcullis does not have everything it needs to decide: it is starting, or its blacklist
        /// is too old.
        NotReady = "not_ready",
        /// The store of revoked tokens had to be queried and did not answer.
        StoreUnavailable = "store_unavailable",
        /// A request to reload the revocations, which has succeeded.
        CacheRefreshed = "cache_refreshed",
        /// A request to reload the revocations failed: their source does not answer.
        RefreshFailed = "refresh_failed",
        /// The policy did not answer in time.
        PolicyTimeout = "policy_timeout",
        /// The policy trapped, ran out of memory, or answered with an error or an invalid value.
        PolicyFailed = "policy_failed",
        /// The decision would have changed the request in a way that is not permitted.
        UnsafeDecision = "unsafe_decision",
        /// A fault of Portcullis itself.
        InternalError = "internal_error",
    }
}

// === impl Decision ===

impl Decision {
    /// The same decision, made for the route of this name.
    #[must_use]
    pub fn with_route(self, name: &Arc<str>) -> Self {
        Self { route: Some(Arc::clone(name)), ..self }
    }

    /// A deny with the status and the body that go with `reason`.
    #[must_use]
    pub fn deny(reason: Reason) -> Self {
        Self::new(Verdict::Deny(Deny::for_reason(reason)), reason)
    }

    /// A decision without route or revision.
    #[must_use]
    pub fn new(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, detail: None, route: None, revision: None }
    }

    /// The same decision with a more specific reason for logs.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Whether the request may pass.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self.verdict, Verdict::Allow(_))
    }
}

// === impl Deny ===

impl Deny {
    /// The standard answer for `reason`.
    #[must_use]
    pub fn for_reason(reason: Reason) -> Self {
        let challenge = match reason {
            // RFC 6750 section 3: the challenge names an error only if a token was sent.
            Reason::MissingToken => Some("Bearer"),
            Reason::InvalidToken => Some("Bearer error=\"invalid_token\""),
            Reason::InvalidProof => Some("DPoP error=\"invalid_dpop_proof\""),
            Reason::NonceNeeded => Some("DPoP error=\"use_dpop_nonce\""),
            _ => None,
        };
        Self {
            status: reason.status(),
            body: reason.message().to_owned(),
            headers: challenge
                .map(|value| Header {
                    name: "www-authenticate".to_owned(),
                    value: value.to_owned(),
                })
                .into_iter()
                .collect(),
            metadata: Vec::new(),
        }
    }
}

// === impl Reason ===

impl Reason {
    /// The HTTP status of a deny for this reason, unless the policy chose its own.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Allowed => 200,
            Self::MissingToken | Self::InvalidToken | Self::InvalidProof | Self::NonceNeeded => 401,
            Self::OriginNotAllowed
            | Self::TokenRevoked
            | Self::UnusableClaim
            | Self::PolicyDenied
            | Self::NoRoute => 403,
            Self::MalformedRequest | Self::AmbiguousPath | Self::AmbiguousHost => 400,
            Self::RequestTooLarge => 413,
            Self::NotReady | Self::RefreshFailed => 503,
            Self::CorsPreflight | Self::CacheRefreshed => 204,
            Self::StoreUnavailable
            | Self::PolicyTimeout
            | Self::PolicyFailed
            | Self::UnsafeDecision
            | Self::InternalError => 500,
        }
    }

    /// The response body of a deny for this reason, unless configuration or policy has another.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Allowed | Self::CorsPreflight | Self::CacheRefreshed => "",
            Self::OriginNotAllowed => "origin not allowed",
            Self::MissingToken => "missing token",
            Self::InvalidToken => "invalid token",
            Self::InvalidProof => "invalid proof",
            Self::NonceNeeded => "nonce needed",
            Self::TokenRevoked => "token revoked",
            Self::UnusableClaim | Self::PolicyDenied | Self::NoRoute => "access denied",
            Self::MalformedRequest => "malformed request",
            Self::AmbiguousPath => "ambiguous path",
            Self::AmbiguousHost => "ambiguous host",
            Self::RequestTooLarge => "request too large",
            Self::NotReady => "authorization is not ready",
            Self::RefreshFailed => "revocations cannot be read",
            Self::StoreUnavailable
            | Self::PolicyTimeout
            | Self::PolicyFailed
            | Self::UnsafeDecision
            | Self::InternalError => "internal authorization error",
        }
    }
}
