//! Token verification: everything from the credentials of a request to a verified token.
//!
//! It knows neither routes nor the blacklist. Keys come from the sources that the
//! configuration names, never from a place that a token names.

mod algorithm;
mod bearer;
mod build;
mod build_error;
mod claims;
mod config;
mod credential;
mod header_type;
mod issuer;
mod jwks;
mod key;
mod key_config;
mod key_fault;
mod key_file;
mod key_source;
mod logout;
mod memory;
pub mod parse;
mod possession;
mod preset;
mod reload;
mod remote;
mod report;
mod security_event;
mod setting;
mod strength;
mod sweep;
#[cfg(test)]
mod tests;
mod token_text;
mod unverified;
mod verifier;
mod verify_error;
mod watched_source;

pub(crate) use self::possession::{BoundRequest, DPOP, PROOF_ALGORITHMS, TokenScheme};
pub use self::{
    algorithm::Algorithm,
    bearer::{BearerError, is_other_scheme},
    build::{build, fetch_once, possession, warnings},
    build_error::TokenBuildError,
    claims::VerifiedToken,
    config::{FetchConfig, IssuerConfig, ReportConfig, TokenTypeConfig, TokensConfig},
    credential::{AUTHORIZATION, CookieCredential, Credential, HeaderCredential, QueryCredential},
    key_config::{DiscoveredKeys, JwksFile, KeyConfig, KeysUrl, PemFile, SecretFile},
    key_fault::{JsonFault, KeyFault, LoadKeysError},
    possession::{
        CertificateFault, DpopConfig, DpopNonceConfig, Origin, Possession, PossessionError,
        PossessionFault, Proof, ProofFault, SenderConstrainedConfig, XfccConfig,
        forwarded_certificate,
    },
    preset::IssuerPreset,
    reload::KeyReloader,
    remote::RemoteSetupError,
    report::{Ended, Report, ReportKind, ReportOutcome, ReportRefusal, ReportScope, ReportedEvent},
    sweep::forget_expired,
    unverified::UnverifiedToken,
    verifier::{IssuerSet, IssuerSetError, IssuerStatus, KeysFetched, Verifier},
    verify_error::{Shown, VerifyError},
};
