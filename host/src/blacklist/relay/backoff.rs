//! Backoff of the relay: how long it waits after a failure, longer with each one in a row.

use std::time::Duration;

use crate::blacklist::nonce;

/// The longest pause after the first failure.
const FIRST: Duration = Duration::from_millis(250);
/// No pause is longer than this.
const LONGEST: Duration = Duration::from_secs(4);

/// Counts the failures since the last progress.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// There was progress: the next pause is a short one.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure. It is half of the longest one or more, by chance.
    pub(super) fn after_failure(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        nonce::jittered(longest / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_are_short_again_after_progress() {
        let mut backoff = Backoff::default();
        for _ in 0..2 {
            let mut longest = FIRST;
            for _ in 0..20 {
                let pause = backoff.after_failure();
                assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
                longest = (longest * 2).min(LONGEST);
            }
            backoff.reset();
        }
    }

    #[test]
    fn relays_do_not_wait_equally_long() {
        let pauses: Vec<_> = (0..100).map(|_| Backoff::default().after_failure()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
    }
}
