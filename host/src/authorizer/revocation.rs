//! Owns what the pipeline asks about revocation: the local set, the store behind it, and the request
//! to read everything again.

use super::{Authorizer, Check, identity, patience::patience};
use crate::{
    attributes::HttpAttributes,
    blacklist::{AskError, Blacklist, Found, Lookups, Presented, Refresh, Refreshed},
    decision::{Decision, Reason},
    token::VerifiedToken,
};

/// How the pipeline learns whether a token is revoked.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// The local set.
    pub blacklist: Blacklist,
    /// The store behind it, if there is one to ask.
    pub lookups: Option<Lookups>,
    /// Who reads everything again when a request asks for it, if requests may.
    pub refresh: Option<Refresh>,
}

// === impl Authorizer ===

impl Authorizer {
    /// Why the token must be refused, unless it is known to be in force.
    pub(super) async fn is_revoked(
        &self,
        check: &Check<'_>,
        verified: &VerifiedToken,
    ) -> Option<(Reason, Option<String>)> {
        const REVOKED: Option<(Reason, Option<String>)> = Some((Reason::TokenRevoked, None));
        let token = &identity::presented(verified);
        let found = self.revocation.blacklist.find(token, check.now);
        self.recorder.blacklist(found);
        match found {
            Found::Clear => None,
            Found::Revoked => REVOKED,
            Found::Unreliable => Some((Reason::NotReady, Some("blacklist".to_owned()))),
            Found::Unknown { or_deny } => match Box::pin(self.ask_store(check, token)).await {
                Ok(true) => {
                    self.recorder.revoked_by_store();
                    REVOKED
                }
                // Entries of the store may end with their tokens, so it cannot speak for one that
                // lives by leeway alone.
                Ok(false) if verified.expires_at().is_some_and(|exp| exp <= check.now) => {
                    Some((Reason::InvalidToken, Some("expired".to_owned())))
                }
                // Whoever can send many requests could overload us at will.
                Err(error) if or_deny || error == AskError::Overloaded => {
                    Some((Reason::StoreUnavailable, Some(error.to_string())))
                }
                // Where the store does not answer, the set was complete not long ago: no longer
                // than `max_staleness` allows.
                Ok(false) | Err(_) => None,
            },
        }
    }

    /// Whether the store holds anything against the token.
    async fn ask_store(&self, check: &Check<'_>, token: &Presented<'_>) -> Result<bool, AskError> {
        let lookups = self.revocation.lookups.as_ref().ok_or(AskError::NoAnswer)?;
        let asked = lookups.ask(token);
        let answer = match patience(check.deadline) {
            Some(patience) => {
                tokio::time::timeout(patience, asked).await.unwrap_or(Err(AskError::NoAnswer))
            }
            None => asked.await,
        };
        // What publishers have parked while the broker is away went onto the set meanwhile, as far
        // as it could be read.
        if self.revocation.blacklist.is_blacklisted(token, check.now) {
            return Ok(true);
        }
        Ok(answer?.iter().any(|event| event.covers(token)))
    }

    /// Whom to ask, if the request is one for the revocations to be read again.
    pub(super) fn refresh_asked_for(&self, http: &HttpAttributes) -> Option<&Refresh> {
        let refresh = self.revocation.refresh.as_ref()?;
        let asked = http.headers.first("x-refresh-cache")?.eq_ignore_ascii_case("true");
        let permitted = asked && refresh.permits(http.headers.first("x-refresh-cache-secret"));
        permitted.then_some(refresh)
    }
}

/// 204 tells the caller that all is done, and keeps the request from the upstream.
pub(super) fn refreshed(refreshed: Refreshed) -> Decision {
    match refreshed {
        Refreshed::Done => Decision::deny(Reason::CacheRefreshed),
        Refreshed::Failed => Decision::deny(Reason::RefreshFailed),
    }
}
