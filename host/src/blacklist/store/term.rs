//! Owns how long entries last, and how what is said of one twice comes together.

use super::Presented;
use crate::{blacklist::extent::Extent, timestamp::Timestamp};

/// How long a token is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term {
    /// As far as has been said.
    until: Timestamp,
    /// Whether the store has yet to say, which may know it to be longer. So long, it is for ever.
    held: bool,
}

/// How far a cut-off reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) extent: Extent,
    pub(super) until: Timestamp,
}

// === impl Term ===

impl Term {
    /// Nobody has said anything.
    const UNSAID: Self = Self::new(Timestamp::from_millis(i64::MIN));

    pub(super) const fn new(until: Timestamp) -> Self {
        Self { until, held: false }
    }

    /// As it is when the store has named the token.
    pub(super) fn hold(known: Option<Self>) -> Self {
        Self { held: true, ..known.unwrap_or(Self::UNSAID) }
    }

    /// As it is when `until` is said besides, by the store or by somebody else.
    pub(super) fn extend(self, until: Timestamp, by_store: bool) -> Self {
        Self { until: self.until.max(until), held: self.held && !by_store }
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
        self.lasts(now) && self.extent.covers(token)
    }

    pub(super) fn lasts(self, now: Timestamp) -> bool {
        lasts(self.until, now)
    }

    pub(super) fn join(self, other: Self) -> Self {
        Self { extent: self.extent.join(other.extent), until: self.until.max(other.until) }
    }
}

fn lasts(until: Timestamp, now: Timestamp) -> bool {
    now < until || until == Timestamp::MAX
}
