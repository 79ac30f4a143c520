//! Revocation check of the pipeline: the local set, the store behind it, and the request to read
//! everything again.

use portcullis_revocation::{
    AskError, Blacklist, Found, LookupClient, PresentedToken, Refresh, Refreshed,
};
use portcullis_types::{
    attributes::HttpAttributes,
    decision::{Decision, Reason},
    timestamp::Timestamp,
};

use super::{Authorizer, Check, identity, patience::patience};
use crate::token::VerifiedToken;

/// How the pipeline learns whether a token is revoked.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// The local set.
    pub blacklist: Blacklist,
    /// The store behind it, if there is one to ask.
    pub lookups: Option<LookupClient>,
    /// Reads everything again when a request asks for it, if requests may.
    pub refresh: Option<Refresh>,
}

// === impl Authorizer ===

impl Authorizer {
    /// Why the token must be refused, unless it is known not to be revoked.
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
                // Entries of the store may expire with their tokens, so a miss means nothing for a
                // token that is accepted by leeway alone when the answer arrives.
                Ok(false) if verified.expires_at().is_some_and(|exp| exp <= Timestamp::now()) => {
                    Some((Reason::InvalidToken, Some("expired".to_owned())))
                }
                // A client that can send many requests could overload the store at will.
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
    async fn ask_store(
        &self,
        check: &Check<'_>,
        token: &PresentedToken<'_>,
    ) -> Result<bool, AskError> {
        let lookups = self.revocation.lookups.as_ref().ok_or(AskError::NoAnswer)?;
        let asked = lookups.ask(token);
        let answer = match patience(check.deadline) {
            Some(patience) => {
                tokio::time::timeout(patience, asked).await.unwrap_or(Err(AskError::NoAnswer))
            }
            None => asked.await,
        };
        // Events that wait in the outbox while the broker is unavailable were applied to the set
        // meanwhile, as far as they could be read.
        if self.revocation.blacklist.is_blacklisted(token, check.now) {
            return Ok(true);
        }
        Ok(answer?.iter().any(|event| event.covers(token)))
    }

    /// The refresh to ask, if the request is one to read the revocations again.
    pub(super) fn refresh_asked_for(&self, http: &HttpAttributes) -> Option<&Refresh> {
        let refresh = self.revocation.refresh.as_ref()?;
        let asked = http.headers.first("x-refresh-cache")?.eq_ignore_ascii_case("true");
        let permitted = asked && refresh.permits(http.headers.first("x-refresh-cache-secret"));
        permitted.then_some(refresh)
    }
}

/// 204 means to the caller that all is done, and keeps the request from the upstream.
pub(super) fn refreshed(refreshed: Refreshed) -> Decision {
    match refreshed {
        Refreshed::Done => Decision::deny(Reason::CacheRefreshed),
        Refreshed::Failed => Decision::deny(Reason::RefreshFailed),
    }
}
