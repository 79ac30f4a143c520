//! What a token says of itself, as far as the blacklist is concerned.

use std::fmt;

use crate::{
    blacklist::cutoff::{Cutoff, CutoffKind},
    timestamp::Timestamp,
    token_id::TokenId,
};

/// What a token says of itself, as far as the blacklist is concerned.
#[derive(Clone, Copy, Default)]
pub struct Presented<'a> {
    /// Its id (`jti`). A token without one can be revoked by a cut-off only.
    pub token_id: Option<&'a TokenId>,
    /// The same as the store has it in its keys.
    pub jti: Option<&'a str>,
    /// Who issued it (`iss`).
    pub issuer: Option<&'a str>,
    /// Whom it is about (`sub`).
    pub subject: Option<&'a str>,
    /// Its session (`sid`).
    pub session_id: Option<&'a str>,
    /// When it was issued (`iat`). A token that does not say is as old as can be.
    pub issued_at: Option<Timestamp>,
}
// === impl Presented ===

impl Presented<'_> {
    /// Whether it was issued at `time` or before. Issuers write whole seconds, so "at the same
    /// time" has to count as before.
    pub(in crate::blacklist) fn is_as_old_as(&self, time: Timestamp) -> bool {
        self.issued_at.is_none_or(|issued_at| issued_at <= time)
    }

    /// Every cut-off that would cover the token, were it in force.
    pub(in crate::blacklist) fn cutoffs(&self) -> impl Iterator<Item = Cutoff> {
        CutoffKind::ALL.into_iter().filter_map(|kind| self.cutoff(kind))
    }

    /// The cut-off of this kind that would cover the token, if the token says enough.
    pub(in crate::blacklist) fn cutoff(&self, kind: CutoffKind) -> Option<Cutoff> {
        match kind {
            CutoffKind::Subject => Cutoff::subject(None, self.subject?),
            CutoffKind::SubjectOfIssuer => Cutoff::subject(Some(self.issuer?), self.subject?),
            CutoffKind::Session => Cutoff::session(None, self.session_id?),
            CutoffKind::SessionOfIssuer => Cutoff::session(Some(self.issuer?), self.session_id?),
            CutoffKind::Issuer => Cutoff::issuer(self.issuer?),
        }
        .ok()
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whose token it is belongs into the decision log, not into debug output.
        f.debug_struct("Presented").field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}
