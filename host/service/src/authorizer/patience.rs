//! Wait limit of a request: how long it may wait for anything, given when its caller stops waiting.

use std::time::{Duration, Instant};

/// What is left of the caller's time for the answer to arrive, or a fifth of it if that is less.
const ANSWER: Duration = Duration::from_millis(100);

/// How long may be waited for anything, so that the answer arrives before `deadline`: after it, a
/// proxy that fails open lets the request pass.
pub(super) fn patience(deadline: Option<Instant>) -> Option<Duration> {
    Some(spend(deadline?.saturating_duration_since(Instant::now())))
}

fn spend(left: Duration) -> Duration {
    left.saturating_sub((left / 5).min(ANSWER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_the_time_is_kept_for_the_answer() {
        assert_eq!(patience(None), None);
        assert_eq!(patience(Some(Instant::now())), Some(Duration::ZERO));
        for (left, most) in [(200, 160), (2000, 1900), (60_000, 59_900)] {
            assert_eq!(spend(Duration::from_millis(left)), Duration::from_millis(most));
        }
        let far = Instant::now() + Duration::from_mins(1);
        assert!(patience(Some(far)).unwrap() > ANSWER);
    }
}
