//! Owns chance: numbers that follow from a seed alone, on every machine and for all time.
//!
//! A seed in a report must still lead to the same plan after an update of a library, so the
//! algorithm is written out here: `SplitMix64`.

use std::{ops::Range, time::Duration};

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

// === impl Random ===

impl Random {
    /// The source that belongs to a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number out of all there are.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of the range; its start if the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        // The bias is far below what matters here: ranges are short.
        range.start + self.next() % range.end.saturating_sub(range.start).max(1)
    }

    /// An index of something with `count` places; 0 if there is none.
    pub fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from(self.within(0..count)).unwrap_or_default()
    }

    /// A time between the two, in whole milliseconds.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.within(millis(shortest)..millis(longest)))
    }

    /// Whether something happens that does so in `times` of a hundred cases.
    pub fn percent(&mut self, times: u64) -> bool {
        self.within(0..100) < times
    }

    /// Puts things into another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_leads_to_the_same_numbers_for_all_time() {
        // The reference values of the algorithm's authors, for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let first: [u64; 3] = std::array::from_fn(|_| random.next());
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn numbers_stay_in_their_range_and_nothing_is_lost_by_shuffling() {
        let mut random = Random::new(7);
        assert!((0..1000).all(|_| (3..5).contains(&random.within(3..5))));
        assert_eq!(random.within(9..9), 9);
        let mut things: Vec<_> = (0..50).collect();
        random.shuffle(&mut things);
        assert_ne!(things, (0..50).collect::<Vec<_>>());
        things.sort_unstable();
        assert_eq!(things, (0..50).collect::<Vec<_>>());
    }
}
