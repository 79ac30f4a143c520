//! Token verification: everything from the value of an `Authorization` header to a verified token.
//!
//! It knows neither routes nor the blacklist. It fetches nothing: keys come from files that the
//! configuration names, never from where a token says.

mod bearer;
mod build;
mod claims;
mod config;
mod header_type;
mod issuer;
mod jwks;
mod key;
mod key_fault;
mod key_file;
mod memory;
pub mod parse;
mod reload;
mod setting;
mod strength;
mod sweep;
#[cfg(test)]
mod tests;
mod unverified;
mod verifier;
mod verify_error;
mod watched_file;

pub use self::{
    bearer::{BearerError, bearer, is_other_scheme, other_scheme},
    build::{BuildError, build, warnings},
    claims::VerifiedToken,
    config::{
        Algorithm, Config, IssuerConfig, JwksFile, KeyConfig, PemFile, SecretFile, TokenTypeConfig,
    },
    key_fault::{JsonFault, KeyFault, LoadKeysError},
    reload::KeyReloader,
    sweep::forget_expired,
    unverified::UnverifiedToken,
    verifier::{IssuerSet, IssuerSetError, Verifier},
    verify_error::{Shown, VerifyError},
};
