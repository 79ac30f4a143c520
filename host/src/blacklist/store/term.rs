//! Owns how long entries last, and how what is said of one twice comes together.

use super::Presented;
use crate::timestamp::Timestamp;

/// How long a token is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    /// As far as has been said.
    until: Timestamp,
    /// Whether the store has yet to say, which may know it to be longer. So long, it is for ever.
    held: bool,
    /// The reading of a table that has seen it last.
    generation: u32,
}

/// How far a cut-off reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) issued_before: Timestamp,
    pub(super) until: Timestamp,
}

// === impl Term ===

impl Term {
    /// Nobody has said anything.
    const UNSAID: Self = Self::new(Timestamp::from_millis(i64::MIN));

    pub(super) const fn new(until: Timestamp) -> Self {
        Self { until, held: false, generation: 0 }
    }

    /// As it is when the store has named the token.
    pub(super) fn hold(known: Option<Self>) -> Self {
        Self { held: true, ..known.unwrap_or(Self::UNSAID) }
    }

    /// As it is when `until` is said besides, by the store or by somebody else.
    pub(super) fn extend(self, until: Timestamp, by_store: bool) -> Self {
        Self { until: self.until.max(until), held: self.held && !by_store, ..self }
    }

    /// As it is when that reading of a table has seen it.
    pub(super) const fn seen_in(self, generation: u32) -> Self {
        Self { generation, ..self }
    }

    pub(super) const fn generation(self) -> u32 {
        self.generation
    }

    pub(super) const fn end(self) -> Timestamp {
        if self.held { Timestamp::MAX } else { self.until }
    }

    pub(super) fn lasts(self, now: Timestamp) -> bool {
        lasts(self.end(), now)
    }
}

// === impl Reach ===

impl Reach {
    pub(super) fn covers(self, token: &Presented<'_>, now: Timestamp) -> bool {
        token.is_as_old_as(self.issued_before) && self.lasts(now)
    }

    pub(super) fn lasts(self, now: Timestamp) -> bool {
        lasts(self.until, now)
    }

    pub(super) fn join(self, other: Self) -> Self {
        Self {
            issued_before: self.issued_before.max(other.issued_before),
            until: self.until.max(other.until),
        }
    }
}

fn lasts(until: Timestamp, now: Timestamp) -> bool {
    now < until || until == Timestamp::MAX
}
