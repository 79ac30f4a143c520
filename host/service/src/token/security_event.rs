//! Security event tokens (SET, RFC 8417): which events of Shared Signals end tokens, and whose (CAEP
//! 1.0, RISC 1.0, subject identifiers of RFC 9493).
//!
//! An event about a subject of another issuer is refused: an issuer ends its own tokens only. Where a
//! token can be read in a narrow and in a wide way, more ends rather than less.

use portcullis_types::{
    json::{JsonMembers, JsonObject, JsonRef},
    timestamp::Timestamp,
};

use super::{
    claims::{self, VerifiedToken, numeric_date, present},
    logout,
    report::{Ended, ReportOutcome, ReportRules, ReportScope, ReportedEvent},
    verify_error::{Shown, VerifyError},
};

/// What an event ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// The session, if the event names one.
    Session,
    /// Everything of the subject that was issued until the event.
    Subject,
    /// Everything of the subject that was issued until the report. What was issued between the event
    /// and the report may be an attacker's.
    Account,
    Nothing,
}

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const OAUTH: &str = "https://schemas.openid.net/secevent/oauth/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

/// The events that are known, as prefix and name.
const KNOWN: [(&str, &str, Effect); 12] = [
    (CAEP, "session-revoked", Effect::Session),
    (CAEP, "token-claims-change", Effect::Session),
    (CAEP, "credential-change", Effect::Subject),
    (RISC, "account-disabled", Effect::Account),
    (RISC, "account-purged", Effect::Account),
    (RISC, "account-credential-change-required", Effect::Account),
    (RISC, "credential-compromise", Effect::Account),
    (RISC, "sessions-revoked", Effect::Account),
    (OAUTH, "tokens-revoked", Effect::Account),
    (SSF, "verification", Effect::Nothing),
    (SSF, "stream-updated", Effect::Nothing),
    (RISC, "verification", Effect::Nothing),
];

/// The name of all other events.
const UNKNOWN: &str = "unknown";

/// Names of a subject identifier that access tokens may have, too.
#[derive(Default, PartialEq, Eq)]
struct SubjectNames<'a> {
    token: Option<&'a str>,
    session: Option<&'a str>,
    subject: Option<&'a str>,
    /// A name of a session or of a subject: the identifier does not say which.
    opaque: Option<&'a str>,
}

const MALFORMED: VerifyError = VerifyError::MalformedClaim("sub_id");

/// Whether a token says that it is a security event token, and no other kind of report.
pub(super) fn check_event(claims: &JsonObject) -> Result<(), VerifyError> {
    let events = match present(claims, "events") {
        Some(JsonRef::Object(events)) => events,
        Some(_) => return Err(VerifyError::MalformedClaim("events")),
        None => return Err(VerifyError::MissingClaim("events".into())),
    };
    if events.iter().next().is_none() || events.get(logout::LOGOUT).is_some() {
        return Err(VerifyError::WrongTokenType("events".into()));
    }
    Ok(())
}

/// What a security event token says that was checked before. Several events in one token are names
/// of the same event (Shared Signals 1.0): all that they end ends.
pub(super) fn read(
    rules: &ReportRules,
    token: &VerifiedToken,
) -> Result<ReportedEvent, VerifyError> {
    let Some(JsonRef::Object(events)) = token.claims().get("events") else {
        return Err(VerifyError::MalformedClaim("events"));
    };
    let reported = token.issued_at().ok_or_else(|| VerifyError::MissingClaim("iat".into()))?;
    let mut found: Option<ReportedEvent> = None;
    for (uri, payload) in events.iter() {
        let JsonRef::Object(payload) = payload else {
            return Err(VerifyError::MalformedClaim("events"));
        };
        let Some((name, effect)) = known(uri) else { continue };
        let outcome = outcome(rules, token, payload, effect)?;
        let at = match effect {
            Effect::Account => reported,
            _ => time_of(token, payload, reported)?,
        };
        found = Some(match found {
            None => ReportedEvent { name, outcome, at },
            Some(event) => event.joined(outcome, at),
        });
    }
    let outcome = ReportOutcome::Nothing;
    Ok(found.unwrap_or(ReportedEvent { name: UNKNOWN, outcome, at: reported }))
}

fn known(uri: &str) -> Option<(&'static str, Effect)> {
    let is_it = |(prefix, name, _): &&(&str, &str, Effect)| uri.strip_prefix(prefix) == Some(name);
    KNOWN.iter().find(is_it).map(|(_, name, effect)| (*name, *effect))
}

fn outcome(
    rules: &ReportRules,
    token: &VerifiedToken,
    payload: JsonMembers<'_>,
    effect: Effect,
) -> Result<ReportOutcome, VerifyError> {
    if effect == Effect::Nothing {
        return Ok(ReportOutcome::Nothing);
    }
    let names = names(token, payload)?;
    let by_session = rules.ends == ReportScope::Session;
    let session = names.session.filter(|_| by_session);
    let subject = names.subject.or(names.opaque);
    let token = names.token.map(|jti| Ended::Token(jti.to_owned()));
    let session = session.map(|id| Ended::Session(id.to_owned()));
    let subject = subject.map(|name| Ended::Subject(name.to_owned()));
    let ended: Vec<Ended> = match (effect, token) {
        (_, Some(token)) => vec![token],
        (Effect::Session, None) => {
            let opaque = names.opaque.filter(|_| by_session);
            let opaque = opaque.map(|id| Ended::Session(id.to_owned()));
            let narrow = session.or(opaque);
            let wide = subject.filter(|_| narrow.is_none() || names.opaque.is_some());
            narrow.into_iter().chain(wide).collect()
        }
        (_, None) => subject.or(session).into_iter().collect(),
    };
    Ok(if ended.is_empty() { ReportOutcome::Unmatched } else { ReportOutcome::Ends(ended) })
}

/// Who is meant: by `sub_id`, by `subject` of the event as earlier drafts have it, or by `sub`. Where
/// several of them say it, they must say the same.
fn names<'t>(
    token: &'t VerifiedToken,
    payload: JsonMembers<'t>,
) -> Result<SubjectNames<'t>, VerifyError> {
    let issuer = token.issuer().ok_or_else(|| VerifyError::MissingClaim("iss".into()))?;
    let read = |identifier| match identifier {
        JsonRef::Object(identifier) => identified(identifier, issuer),
        _ => Err(MALFORMED),
    };
    let claimed = present(token.claims(), "sub_id").map(read).transpose()?;
    let subject = payload.get("subject").filter(|subject| !subject.is_null());
    let of_event = subject.map(read).transpose()?;
    let names = match (claimed, of_event) {
        (Some(one), Some(other)) if one != other => return Err(MALFORMED),
        (Some(names), _) | (None, Some(names)) => names,
        (None, None) => {
            return Ok(SubjectNames { subject: token.subject(), ..SubjectNames::default() });
        }
    };
    // Shared Signals 1.0 has no `sub`: with another one, two readers could each take a different one.
    let is_other = |sub: &str| names.subject.or(names.opaque) != Some(sub);
    if token.subject().is_some_and(is_other) {
        return Err(VerifyError::MalformedClaim("sub"));
    }
    Ok(names)
}

/// The names of a subject identifier (RFC 9493).
fn identified<'t>(
    identifier: JsonMembers<'t>,
    issuer: &str,
) -> Result<SubjectNames<'t>, VerifyError> {
    match format(identifier)?.as_deref() {
        None | Some("complex") => complex(identifier, issuer),
        Some("aliases") => aliases(identifier, issuer),
        Some(format) => simple(identifier, format, issuer),
    }
}

/// The format of a subject identifier; `subject_type` with hyphens is that of early drafts.
fn format(identifier: JsonMembers<'_>) -> Result<Option<String>, VerifyError> {
    let spelled = |name| Ok(text(identifier, name)?.map(|format| format.replace('-', "_")));
    match (spelled("format")?, spelled("subject_type")?) {
        (Some(one), Some(other)) if one != other => Err(MALFORMED),
        (format, subject_type) => Ok(format.or(subject_type)),
    }
}

/// Members narrow a complex subject down. Only the user and the session count, so that more ends
/// rather than less.
fn complex<'t>(identifier: JsonMembers<'t>, issuer: &str) -> Result<SubjectNames<'t>, VerifyError> {
    let member = |name| match identifier.get(name) {
        None | Some(JsonRef::Null) => Ok(SubjectNames::default()),
        Some(JsonRef::Object(member)) => match format(member)?.as_deref() {
            None | Some("complex") => Err(MALFORMED),
            Some("aliases") => aliases(member, issuer),
            Some(format) => simple(member, format, issuer),
        },
        Some(_) => Err(MALFORMED),
    };
    let (user, session) = (member("user")?, member("session")?);
    let subject = user.subject.or(user.opaque);
    // The member of a session says what its opaque name is.
    Ok(SubjectNames { subject, session: session.opaque, ..SubjectNames::default() })
}

/// Several names of one subject: the one counts that tokens of this issuer have.
fn aliases<'t>(identifier: JsonMembers<'t>, issuer: &str) -> Result<SubjectNames<'t>, VerifyError> {
    let Some(JsonRef::List(identifiers)) = identifier.get("identifiers") else {
        return Err(MALFORMED);
    };
    let mut names = SubjectNames::default();
    for identifier in identifiers.iter() {
        let JsonRef::Object(identifier) = identifier else { return Err(MALFORMED) };
        let format = format(identifier)?.ok_or(MALFORMED)?;
        let alias = match simple(identifier, &format, issuer) {
            // The same person at another issuer.
            Err(VerifyError::UnknownIssuer(_)) => continue,
            alias => alias?,
        };
        for (known, alias) in
            [(&mut names.subject, alias.subject), (&mut names.opaque, alias.opaque)]
        {
            if known.zip(alias).is_some_and(|(one, other)| one != other) {
                return Err(MALFORMED);
            }
            *known = known.or(alias);
        }
    }
    // An opaque name may be one that only the issuer knows.
    names.opaque = names.opaque.filter(|_| names.subject.is_none());
    Ok(names)
}

/// An identifier of one name (RFC 9493 section 3.2). Formats with names that no access token has, such
/// as mail addresses, yield none.
fn simple<'t>(
    identifier: JsonMembers<'t>,
    format: &str,
    issuer: &str,
) -> Result<SubjectNames<'t>, VerifyError> {
    let name = match format {
        "iss_sub" => "sub",
        "jwt_id" => "jti",
        "opaque" => "id",
        _ => return Ok(SubjectNames::default()),
    };
    // With the name of another format, another reader could take that.
    if ["sub", "jti", "id"].iter().any(|other| *other != name && identifier.get(other).is_some()) {
        return Err(MALFORMED);
    }
    if name != "id" {
        match text(identifier, "iss")?.ok_or(MALFORMED)? {
            named if named == issuer => {}
            other => return Err(VerifyError::UnknownIssuer(Shown::or_absent(Some(other)))),
        }
    }
    let value = Some(text(identifier, name)?.ok_or(MALFORMED)?);
    let none = SubjectNames::default();
    Ok(match format {
        "iss_sub" => SubjectNames { subject: value, ..none },
        "jwt_id" => SubjectNames { token: value, ..none },
        _ => SubjectNames { opaque: value, ..none },
    })
}

/// A member that, where it is present, is a text. Blanks around it would make it another name.
fn text<'t>(identifier: JsonMembers<'t>, name: &str) -> Result<Option<&'t str>, VerifyError> {
    match identifier.get(name) {
        None | Some(JsonRef::Null) => Ok(None),
        Some(JsonRef::Text(text)) if !text.is_empty() && text.trim() == text => Ok(Some(text)),
        Some(_) => Err(MALFORMED),
    }
}

/// When it happened: by the event (CAEP 1.0 section 2), by `toe` (RFC 8417 section 2.2), or else when
/// it was reported. It was not after that, so a later time, as in milliseconds, does not count.
fn time_of(
    token: &VerifiedToken,
    payload: JsonMembers<'_>,
    reported: Timestamp,
) -> Result<Timestamp, VerifyError> {
    let at = match payload.get("event_timestamp") {
        None | Some(JsonRef::Null) => None,
        Some(JsonRef::Number(number)) => Some(numeric_date(&number).unwrap_or(reported)),
        Some(_) => return Err(VerifyError::MalformedClaim("event_timestamp")),
    };
    let toe = claims::time(token.claims(), "toe")?;
    Ok(at.or(toe).unwrap_or(reported).min(reported))
}
