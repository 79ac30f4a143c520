//! Reports of issuers: signed tokens that say which of the issuer's own tokens have ended.
//!
//! There are two kinds: logout tokens and security event tokens. The issuer signs them with keys that it
//! has for access tokens too. No kind is ever taken for another.

use std::{fmt, time::Duration};

use portcullis_types::timestamp::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    claims::{check_audience, present},
    parse::Jws,
    verify_error::{Shown, VerifyError},
};

/// The claims that a report must have, beside `iss`, `events` and whose tokens it ends.
const REQUIRED: [&str; 3] = ["aud", "iat", "jti"];

portcullis_types::listed_enum! {
    /// A kind of report, by the section of an issuer that accepts it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ReportKind: section {
        /// A logout token (`OpenID` Connect Back-Channel Logout 1.0).
        Logout = "backchannel_logout",
        /// A security event token (RFC 8417) of Shared Signals.
        SecurityEvent = "security_events",
    }
}

/// What a report ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReportScope {
    /// The session, by the `sid` of the report, whenever its tokens are issued; or, without one, all
    /// tokens of the subject. Only where access tokens have `sid`, as those of Keycloak: a token without
    /// it goes on.
    Session,
    /// All tokens of the subject that were issued until then, in other sessions too. For issuers whose
    /// access tokens have no `sid`, as those of Auth0.
    Subject,
}

/// Which reports of an issuer are accepted.
#[derive(Debug)]
pub(super) struct ReportRules {
    pub(super) audiences: Vec<String>,
    pub(super) ends: ReportScope,
    pub(super) lasts: Option<Duration>,
}

/// A report whose signature and claims were verified.
///
/// It can only be obtained from [`Verifier::verify_report`](super::Verifier::verify_report). `Debug`
/// shows none of its names.
pub struct Report {
    /// The name under which the configuration knows the issuer.
    pub issuer_name: String,
    /// `iss`: what the issuer calls itself.
    pub issuer: String,
    /// What has happened.
    pub event: ReportedEvent,
    /// How long the revocation lasts, if the configuration says it.
    pub lasts: Option<Duration>,
}

/// What has happened at an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedEvent {
    /// Its name in a specification.
    pub name: &'static str,
    /// Which tokens end.
    pub outcome: ReportOutcome,
    /// When, by the clock of the issuer. Tokens of a subject end that were issued until then.
    pub at: Timestamp,
}

/// What a report means for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportOutcome {
    /// These tokens end. There is at least one.
    Ends(Vec<Ended>),
    /// No token ends by such an event.
    Nothing,
    /// Tokens would end, and the report names them by something that no token has.
    Unmatched,
}

/// Tokens that end.
#[derive(Clone, PartialEq, Eq)]
pub enum Ended {
    /// The one with this `jti`.
    Token(String),
    /// Those of the session with this `sid`.
    Session(String),
    /// Those of this subject.
    Subject(String),
}

/// A report is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportRefusal {
    /// It is no report that an issuer has signed: anyone can send an access token.
    Unproven(VerifyError),
    /// The issuer has signed a report, and it is not acceptable.
    Rejected {
        /// The name under which the configuration knows the issuer.
        issuer: String,
        /// What is wrong.
        cause: VerifyError,
    },
}

// === impl ReportKind ===

impl ReportKind {
    /// The types that the header of a report may name, in comparable form; or none, as many issuers
    /// write it.
    const fn types(self) -> [&'static str; 2] {
        match self {
            Self::Logout => ["logout+jwt", "jwt"],
            Self::SecurityEvent => ["secevent+jwt", "jwt"],
        }
    }
}

// === impl ReportRules ===

impl ReportRules {
    /// Checks what distinguishes an acceptable report of a kind, but for its event.
    pub(super) fn check(&self, kind: ReportKind, jws: &Jws<'_>) -> Result<(), VerifyError> {
        let media_type = jws.header.media_type.as_deref();
        if media_type.is_some_and(|named| !kind.types().contains(&named)) {
            return Err(VerifyError::WrongHeaderType(Shown::or_absent(media_type)));
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
}

// === impl ReportRefusal ===

impl ReportRefusal {
    /// What is wrong with the token.
    #[must_use]
    pub const fn cause(&self) -> &VerifyError {
        let (Self::Unproven(cause) | Self::Rejected { cause, .. }) = self;
        cause
    }
}

// === impl Report ===

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("issuer_name", &self.issuer_name)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

// === impl ReportedEvent ===

impl ReportedEvent {
    /// The same with what the same event under another name ends.
    pub(super) fn joined(mut self, other: ReportOutcome, at: Timestamp) -> Self {
        self.at = self.at.max(at);
        self.outcome = match (self.outcome, other) {
            (ReportOutcome::Ends(mut ended), ReportOutcome::Ends(more)) => {
                ended.extend(more);
                ReportOutcome::Ends(ended)
            }
            (ReportOutcome::Ends(ended), _) | (_, ReportOutcome::Ends(ended)) => {
                ReportOutcome::Ends(ended)
            }
            (ReportOutcome::Nothing, other) => other,
            (ReportOutcome::Unmatched, _) => ReportOutcome::Unmatched,
        };
        self
    }
}

// === impl Ended ===

impl Ended {
    /// What ends, for logs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Session(_) => "session",
            Self::Subject(_) => "subject",
        }
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}([redacted])", self.kind())
    }
}
