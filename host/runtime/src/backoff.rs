//! Exponential backoff with jitter: how long to wait before a retry. The jitter prevents that a
//! service that recovers gets the requests of all replicas at once.

use std::time::Duration;

/// A limit is reached after fewer failures than this.
const MOST_DOUBLINGS: u32 = 16;

/// The pauses between attempts: the limit of a pause doubles with each failure in a row.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// The first pause is at most `first`, and no pause is longer than `longest`.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// An attempt failed: the next pause may be twice as long.
    pub const fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// An attempt succeeded: the next pause is a short one.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause before the next attempt: half of its limit or more, by a random number.
    #[must_use]
    pub fn pause(&self, random: u8) -> Duration {
        let limit = self.first.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS));
        jittered(limit.min(self.longest), random)
    }
}

/// Between half of `whole` and all of it, by a random number.
#[must_use]
pub fn jittered(whole: Duration, random: u8) -> Duration {
    whole / 2 + part(whole / 2, random)
}

/// A part of `whole`, by a random number.
#[must_use]
pub fn part(whole: Duration, random: u8) -> Duration {
    whole * u32::from(random) / u32::from(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_double_up_to_a_limit_and_are_short_again_after_success(random: u8) {
            let (first, longest) = (Duration::from_millis(250), Duration::from_secs(4));
            let mut backoff = Backoff::new(first, longest);
            for _ in 0..2 {
                let mut limit = first;
                for _ in 0..40 {
                    let pause = backoff.pause(random);
                    prop_assert!(pause >= limit / 2 && pause <= limit, "{:?} of {:?}", pause, limit);
                    backoff.failed();
                    limit = (limit * 2).min(longest);
                }
                backoff.reset();
            }
        }
    }
}
