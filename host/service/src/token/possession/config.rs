//! Settings of tokens that are bound to a key of their client: how the client proves that it has the key.

use std::path::PathBuf;

use portcullis_types::{
    duration::{HumanDuration, longer_than_zero},
    secret::ReadSecretError,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How tokens of an issuer may be bound to a key of their client (claim `cnf`), so that a stolen token is
/// of no use without the key. At least one of `dpop` and `mtls` is needed. A token that is bound in a way
/// that is not listed here is refused, and so is one that is bound in several ways of which one is not
/// proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "SenderConstrained")]
pub struct SenderConstrainedConfig {
    /// Accepts tokens that are bound to a key by `cnf.jkt`, if the request has `authorization: DPoP TOKEN`
    /// and one `DPoP` header with a proof for this request (RFC 9449). `tokens.dpop` says how proofs are
    /// checked.
    pub dpop: bool,
    /// Accepts tokens that are bound to a certificate by `cnf.x5t#S256`, if the client has connected with
    /// that certificate (RFC 8705). Over gRPC, Envoy passes it with `include_peer_certificate: true`; see
    /// `tokens.x_forwarded_client_cert` for others.
    pub mtls: bool,
    /// Refuses tokens of this issuer that are not bound.
    pub required: bool,
}

/// How `DPoP` proofs are checked (RFC 9449).
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Dpop")]
pub struct DpopConfig {
    /// How far the `iat` of a proof may be away from the time at which it arrives, in either direction: the
    /// clocks of clients differ. At most 10m. Each proof is accepted once at each replica.
    #[serde(deserialize_with = "longer_than_zero")]
    pub window: HumanDuration,
    /// How many proofs are remembered, so that none is accepted twice; at most a tenth of them with one key. A
    /// proof is remembered until its window is over, so this must be more than the requests of two windows,
    /// or requests are denied with `not_ready`. 1,000,000 take at most 100 MB.
    pub remembered_proofs: usize,
    /// The origins by which clients reach the services, such as `https://api.example.com:8443`. Without it,
    /// it is `https` and the host and port of the request. Needed where Envoy does not see the
    /// client's host and port, or for `http`.
    pub origins: Vec<String>,
    /// Has clients put a nonce of Portcullis into their proofs (RFC 9449 section 9), so that none can be made
    /// long before it is used.
    pub nonce: Option<DpopNonceConfig>,
}

/// Nonces of `DPoP` proofs.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DpopNonce")]
pub struct DpopNonceConfig {
    /// The file with the secret from which nonces are made, at least 32 bytes; the same for all replicas.
    pub secret_file: PathBuf,
    /// A nonce is given out for this long, and accepted for as long again. At least 1s.
    #[serde(default = "default_nonce_lasts")]
    pub lasts: HumanDuration,
}

/// The header `x-forwarded-client-cert`, in which a proxy says with which certificate the client has
/// connected. It is read in place of the certificate of the connection.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "XForwardedClientCert")]
pub struct XfccConfig {
    /// How many elements the header must have: one for each proxy that has added its own, the first of which
    /// is about the client. The first proxy must replace what a client sends (`SANITIZE_SET`), each further
    /// one add to it (`APPEND_FORWARD`).
    pub elements: usize,
    /// The proxies from which the header is accepted, by the identity in the certificate with which they
    /// connect to the Envoy that asks, such as `spiffe://cluster.local/ns/istio-system/sa/gateway`. Needed
    /// for several elements. Empty: the Envoy that asks writes or checks the header itself.
    pub trusted_peers: Vec<String>,
}

/// What tokens are bound to cannot be checked as configured.
#[derive(Debug, thiserror::Error)]
pub enum PossessionError {
    /// Settings of proofs, and no issuer that accepts any.
    #[error(
        "tokens.dpop: has no effect, since no issuer has `sender_constrained.dpop: true`; leave it out"
    )]
    NoProofs,
    /// Settings of certificates, and no issuer that accepts any.
    #[error(
        "tokens.x_forwarded_client_cert: has no effect, since no issuer has \
         `sender_constrained.mtls: true`; leave it out"
    )]
    NoCertificates,
    /// A setting that makes no sense.
    #[error("tokens.{setting}: {problem}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it, and the remedy.
        problem: &'static str,
    },
    /// The secret of nonces cannot be read.
    #[error("tokens.dpop.nonce.secret_file: {0}")]
    NonceSecret(#[from] ReadSecretError),
}

fn default_nonce_lasts() -> HumanDuration {
    HumanDuration::from_millis(5 * 60_000)
}

impl Default for DpopConfig {
    fn default() -> Self {
        Self {
            window: HumanDuration::from_millis(60_000),
            remembered_proofs: 1_000_000,
            origins: Vec::new(),
            nonce: None,
        }
    }
}

impl Default for XfccConfig {
    fn default() -> Self {
        Self { elements: 1, trusted_peers: Vec::new() }
    }
}
