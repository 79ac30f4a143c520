//! Owns everything from the value of an `Authorization` header to a verified token.
//!
//! It knows neither routes nor the blacklist. It fetches nothing: keys come from files that the
//! configuration names, never from where a token says.

mod bearer;
mod build;
mod claims;
mod config;
mod issuer;
mod jwks;
mod key;
mod key_fault;
mod key_file;
pub mod parse;
mod reload;
mod strength;
#[cfg(test)]
mod tests;
mod unverified;
mod verifier;
mod verify_error;

pub use self::{
    bearer::{BearerError, bearer},
    build::{BuildError, build},
    claims::VerifiedToken,
    config::{
        Algorithm, Config, IssuerConfig, JwksFile, KeyConfig, PemFile, SecretFile, TokenTypeConfig,
    },
    key::DuplicateKidError,
    key_fault::{KeyFault, LoadKeysError},
    reload::KeyReloader,
    unverified::UnverifiedToken,
    verifier::{IssuerSet, IssuerSetError, Verifier},
    verify_error::VerifyError,
};
