//! Un-revocations: events that end a revocation.

use portcullis_types::token_id::TokenId;

use super::{Event, cutoff::Cutoff};

/// An event that ends a revocation.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Unrevocation {
    pub(crate) target: UnrevocationTarget,
    /// The receipts for which publishers wait.
    pub(crate) receipts: Vec<String>,
}

/// The revocation that it ends.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum UnrevocationTarget {
    /// That of one token: its id, and the id as text, as it occurs in the keys of the store.
    Token(TokenId, String),
    /// A cut-off.
    Cutoff(Cutoff),
}

// === impl Unrevocation ===

impl Unrevocation {
    pub(crate) fn new(target: UnrevocationTarget, receipt: Option<String>) -> Self {
        Self { target, receipts: receipt.into_iter().collect() }
    }
}

impl std::fmt::Debug for Unrevocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unrevocation([redacted])")
    }
}

// === impl UnrevocationTarget ===

impl UnrevocationTarget {
    /// The event that removes the entry.
    pub(crate) const fn event(&self) -> Event {
        match self {
            Self::Token(token_id, _) => Event::Unrevoke { token_id: *token_id },
            Self::Cutoff(cutoff) => Event::LiftCutoff { cutoff: *cutoff },
        }
    }
}
