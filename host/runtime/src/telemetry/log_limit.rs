//! Rate limit for log lines that are repeated, or that peers can cause at any rate.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Lets a line pass if its text is new, or if the last one passed long enough ago. Counts the lines
/// that it suppresses.
#[derive(Debug, Default)]
pub struct RateLimitedLog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    passed: Option<(String, Instant)>,
    suppressed: u64,
}

// === impl RateLimitedLog ===

impl RateLimitedLog {
    /// A period that never ends: the same text passes once until [`RateLimitedLog::clear`].
    pub const UNTIL_CLEARED: Duration = Duration::MAX;

    /// Whether to log `text`: if so, how many lines were suppressed since the last one. The same
    /// text passes once per `period`.
    pub fn admit(&self, text: &str, period: Duration) -> Option<u64> {
        self.admit_at(text, period, Instant::now())
    }

    /// The fault is over: the next text passes. Returns whether one had passed since the last call.
    pub fn clear(&self) -> bool {
        std::mem::take(&mut *self.state()).passed.is_some()
    }

    /// Whether no text has passed since the log was cleared.
    pub fn is_clear(&self) -> bool {
        self.state().passed.is_none()
    }

    fn admit_at(&self, text: &str, period: Duration, now: Instant) -> Option<u64> {
        let mut state = self.state();
        if let Some((last, at)) = &state.passed
            && last == text
            && now.saturating_duration_since(*at) < period
        {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.passed = Some((text.to_owned(), now));
        Some(std::mem::take(&mut state.suppressed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Two plain values are never half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn one_line_per_minute_passes_with_the_number_suppressed() {
        let (log, begin) = (RateLimitedLog::default(), Instant::now());
        let at = |seconds| log.admit_at("", MINUTE, begin + Duration::from_secs(seconds));
        assert_eq!(
            [at(0), at(1), at(59), at(60), at(61), at(200)],
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }

    #[test]
    fn a_repeated_text_is_logged_once_and_the_next_line_counts_the_rest() {
        let log = RateLimitedLog::default();
        let admit = |text| log.admit(text, MINUTE);
        assert_eq!(admit("one"), Some(0));
        assert_eq!(admit("one"), None);
        assert_eq!(admit("one"), None);
        assert_eq!(admit("other"), Some(2));
        assert_eq!(admit("one"), Some(0));
    }

    #[test]
    fn a_cleared_text_passes_again() {
        let log = RateLimitedLog::default();
        let admit = || log.admit("one", RateLimitedLog::UNTIL_CLEARED).is_some();
        assert!(log.is_clear() && !log.clear());
        assert!(admit() && !admit() && !log.is_clear());
        assert!(log.clear() && log.is_clear());
        assert!(admit());
    }
}
