//! Owns when a store that fails is left alone. It knows no clock: whoever asks says what time it is.

use std::time::{Duration, Instant};

use super::config::BreakerConfig;

/// Stops questions after failures in a row, and lets one through now and then to see whether it is
/// time to go on.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_allowed: u32,
    cooldown: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All is well, but for so many failures in a row.
    Closed { failures: u32 },
    /// Nothing is asked before then.
    Open { until: Instant },
    /// One question is on its way, and decides.
    HalfOpen,
}

// === impl Breaker ===

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            failures_allowed: config.failures.max(1),
            cooldown: config.cooldown.get(),
            state: State::Closed { failures: 0 },
        }
    }

    /// Whether to ask now. Whoever is told so says how it went.
    pub(super) fn permits(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } if now < until => false,
            State::Open { .. } => {
                self.state = State::HalfOpen;
                true
            }
            State::HalfOpen => false,
        }
    }

    /// There was an answer.
    pub(super) fn succeeded(&mut self) {
        self.state = State::Closed { failures: 0 };
    }

    /// There was none. Returns whether this is what stops further questions.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        let opens = match self.state {
            State::Closed { failures } => failures + 1 >= self.failures_allowed,
            State::Open { .. } | State::HalfOpen => true,
        };
        self.state = match self.state {
            State::Closed { failures } if !opens => State::Closed { failures: failures + 1 },
            _ => State::Open { until: now + self.cooldown },
        };
        opens
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::duration::HumanDuration;

    const COOLDOWN: Duration = Duration::from_secs(1);

    fn breaker(failures: u32) -> Breaker {
        Breaker::new(BreakerConfig { failures, cooldown: HumanDuration::from_millis(1_000) })
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_when_one_question_is_answered() {
        let (mut breaker, start) = (breaker(3), Instant::now());
        for answered in [false, false, true, false, false] {
            assert!(breaker.permits(start));
            if answered { breaker.succeeded() } else { assert!(!breaker.failed(start)) }
        }
        assert!(breaker.permits(start));
        assert!(breaker.failed(start));
        assert!(!breaker.permits(start + COOLDOWN / 2));
        assert!(breaker.permits(start + COOLDOWN));
        assert!(!breaker.permits(start + COOLDOWN), "one question decides");
        breaker.succeeded();
        assert!(breaker.permits(start + COOLDOWN));
    }

    #[test]
    fn a_question_that_fails_again_starts_another_pause() {
        let (mut breaker, start) = (breaker(1), Instant::now());
        assert!(breaker.permits(start) && breaker.failed(start));
        let later = start + COOLDOWN;
        assert!(breaker.permits(later) && breaker.failed(later));
        assert!(!breaker.permits(later + COOLDOWN / 2));
        assert!(breaker.permits(later + COOLDOWN));
    }

    #[test]
    fn allowing_no_failure_at_all_means_stopping_at_the_first() {
        let (mut breaker, start) = (breaker(0), Instant::now());
        assert!(breaker.permits(start) && breaker.failed(start));
        assert!(!breaker.permits(start));
    }

    proptest! {
        /// A store that is down is asked `failures` times, and then once in a cooldown; one that is
        /// up again is asked always, a cooldown later at the latest.
        #[test]
        fn a_store_that_is_down_is_asked_seldom_and_one_that_is_up_always(
            failures in 1..5_u32,
            questions in prop::collection::vec((0..400_u64, any::<bool>()), 1..200),
        ) {
            let (mut breaker, mut now) = (breaker(failures), Instant::now());
            // Looking back: failures in a row, and when the last one was.
            let (mut in_a_row, mut last): (u32, Option<Instant>) = (0, None);
            for (pause, answers) in questions {
                now += Duration::from_millis(pause);
                let expected =
                    in_a_row < failures || last.is_some_and(|last| now >= last + COOLDOWN);
                prop_assert_eq!(breaker.permits(now), expected);
                match (expected, answers) {
                    (false, _) => {}
                    (true, true) => {
                        breaker.succeeded();
                        in_a_row = 0;
                    }
                    (true, false) => {
                        in_a_row += 1;
                        last = Some(now);
                        prop_assert_eq!(breaker.failed(now), in_a_row >= failures);
                    }
                }
            }
        }
    }
}
