//! Logout tokens: which ones an issuer's are, and whose tokens they end (`OpenID` Connect Back-Channel
//! Logout 1.0 sections 2.4 and 2.6).
//!
//! The issuer signs them with keys that it has for access tokens too. Neither kind is ever taken for the
//! other.

use std::{fmt, time::Duration};

use portcullis_types::{
    duration::HumanDuration,
    json::{JsonObject, JsonRef},
    timestamp::Timestamp,
};

use super::{
    claims::{VerifiedToken, check_audience, present},
    config::{LogoutConfig, LogoutScope},
    parse::Jws,
    verify_error::{Shown, VerifyError},
};

/// The member of `events` that makes a token a logout token.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// The types that its header may name, in comparable form; or none, as many issuers write it.
const TYPES: [&str; 2] = ["logout+jwt", "jwt"];
/// The claims that it must have, beside `iss`, `events`, and `sub` or `sid`.
const REQUIRED: [&str; 3] = ["aud", "iat", "jti"];
/// How long a token without `exp` is accepted after its `iat`: some issuers leave it out.
const LIFE_WITHOUT_EXPIRY: Duration = Duration::from_mins(5);

/// What an issuer's logout tokens must look like.
#[derive(Debug)]
pub(super) struct LogoutRules {
    audiences: Vec<String>,
    ends: LogoutScope,
    lasts: Option<Duration>,
}

/// A logout token whose signature and claims were verified.
///
/// It can only be obtained from [`Verifier::verify_logout`](super::Verifier::verify_logout). `Debug`
/// shows none of its names.
pub struct LogoutToken {
    /// The name under which the configuration knows the issuer.
    pub issuer_name: String,
    /// `iss`: what the issuer calls itself.
    pub issuer: String,
    /// Whose tokens end.
    pub ended: LoggedOut,
    /// `iat`: when, by the clock of the issuer.
    pub issued_at: Timestamp,
    /// How long the revocation lasts, if the configuration says it.
    pub lasts: Option<Duration>,
}

/// A logout token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogoutRefusal {
    /// It is no logout that an issuer has signed: anyone can send an access token.
    Unproven(VerifyError),
    /// The issuer has signed a logout, and it is not acceptable.
    Rejected {
        /// The name under which the configuration knows the issuer.
        issuer: String,
        /// What is wrong.
        cause: VerifyError,
    },
}

/// Whose tokens a logout ends.
#[derive(Clone, PartialEq, Eq)]
pub enum LoggedOut {
    /// Those of the session with this `sid`.
    Session(String),
    /// Those of this subject.
    Subject(String),
}

/// Whether a token says that it is a logout.
pub(super) fn check_event(claims: &JsonObject) -> Result<(), VerifyError> {
    let events = match present(claims, "events") {
        Some(JsonRef::Object(events)) => events,
        Some(_) => return Err(VerifyError::MalformedClaim("events")),
        None => return Err(VerifyError::MissingClaim("events".into())),
    };
    match events.get(LOGOUT) {
        Some(JsonRef::Object(_)) => Ok(()),
        Some(_) => Err(VerifyError::MalformedClaim("events")),
        None => Err(VerifyError::WrongTokenType("events".into())),
    }
}

// === impl LogoutRules ===

impl LogoutRules {
    pub(super) fn new(config: &LogoutConfig) -> Self {
        Self {
            audiences: config.audiences.clone(),
            ends: config.ends,
            lasts: config.lasts.map(HumanDuration::get),
        }
    }

    /// Checks everything that distinguishes an acceptable logout token.
    pub(super) fn check(&self, jws: &Jws<'_>) -> Result<(), VerifyError> {
        let kind = jws.header.media_type.as_deref();
        if kind.is_some_and(|kind| !TYPES.contains(&kind)) {
            return Err(VerifyError::WrongHeaderType(Shown::or_absent(kind)));
        }
        let claims = &jws.claims;
        for claim in REQUIRED {
            present(claims, claim).ok_or_else(|| VerifyError::MissingClaim(claim.into()))?;
        }
        check_audience(claims, &self.audiences)?;
        // So that it is never an ID token.
        if claims.get("nonce").is_some() {
            return Err(VerifyError::MalformedClaim("nonce"));
        }
        Ok(())
    }

    /// Reads what a token says that was checked before.
    pub(super) fn read(
        &self,
        token: &VerifiedToken,
        now: Timestamp,
    ) -> Result<LogoutToken, VerifyError> {
        let missing = |claim: &str| VerifyError::MissingClaim(claim.into());
        let issued_at = token.issued_at().ok_or_else(|| missing("iat"))?;
        let end = issued_at.plus(LIFE_WITHOUT_EXPIRY).plus(token.leeway());
        if token.expires_at().is_none() && now >= end {
            return Err(VerifyError::TooOld);
        }
        let session_id = token.session_id().filter(|_| self.ends == LogoutScope::Session);
        let ended = match (session_id, token.subject()) {
            (Some(session_id), _) => LoggedOut::Session(session_id.to_owned()),
            (None, Some(subject)) => LoggedOut::Subject(subject.to_owned()),
            (None, None) => return Err(missing("sub")),
        };
        let issuer = token.issuer().ok_or_else(|| missing("iss"))?.to_owned();
        let issuer_name = token.issuer_name().to_owned();
        Ok(LogoutToken { issuer_name, issuer, ended, issued_at, lasts: self.lasts })
    }
}

// === impl LogoutRefusal ===

impl LogoutRefusal {
    /// What is wrong with the token.
    #[must_use]
    pub const fn cause(&self) -> &VerifyError {
        let (Self::Unproven(cause) | Self::Rejected { cause, .. }) = self;
        cause
    }
}

// === impl LogoutToken ===

impl fmt::Debug for LogoutToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogoutToken")
            .field("issuer_name", &self.issuer_name)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

// === impl LoggedOut ===

impl LoggedOut {
    /// What has ended, for logs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
        }
    }
}

impl fmt::Debug for LoggedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}([redacted])", self.kind())
    }
}
