//! Pauses between requests to services: how long, and with which random numbers.

use std::time::Duration;

use portcullis_runtime::backoff;
pub(crate) use portcullis_runtime::backoff::Backoff;

use crate::random::random_byte;

/// Replicas spread requests that are expensive for the store over this time.
const SPREAD: Duration = Duration::from_secs(2);

/// Between two attempts to connect to a service.
pub(crate) const fn of_connecting() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(1))
}

/// The pause of `backoff` before the next attempt.
pub(crate) fn pause(backoff: &Backoff) -> Duration {
    backoff.pause(random_byte())
}

/// Between half of `whole` and all of it.
pub(crate) fn jittered(whole: Duration) -> Duration {
    backoff::jittered(whole, random_byte())
}

/// A random pause before an expensive request to the store that all replicas have reason to send
/// now.
pub(crate) fn spread() -> Duration {
    backoff::part(SPREAD, random_byte())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_do_not_all_wait_equally_long() {
        let pauses: Vec<_> = (0..100).map(|_| pause(&of_connecting())).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        let mut spread: Vec<_> = (0..500).map(|_| spread()).collect();
        spread.sort();
        assert!(spread[0] < SPREAD / 10 && spread[499] > SPREAD / 10 * 9);
        assert!(spread[499] <= SPREAD);
    }
}
