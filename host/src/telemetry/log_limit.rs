//! A rate limit for log lines that a peer can cause as often as it likes.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lets one line pass per minute, and counts those that it holds back.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    passed: Option<Instant>,
    held_back: u64,
}

/// How long one line keeps the next ones back.
const PERIOD: Duration = Duration::from_mins(1);

// === impl LogLimit ===

impl LogLimit {
    /// Whether a line may be written now: if so, how many were held back since the last one.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        // Two plain values are never half-changed.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.passed.is_some_and(|passed| now.saturating_duration_since(passed) < PERIOD) {
            state.held_back = state.held_back.saturating_add(1);
            return None;
        }
        state.passed = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_minute_passes_and_says_how_many_were_held_back() {
        let (limit, begin) = (LogLimit::default(), Instant::now());
        let at = |seconds| limit.pass_at(begin + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(59), at(60), at(61), at(200)],
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
