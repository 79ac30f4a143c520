//! Logout tokens: which ones an issuer's are, and whose tokens they end (`OpenID` Connect Back-Channel
//! Logout 1.0 sections 2.4 and 2.6).

use std::time::Duration;

use portcullis_types::{
    json::{JsonObject, JsonRef},
    timestamp::Timestamp,
};

use super::{
    claims::{VerifiedToken, present},
    report::{Ended, ReportOutcome, ReportRules, ReportScope, ReportedEvent},
    verify_error::VerifyError,
};

/// The member of `events` that makes a token a logout token.
pub(super) const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How long a token without `exp` is accepted after its `iat`: some issuers leave it out.
const LIFE_WITHOUT_EXPIRY: Duration = Duration::from_mins(5);

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

/// What a logout token says that was checked before.
pub(super) fn read(
    rules: &ReportRules,
    token: &VerifiedToken,
    now: Timestamp,
) -> Result<ReportedEvent, VerifyError> {
    let missing = |claim: &str| VerifyError::MissingClaim(claim.into());
    let issued_at = token.issued_at().ok_or_else(|| missing("iat"))?;
    let end = issued_at.plus(LIFE_WITHOUT_EXPIRY).plus(token.leeway());
    if token.expires_at().is_none() && now >= end {
        return Err(VerifyError::TooOld);
    }
    let session_id = token.session_id().filter(|_| rules.ends == ReportScope::Session);
    let ended = match (session_id, token.subject()) {
        (Some(session_id), _) => Ended::Session(session_id.to_owned()),
        (None, Some(subject)) => Ended::Subject(subject.to_owned()),
        (None, None) => return Err(missing("sub")),
    };
    Ok(ReportedEvent { name: "logout", outcome: ReportOutcome::Ends(vec![ended]), at: issued_at })
}
