//! Time budgets of calls into policies: processor time, and a last moment.
//!
//! A budget counts the processor time of the thread that makes the call, so that a busy machine or a
//! throttled container is not taken for a slow policy. The last moment bounds the wait of the caller.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use super::{
    engine::ticks,
    turns::{SLICE, Turn},
};

/// How much longer than its processor time a call may last where the caller names no limit: on a
/// machine that runs four times as much as it has processors for, a call takes four times as long.
const STRETCH: u32 = 4;
/// The same for calls that are so short that the scheduler's time slices count.
const SLACK: Duration = Duration::from_millis(100);

/// What one call into a policy may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Processor time.
    pub processor: Duration,
    /// The moment at which the call ends in any case.
    pub until: Instant,
}

/// Measures a call against its budget, at each tick at which the engine asks.
#[derive(Debug)]
pub(super) struct Meter {
    budget: Budget,
    /// The thread's processor time when the engine first asked, which is one to two ticks after the
    /// call began. Calls that end before that cost no system call.
    first: Option<Duration>,
    /// What a call has that takes turns with others.
    turn: Option<Turn>,
    /// The thread's processor time when the turn began.
    turn_began: Duration,
}

// === impl Budget ===

impl Budget {
    /// A budget of `processor` for a caller that waits for `patience`, if it stated a time.
    #[must_use]
    pub fn new(processor: Duration, patience: Option<Duration>) -> Self {
        let wait =
            patience.unwrap_or_else(|| processor.saturating_mul(STRETCH).saturating_add(SLACK));
        let now = Instant::now();
        // A deadline too far to be represented is never reached; an hour stands for it.
        let until = now.checked_add(wait).unwrap_or(now + Duration::from_hours(1));
        Self { processor, until }
    }

    /// The same budget with no more than `processor` of processor time.
    pub(super) fn at_most(self, processor: Duration) -> Self {
        Self { processor: self.processor.min(processor), ..self }
    }

    /// Whether its last moment has passed.
    pub(super) fn is_over(self) -> bool {
        Instant::now() >= self.until
    }

    /// Ticks until the engine first asks: early, so that most of the call's time is measured.
    pub(super) fn first_ticks() -> u64 {
        ticks(Duration::ZERO) + 1
    }
}

// === impl Meter ===

impl Meter {
    pub(super) fn new(budget: Budget, turn: Option<Turn>) -> Self {
        Self { budget, first: None, turn, turn_began: Duration::ZERO }
    }

    /// The call is over. The turn ends, unless the caller has a use for the rest of it.
    pub(super) fn end(&mut self) -> Option<Turn> {
        self.turn.take()
    }

    /// Whether the call may go on, and for how many ticks until the next look.
    pub(super) fn look(&mut self) -> UpdateDeadline {
        let now = thread_time();
        if self.first.is_none() {
            self.first = Some(now);
            self.turn_began = now;
        }
        let used = now.saturating_sub(self.first.unwrap_or(now));
        let left = self.budget.processor.saturating_sub(used);
        let wait = self.budget.until.saturating_duration_since(Instant::now());
        if left.is_zero() || wait.is_zero() {
            return UpdateDeadline::Interrupt;
        }
        // The rest of the processor time cannot pass before as much time has passed.
        let rest = left.min(wait);
        let Some(turn) = &mut self.turn else { return UpdateDeadline::Continue(ticks(rest)) };
        if now.saturating_sub(self.turn_began) >= SLICE {
            if !turn.pass_on(self.budget.until) {
                return UpdateDeadline::Interrupt;
            }
            // Waiting takes no processor time.
            self.turn_began = now;
        }
        UpdateDeadline::Continue(ticks(rest.min(SLICE)))
    }
}

/// The processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(duration: Duration) {
        let end = thread_time() + duration;
        while thread_time() < end {}
    }

    #[test]
    fn a_call_that_waits_for_the_processor_uses_none_of_its_budget() {
        let budget = Budget::new(Duration::from_millis(20), Some(Duration::from_mins(1)));
        let mut meter = Meter::new(budget, None);
        assert!(matches!(meter.look(), UpdateDeadline::Continue(_)));
        std::thread::sleep(Duration::from_millis(30));
        assert!(matches!(meter.look(), UpdateDeadline::Continue(_)));
        spin(Duration::from_millis(21));
        assert!(matches!(meter.look(), UpdateDeadline::Interrupt));
    }

    #[test]
    fn a_caller_who_no_longer_waits_ends_the_call() {
        let mut meter = Meter::new(Budget::new(Duration::from_mins(1), Some(Duration::ZERO)), None);
        assert!(matches!(meter.look(), UpdateDeadline::Interrupt));
    }

    #[test]
    fn a_budget_without_end_does_not_overflow() {
        assert!(!Budget::new(Duration::MAX, None).is_over());
    }
}
