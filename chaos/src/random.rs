//! Random numbers from a seed: the same on every machine and in every version.
//!
//! A seed in a report must still give the same plan after an update of a library, so the algorithm,
//! `SplitMix64`, is implemented here.

use std::{ops::Range, time::Duration};

/// A random number generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

// === impl Random ===

impl Random {
    /// The generator with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of the range; its start if the range is empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        // The modulo bias does not matter here: ranges are short.
        range.start + self.next() % range.end.saturating_sub(range.start).max(1)
    }

    /// An index below `count`; 0 if `count` is 0.
    pub fn index(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        usize::try_from(self.within(0..count)).unwrap_or_default()
    }

    /// A time between two others, in whole milliseconds.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.within(millis(shortest)..millis(longest)))
    }

    /// True in `times` of a hundred cases.
    pub fn percent(&mut self, times: u64) -> bool {
        self.within(0..100) < times
    }

    /// Shuffles things.
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
    fn a_seed_always_gives_the_same_numbers() {
        // The reference values of the algorithm's authors, for the seed 1234567.
        let mut random = Random::new(1_234_567);
        let first: [u64; 3] = std::array::from_fn(|_| random.next());
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn numbers_are_in_range_and_shuffling_loses_nothing() {
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
