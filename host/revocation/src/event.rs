//! Events of the blacklist, and their JSON form on the wire.
//!
//! The parser is tolerant where that cannot un-revoke a token: unknown fields are ignored and every
//! known way to write a time is read. It never guesses: an unknown message is an error, which the
//! caller counts and dead-letters. Errors name the wrong field, never its value.

pub(crate) mod cutoff;
pub(crate) mod extent;
mod presented_token;
mod revocation;
mod unrevocation;
pub(crate) mod wire_time;

use portcullis_types::{
    json::{JsonObject, JsonRef, ParseJsonError},
    timestamp::Timestamp,
    token_id::TokenId,
};

pub(crate) use self::unrevocation::{Unrevocation, UnrevocationTarget};
pub use self::{
    cutoff::{BlankTargetError, Cutoff, CutoffKind},
    extent::Exception,
    presented_token::PresentedToken,
    revocation::{Lifetime, Revocation, Target},
    wire_time::{ParseTimeError, parse_time, write as write_time},
};
use self::{extent::Extent, wire_time::YEAR_10000};

/// A change of the blacklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// One token is revoked.
    Add {
        /// The token.
        token_id: TokenId,
        /// When the token expires by itself; never, if unknown.
        expires_at: Option<Timestamp>,
    },
    /// One token is no longer revoked.
    Unrevoke {
        /// The token.
        token_id: TokenId,
    },
    /// All tokens of a subject, session or issuer that were issued up to a certain time are
    /// revoked.
    CutOff {
        /// Whose tokens.
        cutoff: Cutoff,
        /// Tokens issued at this time or earlier are revoked.
        issued_before: Timestamp,
        /// A session whose tokens are revoked up to an earlier time only, if the cut-off is one of
        /// a subject.
        except: Option<Exception>,
        /// When the last of these tokens expires by itself; never, if unknown.
        expires_at: Option<Timestamp>,
    },
    /// A cut-off is lifted.
    LiftCutoff {
        /// Whose tokens.
        cutoff: Cutoff,
    },
}

/// The entry of the blacklist that an event changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum EntryKey {
    /// That of one token.
    Token(TokenId),
    /// That of a cut-off.
    Cutoff(Cutoff),
}

/// A message is not a blacklist event. It names fields, never their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseEventError {
    /// Not JSON, or JSON of another shape.
    #[error("the message is not a JSON object; send `{{\"type\": \"add\", \"jti\": ...}}`")]
    NotAnObject,
    /// Two readers could each use a different one of two values.
    #[error("a name occurs twice in the message, so that it could mean two things; send it once")]
    DuplicateName,
    /// The type is unknown.
    #[error("`type` is none of `add`, `remove`, `cutoff`, `lift`; leave it out to mean `add`")]
    UnknownType,
    /// No token id.
    #[error("`jti` is missing, blank or not a string; give the id of the token")]
    NoTokenId,
    /// A time that cannot be read.
    #[error("`{0}` is not a time; write RFC 3339 with an offset, or whole Unix seconds")]
    NotATime(&'static str),
    /// A cut-off without a target.
    #[error("a cut-off needs `sub`, `sid` or `iss`, each a string that is not blank")]
    NoCutoffTarget,
    /// A cut-off with two targets.
    #[error("a cut-off goes by `sub` or by `sid`, not by both; send two events")]
    TwoCutoffTargets,
    /// A cut-off without a time.
    #[error("`issued_before` is missing; a cut-off needs to know which tokens are old")]
    NoIssuedBefore,
    /// A cut-off whose excepted session is invalid.
    #[error(
        "`except_sid` is blank or not a string; give the session that goes on, or leave it out"
    )]
    NoExceptedSession,
    /// A cut-off of a session or an issuer that excepts a session.
    #[error("`except_sid` goes with `sub` only; leave it out, or cut off the subject")]
    ExceptionWithoutSubject,
    /// A cut-off in the far future would lock its subject out for ever.
    #[error("`issued_before` is after the year 9999; write seconds, not milliseconds")]
    IssuedBeforeTooLate,
}

/// The names under which publishers send the expiry, the preferred one first.
const EXPIRES_AT: [&str; 4] = ["expires_at", "expiry", "expire_at", "exp"];

// === impl Event ===

impl Event {
    /// Reads an event from JSON.
    ///
    /// # Errors
    /// When the message is not an event, or could be read as more than one.
    pub fn parse(message: &[u8]) -> Result<Self, ParseEventError> {
        Self::from_fields(&fields(message)?, None)
    }

    /// Reads an event from the fields of a JSON object, with `default` as `issued_before` of a
    /// cut-off that has none. A default is only for requests, which are made now: in a stored
    /// message that is read later, it would mean another time.
    pub(crate) fn from_fields(
        fields: &JsonObject,
        default: Option<Timestamp>,
    ) -> Result<Self, ParseEventError> {
        match fields.get("type").map(|value| value.as_str()) {
            None | Some(Some("add")) => {
                Ok(Self::Add { token_id: token_id(fields)?, expires_at: expires_at(fields)? })
            }
            Some(Some("remove")) => Ok(Self::Unrevoke { token_id: token_id(fields)? }),
            Some(Some("cutoff")) => {
                let cutoff = cutoff(fields)?;
                let extent =
                    Extent::new(issued_before(fields, default)?, exception(fields, cutoff)?);
                let (issued_before, except) = (extent.issued_before(), extent.except());
                Ok(Self::CutOff { cutoff, issued_before, except, expires_at: expires_at(fields)? })
            }
            Some(Some("lift")) => Ok(Self::LiftCutoff { cutoff: cutoff(fields)? }),
            Some(_) => Err(ParseEventError::UnknownType),
        }
    }

    /// Whether it revokes something.
    #[must_use]
    pub const fn revokes(&self) -> bool {
        matches!(self, Self::Add { .. } | Self::CutOff { .. })
    }

    /// The entry that it changes.
    pub(crate) const fn entry(&self) -> EntryKey {
        match self {
            Self::Add { token_id, .. } | Self::Unrevoke { token_id } => EntryKey::Token(*token_id),
            Self::CutOff { cutoff, .. } | Self::LiftCutoff { cutoff } => EntryKey::Cutoff(*cutoff),
        }
    }

    /// When the entry that it adds expires by itself; never, if unknown.
    pub(crate) const fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Add { expires_at, .. } | Self::CutOff { expires_at, .. } => *expires_at,
            Self::Unrevoke { .. } | Self::LiftCutoff { .. } => None,
        }
    }

    /// Which tokens of its target it covers, if it is a cut-off.
    pub(crate) fn extent(&self) -> Option<Extent> {
        let Self::CutOff { issued_before, except, .. } = *self else { return None };
        Some(Extent::new(issued_before, except))
    }

    /// Whether it revokes `token`. The expiry is not checked: an entry that the store returns has
    /// not expired.
    #[must_use]
    pub fn covers(&self, token: &PresentedToken<'_>) -> bool {
        match self {
            Self::Add { token_id, .. } => token.token_id == Some(token_id),
            Self::CutOff { cutoff, issued_before, except, .. } => {
                Extent::new(*issued_before, *except).covers(token)
                    && token.cutoffs().any(|other| other == *cutoff)
            }
            Self::Unrevoke { .. } | Self::LiftCutoff { .. } => false,
        }
    }

    /// Its `type` on the wire, for logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Unrevoke { .. } => "remove",
            Self::CutOff { .. } => "cutoff",
            Self::LiftCutoff { .. } => "lift",
        }
    }
}

/// The fields of a message, in which no name occurs twice at any depth: with two `jti`, one reader
/// would revoke one token and another reader the other.
///
/// # Errors
/// When the message is not such an object.
pub(crate) fn fields(message: &[u8]) -> Result<JsonObject, ParseEventError> {
    JsonObject::parse(message).map_err(|error| match error {
        ParseJsonError::NotAnObject => ParseEventError::NotAnObject,
        ParseJsonError::DuplicateName => ParseEventError::DuplicateName,
    })
}

/// Whether an addition has an expiry that stands for "not set", such as zero. Null does not count:
/// it explicitly means "not set".
pub(crate) fn has_unset_expiry(fields: &JsonObject) -> bool {
    let is_said = |name: &&str| fields.get(name).is_some_and(|value| !value.is_null());
    EXPIRES_AT.iter().any(is_said) && expires_at(fields) == Ok(None)
}

fn token_id(fields: &JsonObject) -> Result<TokenId, ParseEventError> {
    let id =
        fields.get("jti").and_then(|value| value.as_str()).ok_or(ParseEventError::NoTokenId)?;
    TokenId::new(id).map_err(|_| ParseEventError::NoTokenId)
}

fn expires_at(fields: &JsonObject) -> Result<Option<Timestamp>, ParseEventError> {
    for name in EXPIRES_AT {
        let Some(value) = fields.get(name) else { continue };
        if let Some(time) = wire_time::parse_expiry(&value)
            .map_err(|ParseTimeError| ParseEventError::NotATime(name))?
        {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

fn issued_before(
    fields: &JsonObject,
    default: Option<Timestamp>,
) -> Result<Timestamp, ParseEventError> {
    let time = match fields.get("issued_before") {
        None | Some(JsonRef::Null) => default,
        Some(_) => time(fields, "issued_before")?,
    };
    let time = time.ok_or(ParseEventError::NoIssuedBefore)?;
    if time >= YEAR_10000 {
        return Err(ParseEventError::IssuedBeforeTooLate);
    }
    Ok(time)
}

/// The time of that name; `None` is one that is missing or not set.
fn time(fields: &JsonObject, name: &'static str) -> Result<Option<Timestamp>, ParseEventError> {
    let time = fields.get(name).map_or(Ok(None), |value| wire_time::parse(&value));
    time.map_err(|ParseTimeError| ParseEventError::NotATime(name))
}

/// The session that a cut-off excepts.
fn exception(fields: &JsonObject, cutoff: Cutoff) -> Result<Option<Exception>, ParseEventError> {
    let session_id = match fields.get("except_sid") {
        None | Some(JsonRef::Null) => return Ok(None),
        Some(value) => value.as_str().ok_or(ParseEventError::NoExceptedSession)?,
    };
    if !matches!(cutoff.kind(), CutoffKind::Subject | CutoffKind::SubjectOfIssuer) {
        return Err(ParseEventError::ExceptionWithoutSubject);
    }
    let except = Exception::new(session_id, time(fields, "except_issued_before")?);
    except.map(Some).map_err(|BlankTargetError| ParseEventError::NoExceptedSession)
}

fn cutoff(fields: &JsonObject) -> Result<Cutoff, ParseEventError> {
    let target = |name| match fields.get(name) {
        None | Some(JsonRef::Null) => Ok(None),
        Some(JsonRef::Text(text)) => Ok(Some(text)),
        // Not treated as missing: that could turn the cut-off of a subject into that of an issuer.
        Some(_) => Err(ParseEventError::NoCutoffTarget),
    };
    let issuer = target("iss")?;
    let cutoff = match (target("sub")?, target("sid")?) {
        (Some(_), Some(_)) => return Err(ParseEventError::TwoCutoffTargets),
        (Some(subject), None) => Cutoff::subject(issuer, subject),
        (None, Some(session_id)) => Cutoff::session(issuer, session_id),
        (None, None) => Cutoff::issuer(issuer.ok_or(ParseEventError::NoCutoffTarget)?),
    };
    cutoff.map_err(|BlankTargetError| ParseEventError::NoCutoffTarget)
}

#[cfg(test)]
mod tests;
