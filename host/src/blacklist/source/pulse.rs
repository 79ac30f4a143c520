//! Owns telling a quiet broker from a dead one, and a quick one from a slow one: when to send a
//! probe, when silence means that the connection is lost, and when what arrives is too old.
//!
//! While nothing is published, one probe serves all replicas, since all of them see it. Each waits a
//! little longer than it must, at random, and most find that another one was first. But each sends one
//! of its own in each time-out, to notice that those of others arrive later and later. While events
//! arrive, each replica sends probes of its own: how long they are under way is how late the events
//! are.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

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
    /// Our probes that have not come back, and when each was sent.
    under_way: VecDeque<(u64, Instant)>,
    /// Whether something else than a probe arrived after the last probe was sent.
    has_traffic: bool,
    /// When it was last asked what to do.
    asked: Instant,
}

/// Who has not asked for so long stood still, and has to look first at what arrived meanwhile.
const STOOD_STILL: Duration = Duration::from_millis(250);

/// What the time calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing.
    Rest,
    /// See whether anything still arrives.
    Probe,
    /// A probe has been under way for too long, whatever else arrives.
    Late,
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
            under_way: VecDeque::new(),
            has_traffic: false,
            asked: now,
        }
    }

    /// Something arrived.
    pub(super) const fn seen(&mut self, now: Instant) {
        self.seen = now;
        self.unanswered = None;
    }

    /// The broker answers, although it takes no probe.
    pub(super) const fn alive(&mut self, now: Instant) {
        self.seen = now;
    }

    /// No probe can come back now: those under way prove nothing, and none is missed.
    pub(super) fn pause(&mut self, now: Instant) {
        self.under_way.clear();
        self.has_traffic = false;
        self.sent = Some(now);
        self.unanswered = None;
    }

    /// When something last arrived.
    pub(super) const fn last_seen(&self) -> Instant {
        self.seen
    }

    /// What arrived is no probe.
    pub(super) const fn has_traffic(&mut self) {
        self.has_traffic = true;
    }

    /// The probe with this number has just arrived: whether it was not under way for too long.
    pub(super) fn is_in_time(&mut self, number: u64) -> bool {
        let mut sent = None;
        while let Some((_, at)) = self.under_way.pop_front_if(|(place, _)| *place <= number) {
            sent = Some(at);
        }
        // One that an earlier connection sent proves nothing of this one.
        sent.is_some_and(|sent| self.seen.saturating_duration_since(sent) < self.late_after())
    }

    /// Since when what was published may not have arrived, if probes are late.
    pub(super) fn late_since(&self) -> Instant {
        self.under_way.front().map_or(self.seen, |(_, sent)| *sent)
    }

    /// A probe is sent an interval after what it is to measure, at the latest, so nothing is later
    /// than the time-out without being noticed.
    fn late_after(&self) -> Duration {
        self.timeout.saturating_sub(self.interval)
    }

    /// The probe with this number was sent. `chance` is a random number up to 255.
    pub(super) fn sent(&mut self, number: u64, now: Instant, chance: u8) {
        self.under_way.push_back((number, now));
        self.has_traffic = false;
        self.sent = Some(now);
        self.unanswered = self.unanswered.or(Some(now));
        self.patience = self.interval / 2 * u32::from(chance) / 255;
    }

    /// Whether the last probe was sent long enough ago to send another one, although messages arrive.
    pub(super) fn is_probe_overdue(&self, now: Instant) -> bool {
        self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= self.interval)
    }

    /// What to do at this time, everything that had arrived before being seen.
    pub(super) fn beat(&mut self, now: Instant) -> Beat {
        let since = |then| now.saturating_duration_since(then);
        let stood_still = since(std::mem::replace(&mut self.asked, now)) > STOOD_STILL;
        let silence = since(self.seen);
        // Only a probe that had the time to come back proves anything: we may have been busy.
        let is_unanswered = self.unanswered.is_some_and(|sent| since(sent) >= self.timeout / 4);
        if silence >= self.timeout && is_unanswered {
            return Beat::Dead;
        }
        let is_late = |(_, sent): &(u64, Instant)| since(*sent) >= self.late_after();
        if !stood_still && self.under_way.front().is_some_and(is_late) {
            return Beat::Late;
        }
        // Probes of others may come later and later, which only one of our own shows.
        let is_old = self.sent.is_none_or(|sent| since(sent) >= self.timeout);
        let is_due = self.has_traffic || is_old || silence >= self.interval + self.patience;
        if is_due && self.is_probe_overdue(now) { Beat::Probe } else { Beat::Rest }
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
    fn where_probes_of_others_arrive_few_of_its_own_are_sent() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        let mut probes = 0;
        for step in 1..100 {
            let now = millis(start, step * 499);
            if pulse.beat(now) == Beat::Probe {
                probes += 1;
                pulse.sent(probes, now, 255);
                assert!(pulse.is_in_time(probes));
            }
            pulse.seen(now);
        }
        // One in each time-out, so that it is noticed when those of others come later and later.
        assert!((25..=34).contains(&probes), "{probes}");
    }

    #[test]
    fn while_events_arrive_one_probe_is_sent_in_each_interval() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        let mut probes = 0;
        for at in (0..10_000).step_by(10) {
            let now = millis(start, at);
            pulse.seen(now);
            pulse.has_traffic();
            if pulse.beat(now) == Beat::Probe {
                probes += 1;
                pulse.sent(probes, now, 255);
                pulse.seen(now);
                assert!(pulse.is_in_time(probes));
            }
        }
        assert_eq!(probes, 20);
    }

    #[test]
    fn a_probe_that_is_under_way_for_too_long_is_noticed_although_events_arrive() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        pulse.sent(1, start, 0);
        let late = (0..3_000).find(|&at| {
            pulse.seen(millis(start, at));
            pulse.beat(millis(start, at)) == Beat::Late
        });
        assert_eq!(late, Some(1_000));
        assert_eq!(pulse.late_since(), start);
        pulse.sent(2, millis(start, 1_000), 0);
        pulse.seen(millis(start, 1_500));
        assert!(!pulse.is_in_time(1), "it took a second and a half");
        assert_eq!(pulse.beat(millis(start, 1_500)), Beat::Rest);
        assert!(pulse.is_in_time(2), "and the next one half a second");
        assert!(!pulse.is_in_time(2), "once");
    }

    #[test]
    fn who_stood_still_looks_first_at_what_arrived() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        pulse.sent(1, start, 0);
        assert_eq!(pulse.beat(millis(start, 1_200)), Beat::Probe);
        assert_eq!(pulse.beat(millis(start, 1_225)), Beat::Late);
    }

    #[test]
    fn silence_is_answered_by_probes_and_then_taken_for_death() {
        for chance in [0, 100, 255] {
            let start = Instant::now();
            let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
            pulse.sent(0, start, chance);
            pulse.seen(millis(start, 1));
            assert!(pulse.is_in_time(0));
            let (mut probes, mut dead_at) = (0, None);
            for at in 1..3_000 {
                match pulse.beat(millis(start, at)) {
                    Beat::Rest | Beat::Late => {}
                    Beat::Probe => {
                        assert!(at > 500, "the first one after the interval: {at}");
                        probes += 1;
                        pulse.sent(probes, millis(start, at), chance);
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
        pulse.sent(1, now, 0);
        assert_eq!(pulse.beat(millis(start, 60_001)), Beat::Rest);
        assert_eq!(pulse.beat(millis(start, 60_400)), Beat::Dead);
    }

    #[test]
    fn a_probe_is_overdue_after_the_interval_whatever_else_arrives() {
        let start = Instant::now();
        let mut pulse = Pulse::new(INTERVAL, TIMEOUT, start);
        assert!(pulse.is_probe_overdue(start));
        pulse.sent(1, start, 255);
        pulse.seen(millis(start, 499));
        assert!(!pulse.is_probe_overdue(millis(start, 499)));
        assert!(pulse.is_probe_overdue(millis(start, 500)));
    }
}
