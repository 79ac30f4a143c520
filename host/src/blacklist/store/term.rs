//! Owns how long entries last, and how what is said of one twice comes together.

use super::Presented;
use crate::{blacklist::extent::Extent, timestamp::Timestamp};

/// How long a token is revoked, in eight bytes: a million of them is a common size of the set.
///
/// Milliseconds since the epoch, shifted by the two flags below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term(i64);

/// The store has yet to say for how long.
const LACKS_EXPIRY: i64 = 1;
/// An event has said something meanwhile, which the store must not shorten.
const TOLD: i64 = 2;
const FLAGS: u32 = 2;

/// How far a cut-off reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) extent: Extent,
    pub(super) until: Timestamp,
}

// === impl Term ===

impl Term {
    pub(super) fn new(until: Timestamp) -> Self {
        let (low, high) = (i64::MIN >> FLAGS, i64::MAX >> FLAGS);
        Self(until.as_millis().clamp(low, high) << FLAGS)
    }

    /// Of a token that the store names, until the store says for how long.
    pub(super) fn held(until: Timestamp) -> Self {
        Self(Self::new(until).0 | LACKS_EXPIRY)
    }

    /// With what an event says besides.
    pub(super) fn extend(self, until: Timestamp) -> Self {
        if self.lacks_expiry() {
            return Self(self.later(until).0 | LACKS_EXPIRY | TOLD);
        }
        self.later(until)
    }

    /// With what the store says.
    pub(super) fn settle(self, until: Timestamp) -> Self {
        if self.lacks_expiry() && self.0 & TOLD == 0 { Self::new(until) } else { self.later(until) }
    }

    pub(super) const fn lacks_expiry(self) -> bool {
        self.0 & LACKS_EXPIRY != 0
    }

    pub(super) const fn end(self) -> Timestamp {
        let millis = self.0 >> FLAGS;
        if millis == i64::MAX >> FLAGS { Timestamp::MAX } else { Timestamp::from_millis(millis) }
    }

    pub(super) fn lasts(self, now: Timestamp) -> bool {
        lasts(self.end(), now)
    }

    fn later(self, until: Timestamp) -> Self {
        Self::new(self.end().max(until))
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
