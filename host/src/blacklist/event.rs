//! Owns what can happen to the blacklist, and the JSON in which publishers say it.
//!
//! The parser is tolerant where that cannot un-revoke a token: unknown fields are ignored and every
//! known way to write a time is read. It never guesses: what is not understood is an error, for the
//! caller to count and to park. Errors say which field is wrong, never what it holds.

use serde_json::{Map, Value};

use super::{
    cutoff::{BlankCutoffError, Cutoff},
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
            Some(Some("cutoff")) => Ok(Self::CutOff {
                cutoff: cutoff(fields)?,
                issued_before: issued_before(fields)?,
                expires_at: expires_at(fields)?,
            }),
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
            Self::CutOff { cutoff, issued_before, .. } => {
                token.is_as_old_as(*issued_before) && token.cutoffs().any(|other| other == *cutoff)
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

fn token_id(fields: &Map<String, Value>) -> Result<TokenId, ParseEventError> {
    let id = fields.get("jti").and_then(Value::as_str).ok_or(ParseEventError::NoTokenId)?;
    TokenId::new(id).map_err(|_| ParseEventError::NoTokenId)
}

fn expires_at(fields: &Map<String, Value>) -> Result<Option<Timestamp>, ParseEventError> {
    for name in EXPIRES_AT {
        let Some(value) = fields.get(name) else { continue };
        if let Some(time) =
            wire_time::parse(value).map_err(|NotATime| ParseEventError::NotATime(name))?
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn id(jti: &str) -> TokenId {
        TokenId::new(jti).unwrap()
    }

    fn parse(json: &Value) -> Result<Event, ParseEventError> {
        Event::parse(json.to_string().as_bytes())
    }

    fn add(secs: Option<i64>) -> Event {
        Event::Add { token_id: id("j"), expires_at: secs.map(Timestamp::from_secs) }
    }

    #[test]
    fn events_as_the_relay_sends_them_are_understood() {
        let sent = br#"{"type": "add", "jti": "j", "expires_at": "2033-05-18T03:33:19+00:00", "timestamp": "2026-11-22T03:32:40.069443", "user_id": "u", "reason": "logout"}"#;
        assert_eq!(Event::parse(sent), Ok(add(Some(1_999_999_999))));
        let sent = br#"{"type": "remove", "jti": "j", "timestamp": "2026-11-22T03:32:40.069443"}"#;
        assert_eq!(Event::parse(sent), Ok(Event::Remove { token_id: id("j") }));
    }

    #[test]
    fn the_expiry_has_many_names_and_may_be_missing() {
        let at = "2033-05-18T03:33:19Z";
        let cases = [
            (json!({"jti": "j", "expires_at": at}), Some(1_999_999_999)),
            (json!({"jti": "j", "expiry": at}), Some(1_999_999_999)),
            (json!({"jti": "j", "expire_at": at}), Some(1_999_999_999)),
            (json!({"jti": "j", "exp": 1_999_999_999}), Some(1_999_999_999)),
            (json!({"jti": "j", "exp": 1, "expires_at": at}), Some(1_999_999_999)),
            (json!({"jti": "j", "exp": 1, "expires_at": null}), Some(1)),
            // Expired already: stored, counts for nothing, swept.
            (
                json!({"type": "add", "jti": "j", "expires_at": "2020-01-01T00:00:00Z"}),
                Some(1_577_836_800),
            ),
            (json!({"jti": "j"}), None),
            (json!({"type": "add", "jti": "j", "expires_at": null}), None),
            (json!({"type": "add", "jti": "j", "expires_at": "0001-01-01T00:00:00Z"}), None),
        ];
        for (sent, expected) in cases {
            assert_eq!(parse(&sent), Ok(add(expected)), "{sent}");
        }
    }

    #[test]
    fn any_text_that_is_not_blank_is_a_token_id() {
        let long = "a".repeat(10_000);
        for jti in [long.as_str(), "\u{c720}\u{b2c8}\u{cf54}\u{b4dc}", "a b", "\"", "\u{0}"] {
            let event = Event::Add { token_id: id(jti), expires_at: None };
            assert_eq!(parse(&json!({"type": "add", "jti": jti, "extra": [{}]})), Ok(event));
        }
    }

    #[test]
    fn what_is_not_an_event_is_an_error() {
        use ParseEventError as E;
        let cases: &[(&str, E)] = &[
            ("", E::NotAnObject),
            ("{invalid", E::NotAnObject),
            (r#"{"type":"add","jti":"cut"#, E::NotAnObject),
            (r#"{"jti":"j"} trailing"#, E::NotAnObject),
            ("[]", E::NotAnObject),
            ("null", E::NotAnObject),
            (r#""add""#, E::NotAnObject),
            (r#"{"jti":"j","jti":"k"}"#, E::DuplicateName),
            (r#"{"jti":"j","j\u0074i":"j"}"#, E::DuplicateName),
            (r#"{"type":"add","jti":"j","type":"remove"}"#, E::DuplicateName),
            (r#"{"jti":"j","meta":[{"a":{"b":1,"b":1}}]}"#, E::DuplicateName),
            (r#"{"type":"delete","jti":"j"}"#, E::UnknownType),
            (r#"{"type":"ADD","jti":"j"}"#, E::UnknownType),
            (r#"{"type":"","jti":"j"}"#, E::UnknownType),
            (r#"{"type":null,"jti":"j"}"#, E::UnknownType),
            (r#"{"type":null,"jti":null}"#, E::UnknownType),
            (r#"{"type":["add"],"jti":"j"}"#, E::UnknownType),
            ("{}", E::NoTokenId),
            (r#"{"type":"add","jti":"","expires_at":"2099-12-30T12:00:00Z"}"#, E::NoTokenId),
            (r#"{"type":"add","jti":" "}"#, E::NoTokenId),
            (r#"{"type":"add","jti":null}"#, E::NoTokenId),
            (r#"{"type":"add","jti":7}"#, E::NoTokenId),
            (r#"{"type":"remove","jti":""}"#, E::NoTokenId),
            (r#"{"type":"remove","sub":"u"}"#, E::NoTokenId),
            (r#"{"jti":"j","expires_at":"soon"}"#, E::NotATime("expires_at")),
            (r#"{"jti":"j","exp":true}"#, E::NotATime("exp")),
        ];
        for (sent, expected) in cases {
            assert_eq!(Event::parse(sent.as_bytes()), Err(*expected), "{sent}");
        }
        assert_eq!(Event::parse(b"{\"jti\":\"\xff\"}"), Err(E::NotAnObject));
    }

    #[test]
    fn a_cut_off_goes_by_subject_session_or_issuer() {
        let cases = [
            (json!({"sub": "u"}), Cutoff::subject(None, "u")),
            (json!({"sub": "u", "iss": "i"}), Cutoff::subject(Some("i"), "u")),
            (json!({"sid": "s", "sub": null}), Cutoff::session(None, "s")),
            (json!({"sid": "s", "iss": "i"}), Cutoff::session(Some("i"), "s")),
            (json!({"iss": "i", "jti": "ignored"}), Cutoff::issuer("i")),
        ];
        for (mut sent, cutoff) in cases {
            let cutoff = cutoff.unwrap();
            sent["type"] = json!("lift");
            assert_eq!(parse(&sent), Ok(Event::Lift { cutoff }), "{sent}");
            sent["type"] = json!("cutoff");
            sent["issued_before"] = json!("1970-01-01T00:00:10Z");
            let issued_before = Timestamp::from_secs(10);
            let event = Event::CutOff { cutoff, issued_before, expires_at: None };
            assert_eq!(parse(&sent), Ok(event), "{sent}");
            sent["exp"] = json!(20);
            let expires_at = Some(Timestamp::from_secs(20));
            let event = Event::CutOff { cutoff, issued_before, expires_at };
            assert_eq!(parse(&sent), Ok(event), "{sent}");
        }
    }

    #[test]
    fn a_cut_off_that_could_cut_too_much_is_an_error() {
        use ParseEventError as E;
        let cases = [
            (json!({"issued_before": 1}), E::NoCutoffTarget),
            (json!({"sub": "", "issued_before": 1}), E::NoCutoffTarget),
            (json!({"sub": 5, "iss": "i", "issued_before": 1}), E::NoCutoffTarget),
            (json!({"sub": "u", "iss": "", "issued_before": 1}), E::NoCutoffTarget),
            (json!({"sub": "u", "sid": "s", "issued_before": 1}), E::TwoCutoffTargets),
            (json!({"sub": "u"}), E::NoIssuedBefore),
            (json!({"sub": "u", "issued_before": null}), E::NoIssuedBefore),
            (json!({"sub": "u", "issued_before": "now"}), E::NotATime("issued_before")),
            (json!({"sub": "u", "issued_before": 1_999_999_999_000_i64}), E::IssuedBeforeTooLate),
        ];
        for (mut sent, expected) in cases {
            sent["type"] = json!("cutoff");
            assert_eq!(parse(&sent), Err(expected), "{sent}");
        }
    }

    #[test]
    fn neither_events_nor_errors_show_what_was_sent() {
        let event = parse(&json!({"jti": "hush"})).unwrap();
        assert!(!format!("{event:?}").contains("hush"));
        for sent in [json!({"type": "hush", "jti": "hush"}), json!({"jti": "j", "exp": "hush"})] {
            let error = parse(&sent).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_message_panics(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Event::parse(&message);
        }

        #[test]
        fn no_object_panics(
            kind in prop::sample::select(vec!["add", "remove", "cutoff", "lift", "x"]),
            name in prop::sample::select(vec!["jti", "sub", "sid", "iss", "exp", "issued_before"]),
            text in ".*",
            number in any::<f64>(),
        ) {
            for value in [json!(text), json!(number)] {
                let _ = parse(&json!({"type": kind, name: value}));
            }
        }

        #[test]
        fn whoever_writes_the_expiry_however_the_token_is_the_same(
            jti in "\\PC*[a-z]",
            millis in 0..253_402_000_000_000_i64,
        ) {
            let time = jiff::Timestamp::from_millisecond(millis).unwrap();
            let sent = json!({"type": "add", "jti": jti, "expires_at": time.to_string()});
            let expires_at = Some(Timestamp::from_millis(millis));
            prop_assert_eq!(parse(&sent), Ok(Event::Add { token_id: id(&jti), expires_at }));
        }
    }
}
