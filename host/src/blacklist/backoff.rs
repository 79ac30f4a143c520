//! Owns how long to wait before trying again, so that a service that comes back is not met by all
//! replicas at once.

use std::time::Duration;

/// The wait after the first failure, before chance shortens it.
const FIRST: Duration = Duration::from_millis(100);

/// No wait is longer: whoever waits is out of date.
const LONGEST: Duration = Duration::from_secs(2);

/// Doubles from one failure to the next.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// As if nothing had failed yet.
    pub(super) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait now: between half of the full time and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let full = self.next;
        self.next = full.saturating_mul(2).min(LONGEST);
        let mut chance = [0];
        // Without chance all wait for the shortest time, which is no disaster.
        let _ = aws_lc_rs::rand::fill(&mut chance);
        let [chance] = chance;
        full / 2 + full / 2 * u32::from(chance) / u32::from(u8::MAX)
    }

    /// Everything works again.
    pub(super) const fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new();
        for full in [100, 200, 400, 800, 1600, 2000, 2000].map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(full / 2 <= wait && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn not_everybody_waits_for_the_same_time() {
        let waits: std::collections::HashSet<_> = (0..64).map(|_| Backoff::new().next()).collect();
        assert!(waits.len() > 1);
    }
}
