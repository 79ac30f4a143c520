//! Owns telling a quiet broker from a dead one: when to send a probe, and when silence means that
//! the connection is lost.
//!
//! All replicas see all messages, so one probe serves all of them. Each waits a little longer than
//! it must, at random, and most find that another one was first.

use std::time::{Duration, Instant};

/// When something last arrived, and when a probe was last sent.
#[derive(Debug)]
pub(super) struct Pulse {
    interval: Duration,
    timeout: Duration,
    /// How much longer than `interval` to wait.
    patience: Duration,
    seen: Instant,
    /// When the last probe was sent.
    sent: Option<Instant>,
    /// When the first probe was sent after something last arrived.
    unanswered: Option<Instant>,
}

/// What silence calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Rest,
    /// See whether anything still arrives.
    Probe,
    /// Nothing has arrived for too long, although something was sent.
    Dead,
}

// === impl Pulse ===

impl Pulse {
    pub(super) const fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        Self {
            interval,
            timeout,
            patience: Duration::ZERO,
            seen: now,
            sent: None,
            unanswered: None,
        }
    }

    /// Something arrived.
    pub(super) const fn seen(&mut self, now: Instant) {
        self.seen = now;
        self.unanswered = None;
    }

    /// When something last arrived.
    pub(super) const fn last_seen(&self) -> Instant {
        self.seen
    }

    /// A probe was sent. `chance` is a random number up to 255.
    pub(super) fn sent(&mut self, now: Instant, chance: u8) {
        self.sent = Some(now);
        self.unanswered = self.unanswered.or(Some(now));
        self.patience = self.interval / 2 * u32::from(chance) / 255;
    }

    /// Whether the last probe was sent long enough ago to send another one, although messages arrive.
    pub(super) fn is_probe_overdue(&self, now: Instant) -> bool {
        self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= self.interval)
    }

    /// What to do at this time, everything that had arrived before being seen.
    pub(super) fn beat(&self, now: Instant) -> Beat {
        let since = |then| now.saturating_duration_since(then);
        let silence = since(self.seen);
        // Only a probe that had the time to come back proves anything: we may have been busy.
        let is_unanswered = self.unanswered.is_some_and(|sent| since(sent) >= self.timeout / 4);
        if silence >= self.timeout && is_unanswered {
            return Beat::Dead;
        }
        if silence >= self.interval + self.patience && self.is_probe_overdue(now) {
            return Beat::Probe;
        }
        Beat::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);
    const TIMEOUT: Duration = Duration::from_millis(1_500);

    fn millis(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn whoever_hears_something_sends_no_probe() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        for step in 1..100 {
            let now = millis(start, step * 499);
            assert_eq!(pulse.beat(now), Beat::Rest);
            pulse.seen(now);
        }
    }

    #[test]
    fn silence_is_answered_by_probes_and_then_taken_for_death() {
        for chance in [0, 100, 255] {
            let start = Instant::now();
            let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
            pulse.sent(start, chance);
            pulse.seen(millis(start, 1));
            let (mut probes, mut dead_at) = (0, None);
            for at in 1..3_000 {
                match pulse.beat(millis(start, at)) {
                    Beat::Rest => {}
                    Beat::Probe => {
                        assert!(at > 500, "the first one after the interval: {at}");
                        pulse.sent(millis(start, at), chance);
                        probes += 1;
                    }
                    Beat::Dead => {
                        dead_at = Some(at);
                        break;
                    }
                }
            }
            assert!((1..=2).contains(&probes), "{chance}: {probes}");
            assert!(dead_at.is_some_and(|at| (1_500..1_600).contains(&at)), "{dead_at:?}");
        }
    }

    #[test]
    fn who_was_too_busy_to_send_a_probe_takes_nobody_for_dead() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        let now = millis(start, 60_000);
        assert_eq!(pulse.beat(now), Beat::Probe);
        pulse.sent(now, 0);
        assert_eq!(pulse.beat(millis(start, 60_001)), Beat::Rest);
        assert_eq!(pulse.beat(millis(start, 60_400)), Beat::Dead);
    }

    #[test]
    fn a_probe_is_overdue_after_the_interval_whatever_else_arrives() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        assert!(pulse.is_probe_overdue(start));
        pulse.sent(start, 255);
        pulse.seen(millis(start, 499));
        assert!(!pulse.is_probe_overdue(millis(start, 499)));
        assert!(pulse.is_probe_overdue(millis(start, 500)));
    }
}
