//! Seeded random numbers, and the seed of a run.

/// The default seed of a run.
const SEED: u64 = 1;
/// How many requests are generated for each listener whose paths and hosts vary.
const REQUESTS: u64 = 2_000;

/// The settings of a run from the environment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) seed: u64,
    pub(super) requests: u64,
}

/// A sequence of numbers, by the algorithm `SplitMix64`.
#[derive(Debug)]
pub(super) struct Random(u64);

// === impl Run ===

impl Run {
    /// `PORTCULLIS_TEST_SEED` and `PORTCULLIS_TEST_REQUESTS`, or the defaults.
    pub(super) fn from_environment() -> Self {
        Self {
            seed: variable("PORTCULLIS_TEST_SEED").unwrap_or(SEED),
            requests: variable("PORTCULLIS_TEST_REQUESTS").unwrap_or(REQUESTS),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how a run is repeated, or made longer")]
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

// === impl Random ===

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a length is a number");
        usize::try_from(self.next() % bound).expect("it is below a length")
    }

    /// One of several.
    pub(super) fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}
