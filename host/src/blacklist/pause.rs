//! Owns how long to wait before trying again, never the same for all replicas, so that a service that
//! comes back is not met by all of them at once.

use std::time::Duration;

use aws_lc_rs::rand;

/// The first pause between two attempts to connect is at most this long.
const FIRST: Duration = Duration::from_millis(50);
/// And no pause is longer than this.
const LONGEST: Duration = Duration::from_secs(1);
/// Over this time, replicas spread what is expensive for the store.
const SPREAD: Duration = Duration::from_secs(2);
/// Between two attempts to read the snapshot.
const SNAPSHOT: Duration = Duration::from_secs(1);
/// The store is read a second time this long after the feed is live, or up to half sooner.
const SECOND_READING: Duration = Duration::from_secs(4);

/// A pause before connecting again, after so many failures in a row.
pub(super) fn before_connecting(failures: u32) -> Duration {
    part(FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST), chance())
}

/// A pause before what all replicas have reason to do now, and what costs the store much.
pub(super) fn spread() -> Duration {
    part(SPREAD, chance())
}

/// A pause before reading the snapshot again.
pub(super) fn before_snapshot() -> Duration {
    SNAPSHOT / 2 + part(SNAPSHOT / 2, chance())
}

/// A pause before the store is read a second time.
pub(super) fn before_second_reading() -> Duration {
    SECOND_READING / 2 + part(SECOND_READING / 2, chance())
}

/// A random number. Should the system have none, everybody waits the whole time.
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
    fn the_first_attempts_follow_quickly_and_later_ones_within_a_second() {
        let longest =
            |failures| (0..500).map(|_| before_connecting(failures)).max().unwrap_or_default();
        assert!(longest(0) <= FIRST);
        assert!((Duration::from_millis(100)..=LONGEST).contains(&longest(3)));
        assert!((LONGEST / 2..=LONGEST).contains(&longest(u32::MAX)));
    }

    #[test]
    fn what_is_expensive_is_spread() {
        let mut pauses: Vec<_> = (0..500).map(|_| spread()).collect();
        pauses.sort();
        assert!(pauses[0] < SPREAD / 10 && pauses[499] > SPREAD / 10 * 9);
        assert!(pauses[499] <= SPREAD);
    }
}
