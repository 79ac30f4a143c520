//! Exponential backoff with jitter: how long to wait before a retry. The jitter prevents that a
//! service that recovers gets the requests of all replicas at once.

use std::time::Duration;

use crate::random::random_byte;

/// Replicas spread requests that are expensive for the store over this time.
const SPREAD: Duration = Duration::from_secs(2);
/// A limit is reached after fewer failures than this.
const MOST_DOUBLINGS: u32 = 16;

/// The pauses between attempts: the limit of a pause doubles with each failure in a row.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// The first pause is at most `first`, and no pause is longer than `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Between two attempts to connect to a service.
    pub(crate) const fn of_connecting() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(1))
    }

    /// An attempt failed: the next pause may be twice as long.
    pub(crate) const fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// An attempt succeeded: the next pause is a short one.
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause before the next attempt: half of its limit or more.
    pub(crate) fn pause(&self) -> Duration {
        let limit = self.first.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS));
        jittered(limit.min(self.longest))
    }
}

/// Between half of `whole` and all of it.
pub(crate) fn jittered(whole: Duration) -> Duration {
    whole / 2 + part(whole / 2)
}

/// A random pause before an expensive request to the store that all replicas have reason to send
/// now.
pub(crate) fn spread() -> Duration {
    part(SPREAD)
}

fn part(whole: Duration) -> Duration {
    whole * u32::from(random_byte()) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_short_again_after_success() {
        let (first, longest) = (Duration::from_millis(250), Duration::from_secs(4));
        let mut backoff = Backoff::new(first, longest);
        for _ in 0..2 {
            let mut limit = first;
            for _ in 0..40 {
                let pause = backoff.pause();
                assert!(pause >= limit / 2 && pause <= limit, "{pause:?} of {limit:?}");
                backoff.failed();
                limit = (limit * 2).min(longest);
            }
            backoff.reset();
        }
    }

    #[test]
    fn replicas_do_not_all_wait_equally_long() {
        let pauses: Vec<_> = (0..100).map(|_| Backoff::of_connecting().pause()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        let mut spread: Vec<_> = (0..500).map(|_| spread()).collect();
        spread.sort();
        assert!(spread[0] < SPREAD / 10 && spread[499] > SPREAD / 10 * 9);
        assert!(spread[499] <= SPREAD);
    }
}
