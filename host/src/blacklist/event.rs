//! Owns what can happen to the blacklist, and the JSON in which publishers say it.
//!
//! The parser is tolerant where that cannot un-revoke a token: unknown fields are ignored and every
//! known way to write a time is read. It never guesses: what is not understood is an error, for the
//! caller to count and to park. Errors say which field is wrong, never what it holds.

use serde_json::{Map, Value};

use super::{
    cutoff::{BlankCutoffError, Cutoff, CutoffKind},
    extent::{Exception, Extent},
    store::Presented,
    wire_time::{self, NotATime, YEAR_10000},
};
use crate::{
    json::{JsonObject, ParseJsonError},
    timestamp::Timestamp,
    token_id::TokenId,
};

/// Something that happens to the blacklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// One token is revoked.
    Add {
        /// The token.
        token_id: TokenId,
        /// When the token expires by itself; never, if nobody says.
        expires_at: Option<Timestamp>,
    },
    /// One token is no longer revoked.
    Remove {
        /// The token.
        token_id: TokenId,
    },
    /// All tokens of a subject, session or issuer are revoked that were issued by some moment.
    CutOff {
        /// Whose tokens.
        cutoff: Cutoff,
        /// Tokens issued at this time or earlier are revoked.
        issued_before: Timestamp,
        /// But for a session of which fewer are, if the cut-off is one of a subject.
        except: Option<Exception>,
        /// When the last of these tokens expires by itself; never, if nobody says.
        expires_at: Option<Timestamp>,
    },
    /// A cut-off no longer holds.
    Lift {
        /// Whose tokens.
        cutoff: Cutoff,
    },
}

/// A message is not a blacklist event. It names fields, never their content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseEventError {
    /// Not JSON, or JSON of another shape.
    #[error("the message is not a JSON object; send `{{\"type\": \"add\", \"jti\": ...}}`")]
    NotAnObject,
    /// Two readers could each take another one of two values.
    #[error("a name occurs twice in the message, so that it could mean two things; send it once")]
    DuplicateName,
    /// There is a type, and it is none of ours.
    #[error("`type` is none of `add`, `remove`, `cutoff`, `lift`; leave it out to mean `add`")]
    UnknownType,
    /// No token id.
    #[error("`jti` is missing, blank or not a string; give the id of the token")]
    NoTokenId,
    /// A time that cannot be read.
    #[error("`{0}` is not a time; write RFC 3339 with an offset, or whole Unix seconds")]
    NotATime(&'static str),
    /// A cut-off of nobody.
    #[error("a cut-off needs `sub`, `sid` or `iss`, each a string that is not blank")]
    NoCutoffTarget,
    /// A cut-off of two things.
    #[error("a cut-off goes by `sub` or by `sid`, not by both; send two events")]
    TwoCutoffTargets,
    /// A cut-off at no time.
    #[error("`issued_before` is missing; a cut-off needs to know which tokens are old")]
    NoIssuedBefore,
    /// A cut-off that excepts no session.
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
        Self::from_fields(&fields(message)?)
    }

    /// Reads an event from the fields of a JSON object.
    pub(super) fn from_fields(fields: &Map<String, Value>) -> Result<Self, ParseEventError> {
        match fields.get("type").map(Value::as_str) {
            None | Some(Some("add")) => {
                Ok(Self::Add { token_id: token_id(fields)?, expires_at: expires_at(fields)? })
            }
            Some(Some("remove")) => Ok(Self::Remove { token_id: token_id(fields)? }),
            Some(Some("cutoff")) => {
                let cutoff = cutoff(fields)?;
                let extent = Extent::new(issued_before(fields)?, exception(fields, cutoff)?);
                let (issued_before, except) = (extent.issued_before(), extent.except());
                Ok(Self::CutOff { cutoff, issued_before, except, expires_at: expires_at(fields)? })
            }
            Some(Some("lift")) => Ok(Self::Lift { cutoff: cutoff(fields)? }),
            Some(_) => Err(ParseEventError::UnknownType),
        }
    }

    /// Whether it revokes something.
    #[must_use]
    pub const fn revokes(&self) -> bool {
        matches!(self, Self::Add { .. } | Self::CutOff { .. })
    }

    /// Whether it revokes `token`, whenever it expires: a store that holds it says that it has not.
    #[must_use]
    pub fn covers(&self, token: &Presented<'_>) -> bool {
        match self {
            Self::Add { token_id, .. } => token.token_id == Some(token_id),
            Self::CutOff { cutoff, issued_before, except, .. } => {
                Extent::new(*issued_before, *except).covers(token)
                    && token.cutoffs().any(|other| other == *cutoff)
            }
            Self::Remove { .. } | Self::Lift { .. } => false,
        }
    }

    /// Its `type` on the wire, for logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Add { .. } => "add",
            Self::Remove { .. } => "remove",
            Self::CutOff { .. } => "cutoff",
            Self::Lift { .. } => "lift",
        }
    }
}

/// The fields of a message, in which no name occurs twice at any depth: of two `jti`, one token would
/// be revoked here and the other one elsewhere.
///
/// # Errors
/// When the message is not such an object.
pub(super) fn fields(message: &[u8]) -> Result<Map<String, Value>, ParseEventError> {
    JsonObject::parse(message).map(|object| object.to_map()).map_err(|error| match error {
        ParseJsonError::NotAnObject => ParseEventError::NotAnObject,
        ParseJsonError::DuplicateName => ParseEventError::DuplicateName,
    })
}

/// The same fields, where a cut-off that says no `issued_before` says `default`. Only for requests,
/// which are made now: a stored message that is read later would mean another time.
pub(super) fn with_issued_before(
    mut fields: Map<String, Value>,
    default: Timestamp,
) -> Map<String, Value> {
    let says_it = fields.get("issued_before").is_some_and(|value| !value.is_null());
    let is_cutoff = fields.get("type").and_then(Value::as_str) == Some("cutoff");
    if is_cutoff && !says_it {
        fields.insert("issued_before".to_owned(), wire_time::write(default).into());
    }
    fields
}

/// Whether an addition says when its token expires, by something that stands for "not set", such as
/// zero. Null does not count: it says so.
pub(super) fn has_unset_expiry(fields: &Map<String, Value>) -> bool {
    let is_said = |name: &&str| fields.get(*name).is_some_and(|value| !value.is_null());
    EXPIRES_AT.iter().any(is_said) && expires_at(fields) == Ok(None)
}

fn token_id(fields: &Map<String, Value>) -> Result<TokenId, ParseEventError> {
    let id = fields.get("jti").and_then(Value::as_str).ok_or(ParseEventError::NoTokenId)?;
    TokenId::new(id).map_err(|_| ParseEventError::NoTokenId)
}

fn expires_at(fields: &Map<String, Value>) -> Result<Option<Timestamp>, ParseEventError> {
    for name in EXPIRES_AT {
        let Some(value) = fields.get(name) else { continue };
        if let Some(time) =
            wire_time::parse_expiry(value).map_err(|NotATime| ParseEventError::NotATime(name))?
        {
            return Ok(Some(time));
        }
    }
    Ok(None)
}

fn issued_before(fields: &Map<String, Value>) -> Result<Timestamp, ParseEventError> {
    let value = fields.get("issued_before").ok_or(ParseEventError::NoIssuedBefore)?;
    let time = wire_time::parse(value)
        .map_err(|NotATime| ParseEventError::NotATime("issued_before"))?
        .ok_or(ParseEventError::NoIssuedBefore)?;
    if time >= YEAR_10000 {
        return Err(ParseEventError::IssuedBeforeTooLate);
    }
    Ok(time)
}

/// The session that a cut-off spares.
fn exception(
    fields: &Map<String, Value>,
    cutoff: Cutoff,
) -> Result<Option<Exception>, ParseEventError> {
    let session_id = match fields.get("except_sid") {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value.as_str().ok_or(ParseEventError::NoExceptedSession)?,
    };
    if !matches!(cutoff.kind(), CutoffKind::Subject | CutoffKind::SubjectOfIssuer) {
        return Err(ParseEventError::ExceptionWithoutSubject);
    }
    let name = "except_issued_before";
    let issued_before = fields.get(name).map_or(Ok(None), wire_time::parse);
    let issued_before = issued_before.map_err(|NotATime| ParseEventError::NotATime(name))?;
    let except = Exception::new(session_id, issued_before);
    except.map(Some).map_err(|BlankCutoffError| ParseEventError::NoExceptedSession)
}

fn cutoff(fields: &Map<String, Value>) -> Result<Cutoff, ParseEventError> {
    let target = |name| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        // Not taken for missing: that could turn the cut-off of a subject into that of an issuer.
        Some(_) => Err(ParseEventError::NoCutoffTarget),
    };
    let issuer = target("iss")?;
    let cutoff = match (target("sub")?, target("sid")?) {
        (Some(_), Some(_)) => return Err(ParseEventError::TwoCutoffTargets),
        (Some(subject), None) => Cutoff::subject(issuer, subject),
        (None, Some(session_id)) => Cutoff::session(issuer, session_id),
        (None, None) => Cutoff::issuer(issuer.ok_or(ParseEventError::NoCutoffTarget)?),
    };
    cutoff.map_err(|BlankCutoffError| ParseEventError::NoCutoffTarget)
}

#[cfg(test)]
mod tests;
