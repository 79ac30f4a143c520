//! Owns why a token is not accepted.
//!
//! The texts name what the configuration says, never what the token says: tokens are written by
//! whoever sends them, and what is in them must not reach a log.

use std::sync::Arc;

use super::parse::MAX_TOKEN_BYTES;

/// A token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is larger than any honest one.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLarge,
    /// The token is not a signed JWT in compact form (RFC 7519 section 3, RFC 7515 section 7.1).
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The token's header asks for something that must be understood and is not.
    #[error("`{0}` in the token's header is not supported")]
    UnsupportedHeader(&'static str),
    /// The token's `alg` is `none`, or not among the supported ones.
    #[error("the token's algorithm is not supported")]
    UnsupportedAlgorithm,
    /// The token's `iss` is not that of an issuer that the route accepts.
    #[error("the token's issuer is not one that is accepted here")]
    UnknownIssuer,
    /// The issuer has no key for this token.
    #[error("the token's issuer has no such key")]
    UnknownKey,
    /// The key for this token verifies another algorithm than the token's `alg`.
    #[error("the token's algorithm is not the one that is configured for its key")]
    WrongAlgorithm,
    /// The signature does not match.
    #[error("the token's signature does not match")]
    BadSignature,
    /// `exp` is over, and so is the leeway.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is further ahead than the leeway.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `aud` names no configured audience.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// A claim that the configuration requires is missing or null.
    #[error("the token lacks the claim `{0}`")]
    MissingClaim(Arc<str>),
    /// A claim has a type or a value that it must not have.
    #[error("the token's claim `{0}` has a wrong type or value")]
    MalformedClaim(&'static str),
    /// A scope that the configuration requires is missing.
    #[error("the token lacks the scope `{0}`")]
    MissingScope(Arc<str>),
    /// The token was issued for another use, such as refreshing.
    #[error("the token is of another type than those that are accepted")]
    WrongTokenType,
}

impl VerifyError {
    /// The stable code for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::UnsupportedHeader(_) => "unsupported_header",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnknownIssuer => "unknown_issuer",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim(_) => "missing_claim",
            Self::MalformedClaim(_) => "malformed_claim",
            Self::MissingScope(_) => "missing_scope",
            Self::WrongTokenType => "wrong_token_type",
        }
    }
}
