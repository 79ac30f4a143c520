//! Backoff and jitter: how long to wait before trying again, at random, so that a service that comes
//! back does not get the requests of all replicas at once.

use std::time::Duration;

use aws_lc_rs::rand;

/// The first pause between two attempts to connect is at most this long.
const FIRST: Duration = Duration::from_millis(50);
/// And no pause is longer than this.
const LONGEST: Duration = Duration::from_secs(1);
/// But where connections are made and lead to nothing: each costs the broker much.
const LONGEST_IN_VAIN: Duration = Duration::from_secs(10);
/// Over this time, replicas spread what is expensive for the store.
const SPREAD: Duration = Duration::from_secs(2);
/// Between two attempts to read the store.
const READING_RETRY: Duration = Duration::from_secs(1);
/// The store is read again this long after the first reading of a connection.
const SOON: Duration = Duration::from_secs(4);

/// A pause before connecting again, after so many failures in a row, of which so many were made
/// connections that led to nothing.
pub(super) fn before_connecting(failures: u32, in_vain: u32) -> Duration {
    let growing = |failures: u32| FIRST.saturating_mul(1 << failures.min(10));
    let pause = growing(failures).min(LONGEST);
    part(pause.max(growing(in_vain).min(LONGEST_IN_VAIN)), chance())
}

/// A pause before what all replicas have reason to do now, and what costs the store much.
pub(super) fn spread() -> Duration {
    part(SPREAD, chance())
}

/// A pause before reading the store again after a failure.
pub(super) fn before_retry() -> Duration {
    mostly(READING_RETRY)
}

/// A pause before reading the store again soon after it was read.
pub(super) fn before_soon() -> Duration {
    mostly(SOON)
}

/// A pause before reading the store at each `interval`.
pub(super) fn regularly(interval: Duration) -> Duration {
    mostly(interval)
}

/// Between half of `whole` and all of it.
fn mostly(whole: Duration) -> Duration {
    whole / 2 + part(whole / 2, chance())
}

/// A random number. Should the system have none, each replica waits the whole time.
pub(super) fn chance() -> u8 {
    let mut byte = [u8::MAX];
    let _ = rand::fill(&mut byte);
    byte[0]
}

fn part(whole: Duration, chance: u8) -> Duration {
    whole * u32::from(chance) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempts_follow_quickly_and_later_ones_within_seconds() {
        let longest = |failures, in_vain| {
            (0..500).map(|_| before_connecting(failures, in_vain)).max().unwrap_or_default()
        };
        assert!(longest(0, 0) <= FIRST);
        assert!((Duration::from_millis(100)..=LONGEST).contains(&longest(3, 0)));
        assert!((LONGEST / 2..=LONGEST).contains(&longest(u32::MAX, 0)));
        let in_vain = longest(u32::MAX, u32::MAX);
        assert!((LONGEST_IN_VAIN / 2..=LONGEST_IN_VAIN).contains(&in_vain));
    }

    #[test]
    fn what_is_expensive_is_spread() {
        let mut pauses: Vec<_> = (0..500).map(|_| spread()).collect();
        pauses.sort();
        assert!(pauses[0] < SPREAD / 10 && pauses[499] > SPREAD / 10 * 9);
        assert!(pauses[499] <= SPREAD);
    }
}
