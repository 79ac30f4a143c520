//! Owns how long entries last, and how what is said of one twice comes together.

use super::{
    Presented,
    generation::{Generation, is_missing},
};
use crate::{blacklist::extent::Extent, timestamp::Timestamp};

/// How long a token is revoked, in eight bytes: a million of them is a common size of the set.
///
/// Milliseconds since the epoch, before a generation and two flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term(i64);

/// The store has yet to say for how long.
const LACKS_EXPIRY: i64 = 1;
/// An event has said something meanwhile, which the store must not shorten.
const TOLD: i64 = 2;
/// Behind the flags: the reading of a table that has seen it last.
const GENERATION_AT: u32 = 2;
/// Behind both: the time.
const TIME_AT: u32 = GENERATION_AT + Generation::BITS;

/// How far a cut-off reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) extent: Extent,
    pub(super) until: Timestamp,
}

// === impl Term ===

impl Term {
    pub(super) fn new(until: Timestamp) -> Self {
        let (low, high) = (i64::MIN >> TIME_AT, i64::MAX >> TIME_AT);
        Self(until.as_millis().clamp(low, high) << TIME_AT)
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
        if self.lacks_expiry() && self.0 & TOLD == 0 {
            Self::new(until).seen_in(self.generation())
        } else {
            self.later(until)
        }
    }

    pub(super) const fn lacks_expiry(self) -> bool {
        self.0 & LACKS_EXPIRY != 0
    }

    /// As it is when that reading of a table has seen it.
    pub(super) fn seen_in(self, generation: Generation) -> Self {
        let others = !(i64::from(Generation::MAX) << GENERATION_AT);
        Self(self.0 & others | i64::from(generation) << GENERATION_AT)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the bits of a generation")]
    #[expect(clippy::cast_sign_loss, reason = "as above")]
    pub(super) const fn generation(self) -> Generation {
        (self.0 >> GENERATION_AT) as Generation
    }

    /// Whether it has expired by `now`, or was missing in the last complete reading of a table.
    pub(super) fn is_over(self, now: Timestamp, complete: Generation) -> bool {
        !self.lasts(now) || is_missing(self.generation(), complete)
    }

    pub(super) const fn end(self) -> Timestamp {
        let millis = self.0 >> TIME_AT;
        if millis == i64::MAX >> TIME_AT { Timestamp::MAX } else { Timestamp::from_millis(millis) }
    }

    pub(super) fn lasts(self, now: Timestamp) -> bool {
        lasts(self.end(), now)
    }

    fn later(self, until: Timestamp) -> Self {
        Self::new(self.end().max(until)).seen_in(self.generation())
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
