//! Owns what the authorizer hands to a policy, in plain types.

use serde_json::{Map, Value};

use crate::attributes::{Body, Headers, Peer};

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

/// A verified caller. `Debug` names the claims without their values.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// All claims of the token.
    pub claims: &'a Map<String, Value>,
    /// The token's scopes.
    pub scopes: &'a [String],
    /// Claim `exp` in seconds since the epoch.
    pub expires_at: Option<i64>,
}

impl std::fmt::Debug for Identity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.claims.keys()).finish()
    }
}
