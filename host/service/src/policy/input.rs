//! Policy input: what the authorizer hands to a policy, in plain types.

use portcullis_types::{
    attributes::{Body, HeaderView, Headers, Peer},
    json::JsonObject,
};
use serde_json::{Map, Value};

/// Everything a policy may ask to see. The manifest decides what of it crosses over.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Name of the route.
    pub route: &'a str,
    /// HTTP method; empty for a raw connection.
    pub method: &'a str,
    /// `http`, `https`, or `tcp`.
    pub scheme: &'a str,
    /// Host without port, in lower case.
    pub host: &'a str,
    /// Canonical path.
    pub path: &'a str,
    /// Path and query as sent.
    pub raw_path: &'a str,
    /// Query without the question mark.
    pub query: Option<&'a str>,
    /// Header fields.
    pub headers: &'a Headers,
    /// Which header fields those are.
    pub header_view: HeaderView,
    /// Envoy's `context_extensions`.
    pub context: &'a [(String, String)],
    /// Envoy's filter metadata by namespace.
    pub metadata: &'a Map<String, Value>,
    /// The verified caller.
    pub identity: Option<Identity<'a>>,
    /// The downstream peer.
    pub source: &'a Peer,
    /// The body, as far as it was passed.
    pub body: Option<&'a Body>,
}

/// A copy of an input, for a thread other than the request's.
#[derive(Debug)]
pub(super) struct OwnedInput {
    route: String,
    method: String,
    scheme: String,
    host: String,
    path: String,
    raw_path: String,
    query: Option<String>,
    headers: Headers,
    header_view: HeaderView,
    context: Vec<(String, String)>,
    metadata: Map<String, Value>,
    identity: Option<OwnedIdentity>,
    source: Peer,
    body: Option<Body>,
}

struct OwnedIdentity {
    claims: JsonObject,
    issuer: Option<String>,
    subject: Option<String>,
    token_id: Option<String>,
    scopes: String,
    expires_at: Option<i64>,
}

/// A verified caller. `Debug` names the claims without their values.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// All claims of the token.
    pub claims: &'a JsonObject,
    /// Claim `sub`.
    pub subject: Option<&'a str>,
    /// Claim `iss`.
    pub issuer: Option<&'a str>,
    /// Claim `jti`.
    pub token_id: Option<&'a str>,
    /// The token's scopes, separated by spaces.
    pub scopes: &'a str,
    /// Claim `exp` in seconds since the epoch.
    pub expires_at: Option<i64>,
}

impl std::fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.claims.members().iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl std::fmt::Debug for OwnedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.claims.members().iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

// === impl OwnedInput ===

impl From<&Input<'_>> for OwnedInput {
    fn from(input: &Input<'_>) -> Self {
        Self {
            route: input.route.to_owned(),
            method: input.method.to_owned(),
            scheme: input.scheme.to_owned(),
            host: input.host.to_owned(),
            path: input.path.to_owned(),
            raw_path: input.raw_path.to_owned(),
            query: input.query.map(str::to_owned),
            headers: input.headers.clone(),
            header_view: input.header_view,
            context: input.context.to_vec(),
            metadata: input.metadata.clone(),
            identity: input.identity.map(|who| OwnedIdentity {
                claims: who.claims.clone(),
                issuer: who.issuer.map(str::to_owned),
                subject: who.subject.map(str::to_owned),
                token_id: who.token_id.map(str::to_owned),
                scopes: who.scopes.to_owned(),
                expires_at: who.expires_at,
            }),
            source: input.source.clone(),
            body: input.body.cloned(),
        }
    }
}

impl OwnedInput {
    /// The same input, borrowed.
    pub(super) fn as_input(&self) -> Input<'_> {
        Input {
            route: &self.route,
            method: &self.method,
            scheme: &self.scheme,
            host: &self.host,
            path: &self.path,
            raw_path: &self.raw_path,
            query: self.query.as_deref(),
            headers: &self.headers,
            header_view: self.header_view,
            context: &self.context,
            metadata: &self.metadata,
            identity: self.identity.as_ref().map(|who| Identity {
                claims: &who.claims,
                issuer: who.issuer.as_deref(),
                subject: who.subject.as_deref(),
                token_id: who.token_id.as_deref(),
                scopes: &who.scopes,
                expires_at: who.expires_at,
            }),
            source: &self.source,
            body: self.body.as_ref(),
        }
    }
}
