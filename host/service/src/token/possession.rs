//! Possession of the key that a token is bound to: `DPoP` proofs (RFC 9449) and certificates of clients
//! (RFC 8705).
//!
//! It is checked for each request, whether the token was remembered or not.

mod binding;
mod certificate;
mod config;
mod nonce;
mod origin;
mod proof;
mod replay;
mod xfcc;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use binding::Binding;
pub(super) use binding::BindingRules;
use certificate::CertificateSource;
pub use certificate::{CertificateFault, of_header as forwarded_certificate};
pub use config::{
    DpopConfig, DpopNonceConfig, PossessionError, SenderConstrainedConfig, XfccConfig,
};
use nonce::Nonces;
pub use origin::Origin;
use portcullis_types::{
    attributes::{HttpAttributes, Peer},
    secret::Secret,
    timestamp::Timestamp,
};
pub(crate) use proof::{ALGORITHMS as PROOF_ALGORITHMS, DPOP};
use proof::{NotProven, Proofs, Proven};
pub use proof::{Proof, ProofFault};

use super::{claims::VerifiedToken, verify_error::VerifyError};

/// The shortest secret of nonces: as long as the hash that is made with it.
const SHORTEST_SECRET: usize = 32;

/// Checks that requests come from the clients that their tokens are bound to. Clones share the memory of
/// proofs.
#[derive(Debug, Clone)]
pub struct Possession {
    shared: Arc<PossessionState>,
}

#[derive(Debug)]
struct PossessionState {
    /// By the name of the issuer.
    rules: BTreeMap<String, BindingRules>,
    /// `None` if no issuer has bound tokens: nothing is to be done for any request.
    checks: Option<PossessionChecks>,
    origins: Vec<Origin>,
}

#[derive(Debug)]
struct PossessionChecks {
    /// `None` if no issuer accepts proofs.
    proofs: Option<Proofs>,
    certificates: CertificateSource,
}

/// The scheme with which a token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenScheme {
    /// `Bearer`, or none at all.
    Bearer,
    /// `DPoP`.
    Dpop,
}

/// A request with a token, as far as the binding of the token is about it.
pub(crate) struct BoundRequest<'a> {
    /// The token, as it was sent.
    pub(crate) token: &'a str,
    /// How it was sent.
    pub(crate) scheme: TokenScheme,
    /// The request.
    pub(crate) http: &'a HttpAttributes,
    /// The client's end of the connection.
    pub(crate) source: &'a Peer,
    /// Whether a URI is that of the request.
    pub(crate) is_target: &'a dyn Fn(&str) -> bool,
}

/// The request does not show that it comes from the client that its token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PossessionFault {
    /// The token is not bound as it must be.
    Token(VerifyError),
    /// The client has not connected with the certificate of the token.
    Certificate(CertificateFault),
    /// The proof is missing or bad.
    Proof(ProofFault),
    /// The proof needs this nonce.
    NonceNeeded(String),
    /// So many proofs are remembered that no other one can be accepted now.
    Full,
}

// === impl Possession ===

impl Possession {
    /// From the rules of all issuers, and the settings of proofs and certificates.
    pub(super) fn new(
        rules: BTreeMap<String, BindingRules>,
        dpop: Option<&DpopConfig>,
        xfcc: Option<&XfccConfig>,
    ) -> Result<Self, PossessionError> {
        let proofs = match (rules.values().any(|rules| rules.checks_proofs()), dpop) {
            (false, Some(_)) => return Err(PossessionError::NoProofs),
            (false, None) => None,
            (true, config) => Some(proofs(&config.cloned().unwrap_or_default())?),
        };
        let has_certificates = rules.values().any(|rules| rules.checks_certificates());
        if !has_certificates && xfcc.is_some() {
            return Err(PossessionError::NoCertificates);
        }
        let certificates = CertificateSource::new(xfcc)?;
        let is_on = proofs.is_some() || has_certificates;
        let checks = is_on.then_some(PossessionChecks { proofs, certificates });
        let origins = dpop.map_or(&[] as &[_], |dpop| &dpop.origins).iter();
        let origins = origins.map(|text| Origin::parse(text)).collect::<Option<_>>();
        let origins = origins.ok_or(PossessionError::Setting {
            setting: "dpop.origins",
            problem: "lists something that is no origin; write scheme and host, and the port if it is \
                      not the usual one, such as https://api.example.com:8443, without a slash at the end",
        })?;
        Ok(Self { shared: Arc::new(PossessionState { rules, checks, origins }) })
    }

    /// The origins by which clients reach the services; that of the request if there are none.
    #[must_use]
    pub fn origins(&self) -> &[Origin] {
        &self.shared.origins
    }

    /// How many proofs are remembered; `None` if none are checked.
    #[must_use]
    pub fn remembered_proofs(&self) -> Option<usize> {
        let proofs = self.shared.checks.as_ref()?.proofs.as_ref()?;
        Some(proofs.remembered())
    }

    /// Whether tokens of the issuer may be bound to the key of proofs, which are checked.
    #[must_use]
    pub fn checks_proofs(&self, issuer: &str) -> bool {
        self.rules(issuer).checks_proofs()
    }

    /// Whether something before Portcullis checks what tokens of the issuer are bound to.
    #[must_use]
    pub fn is_unchecked(&self, issuer: &str) -> bool {
        self.rules(issuer) == BindingRules::Unchecked
    }

    /// Whether a token of the issuer may be sent with the scheme `Bearer`.
    #[must_use]
    pub fn accepts_bearer(&self, issuer: &str) -> bool {
        self.rules(issuer).accepts_bearer()
    }

    fn rules(&self, issuer: &str) -> BindingRules {
        self.shared.rules.get(issuer).copied().unwrap_or_default()
    }

    /// Checks that the request comes from the client that the token is bound to. A token that is bound to
    /// nothing is any client's, but for the scheme `DPoP`, which says that it is bound.
    ///
    /// # Errors
    /// When that does not show.
    pub(crate) fn check(
        &self,
        token: &VerifiedToken,
        request: &BoundRequest<'_>,
        now: Timestamp,
    ) -> Result<(), PossessionFault> {
        let Some(checks) = &self.shared.checks else { return Ok(()) };
        let rules = self.rules(token.issuer_name());
        let binding = rules.read(token.claims()).map_err(PossessionFault::Token)?;
        let Some(Binding { key, certificate }) = binding else {
            let is_bearer = request.scheme == TokenScheme::Bearer;
            let is_accepted = is_bearer || rules == BindingRules::Unchecked;
            let unbound = PossessionFault::Token(VerifyError::NotSenderConstrained);
            return if is_accepted { Ok(()) } else { Err(unbound) };
        };
        if let Some(certificate) = certificate {
            let checked = checks.certificates.check(&certificate, request.http, request.source);
            checked.map_err(PossessionFault::Certificate)?;
        }
        match (key, request.scheme, &checks.proofs) {
            (None, TokenScheme::Bearer, _) => Ok(()),
            (None, TokenScheme::Dpop, _) => {
                Err(PossessionFault::Token(VerifyError::NotSenderConstrained))
            }
            (Some(key), TokenScheme::Dpop, Some(proofs)) => {
                let proven = Proven {
                    key: &key,
                    token: request.token,
                    method: &request.http.method,
                    is_target: request.is_target,
                };
                Ok(proofs.check(request.http.headers.all(DPOP), &proven, now)?)
            }
            (Some(_), _, _) => Err(PossessionFault::Token(VerifyError::SenderConstrained)),
        }
    }
}

fn proofs(config: &DpopConfig) -> Result<Proofs, PossessionError> {
    let wrong = |setting, problem| Err(PossessionError::Setting { setting, problem });
    let nonces = match &config.nonce {
        None => None,
        Some(nonce) if nonce.lasts.get() < Duration::from_secs(1) => {
            return wrong("dpop.nonce.lasts", "must be at least 1s, such as 5m");
        }
        Some(nonce) => {
            let secret = Secret::read(&nonce.secret_file)?;
            if secret.expose().len() < SHORTEST_SECRET {
                let problem = "has fewer than 32 bytes; write a random secret of 32 bytes or more";
                return wrong("dpop.nonce.secret_file", problem);
            }
            Some(Nonces::new(&secret, nonce.lasts.get()))
        }
    };
    Proofs::new(config, nonces)
}

// === impl PossessionFault ===

impl From<NotProven> for PossessionFault {
    fn from(cause: NotProven) -> Self {
        match cause {
            NotProven::Fault(fault) => Self::Proof(fault),
            NotProven::NonceNeeded(nonce) => Self::NonceNeeded(nonce),
            NotProven::Full => Self::Full,
        }
    }
}
