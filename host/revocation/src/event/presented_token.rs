//! The claims of a token that the blacklist needs.

use std::fmt;

use portcullis_types::{timestamp::Timestamp, token_id::TokenId};

use super::cutoff::{Cutoff, CutoffKind};

/// The claims of a token that the blacklist needs.
#[derive(Clone, Copy, Default)]
pub struct PresentedToken<'a> {
    /// Its id (`jti`). A token without one can be revoked by a cut-off only.
    pub token_id: Option<&'a TokenId>,
    /// The same as text, as it occurs in the keys of the store.
    pub jti: Option<&'a str>,
    /// Its issuer (`iss`).
    pub issuer: Option<&'a str>,
    /// Its subject (`sub`).
    pub subject: Option<&'a str>,
    /// Its session (`sid`).
    pub session_id: Option<&'a str>,
    /// When it was issued (`iat`). A token without it counts as older than any time.
    pub issued_at: Option<Timestamp>,
}

// === impl PresentedToken ===

impl PresentedToken<'_> {
    /// Whether it was issued at `time` or before. Issuers write whole seconds, so "at the same
    /// time" has to count as before.
    pub(crate) fn is_as_old_as(&self, time: Timestamp) -> bool {
        self.issued_at.is_none_or(|issued_at| issued_at <= time)
    }

    /// Every cut-off that would cover the token if it existed.
    pub(crate) fn cutoffs(&self) -> impl Iterator<Item = Cutoff> {
        CutoffKind::ALL.into_iter().filter_map(|kind| self.cutoff(kind))
    }

    /// The cut-off of this kind that would cover the token, if the token has the claims for it.
    pub(crate) fn cutoff(&self, kind: CutoffKind) -> Option<Cutoff> {
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

impl fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The identity of the user belongs in the decision log, not in debug output.
        f.debug_struct("PresentedToken").field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}
