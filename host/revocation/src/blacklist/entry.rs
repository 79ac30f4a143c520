//! Entries of the blacklist: how long each lasts, and how two events about one entry merge.

use std::time::Duration;

use portcullis_types::timestamp::Timestamp;

use super::generation::{Generation, is_missing};
use crate::event::{PresentedToken, extent::Extent};

/// How long a token is revoked. Six bytes with an alignment of one: with its
/// [`TokenKey`](super::token_key) it fills one block of 16 bytes, and a set may have millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenEntry {
    /// Whole seconds since the epoch, rounded up, in native byte order; the largest number means
    /// for ever.
    until: [u8; 4],
    /// The last reading of a table that has seen it.
    generation: Generation,
    flags: u8,
}

/// The expiry has yet to be read from the store.
const LACKS_EXPIRY: u8 = 1;
/// An event has extended the entry since, which the expiry from the store must not shorten.
const EXTENDED_SINCE: u8 = 2;
/// Rounds milliseconds up to seconds.
const LAST_MILLIS: Duration = Duration::from_millis(999);

/// The extent of a cut-off, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CutoffEntry {
    pub(super) extent: Extent,
    pub(super) until: Timestamp,
}

// === impl TokenEntry ===

impl TokenEntry {
    pub(super) fn new(until: Timestamp) -> Self {
        let seconds = until.plus(LAST_MILLIS).as_secs().max(0);
        let until = u32::try_from(seconds).unwrap_or(u32::MAX).to_ne_bytes();
        Self { until, generation: 0, flags: 0 }
    }

    /// The entry of a token of which the store has returned only the id, until its expiry is read.
    pub(super) fn with_unknown_expiry(until: Timestamp) -> Self {
        Self { flags: LACKS_EXPIRY, ..Self::new(until) }
    }

    /// Merged with the expiry of an event.
    pub(super) fn extend(self, until: Timestamp) -> Self {
        if self.lacks_expiry() {
            return Self { flags: LACKS_EXPIRY | EXTENDED_SINCE, ..self.later(until) };
        }
        self.later(until)
    }

    /// Merged with the expiry that the store has.
    pub(super) fn set_expiry(self, until: Timestamp) -> Self {
        if self.flags == LACKS_EXPIRY {
            Self::new(until).seen_in(self.generation)
        } else {
            self.later(until)
        }
    }

    pub(super) const fn lacks_expiry(self) -> bool {
        self.flags & LACKS_EXPIRY != 0
    }

    /// The same entry, seen by that reading of a table.
    pub(super) const fn seen_in(self, generation: Generation) -> Self {
        Self { generation, ..self }
    }

    pub(super) const fn generation(self) -> Generation {
        self.generation
    }

    /// Whether it has expired by `now`, or was missing in the last complete reading of a table.
    pub(super) fn is_over(self, now: Timestamp, complete: Generation) -> bool {
        !self.lasts(now) || is_missing(self.generation, complete)
    }

    pub(super) fn end(self) -> Timestamp {
        match u32::from_ne_bytes(self.until) {
            u32::MAX => Timestamp::MAX,
            seconds => Timestamp::from_secs(seconds.into()),
        }
    }

    pub(super) fn lasts(self, now: Timestamp) -> bool {
        lasts(self.end(), now)
    }

    fn later(self, until: Timestamp) -> Self {
        Self::new(self.end().max(until)).seen_in(self.generation)
    }
}

// === impl CutoffEntry ===

impl CutoffEntry {
    pub(super) fn covers(self, token: &PresentedToken<'_>, now: Timestamp) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_ends_before_its_expiry() {
        for (millis, seconds) in [(0, 0), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (-5, 0)] {
            let end = TokenEntry::new(Timestamp::from_millis(millis)).end();
            assert_eq!(end, Timestamp::from_secs(seconds), "{millis}");
        }
        for late in [u32::MAX.into(), i64::MAX / 1_000, i64::MAX] {
            assert_eq!(TokenEntry::new(Timestamp::from_secs(late)).end(), Timestamp::MAX, "{late}");
        }
    }

    #[test]
    fn an_entry_fits_one_block_of_sixteen_bytes() {
        assert_eq!(size_of::<(super::super::token_key::TokenKey, TokenEntry)>(), 16);
    }
}
