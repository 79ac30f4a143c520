//! Broker liveness: when to send a probe, when silence means that the connection is lost, and when
//! messages arrive too late.
//!
//! A probe proves that everything published before it was sent has arrived: an own probe directly,
//! that of another replica by the comparison of clocks in `peers`. While another replica's probe
//! proves it in each interval, this replica sends none. Otherwise it sends its own.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{
    ProbeIntervals,
    message::{Millis, StreamProbe},
    peers::Peers,
};

use crate::ambient;

/// When the last message arrived, and when the last probe was sent.
#[derive(Debug)]
pub(super) struct ProbeTimer {
    interval: Duration,
    timeout: Duration,
    /// How much longer than `interval` to wait for the probe of another replica.
    patience: Duration,
    seen: Instant,
    /// Everything that was published before this time has arrived.
    proven: Instant,
    /// When the last probe was sent.
    sent: Option<Instant>,
    /// When the first probe after the last message was sent.
    unanswered: Option<Instant>,
    /// Own probes that have not come back, and when each was sent.
    under_way: VecDeque<(u64, Instant)>,
    /// The last own probe that the broker has confirmed, and with it all before.
    confirmed: Option<u64>,
    peers: Peers,
    /// When [`ProbeTimer::liveness`] was last called.
    asked: Instant,
}

/// After a gap of this length between two calls the process was paused, and has to handle first
/// what arrived meanwhile.
const PAUSED_AFTER: Duration = Duration::from_millis(250);

/// The state of the connection, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    /// Messages arrive in time; nothing to do.
    Alive,
    /// Send a probe.
    ProbeDue,
    /// A probe has been in flight for too long, whatever else arrives.
    Late,
    /// Nothing has arrived for too long, although a probe was sent.
    Lost,
}

// === impl ProbeTimer ===

impl ProbeTimer {
    pub(super) fn new(replica: &str, probes: ProbeIntervals, now: Instant, clock: Millis) -> Self {
        let ProbeIntervals { interval, timeout } = probes;
        Self {
            interval,
            timeout,
            patience: longest_patience(interval),
            seen: now,
            proven: now,
            sent: None,
            unanswered: None,
            under_way: VecDeque::new(),
            confirmed: None,
            peers: Peers::new(replica, interval, clock),
            asked: now,
        }
    }

    /// A message arrived.
    pub(super) const fn on_message(&mut self, now: Instant) {
        self.seen = now;
        self.unanswered = None;
    }

    /// The broker answers, although it accepts no probe.
    pub(super) const fn note_alive(&mut self, now: Instant) {
        self.seen = now;
    }

    /// The broker accepts no probe now: none is due, and those that it has not confirmed are not
    /// awaited. Confirmed ones must still come back, as the messages that were published with them.
    pub(super) fn pause(&mut self, now: Instant) {
        let confirmed = self.confirmed;
        self.under_way.retain(|(number, _)| Some(*number) <= confirmed);
        self.proven = now;
        self.sent = Some(now);
        self.unanswered = None;
    }

    /// The broker has confirmed the last own probe.
    pub(super) fn confirmed(&mut self) {
        self.confirmed = self.under_way.back().map(|(number, _)| *number).max(self.confirmed);
    }

    /// When the last message arrived.
    pub(super) const fn last_seen(&self) -> Instant {
        self.seen
    }

    /// A probe has just arrived, from this or another replica.
    pub(super) fn probe_arrived(&mut self, probe: &StreamProbe, now: Instant, clock: Millis) {
        let Some(since) = self.peers.arrived(probe, clock) else { return };
        let age = Duration::from_millis(clock.saturating_sub(since).unsigned_abs());
        if let Some(sent) = now.checked_sub(age) {
            self.proven = self.proven.max(sent);
        }
    }

    /// The own probe with this number has just arrived. Returns whether it was in time.
    pub(super) fn is_in_time(&mut self, number: u64) -> bool {
        let mut sent = None;
        while let Some((_, at)) = self.under_way.pop_front_if(|(place, _)| *place <= number) {
            sent = Some(at);
        }
        // A probe that was sent on an earlier connection proves nothing for this one.
        let Some(sent) = sent else { return false };
        self.proven = self.proven.max(sent);
        self.seen.saturating_duration_since(sent) < self.late_after()
    }

    /// Since when published messages may not have arrived, if probes are late.
    pub(super) fn late_since(&self) -> Instant {
        self.under_way.front().map_or(self.seen, |(_, sent)| *sent)
    }

    /// A probe that takes longer is late. A probe is sent at most an interval and the patience
    /// after the last proof, so no message is later than the timeout without being noticed.
    fn late_after(&self) -> Duration {
        self.timeout.saturating_sub(self.interval + longest_patience(self.interval))
    }

    /// Makes the probe with this number, which is sent now. `random` is a random number up to 255.
    pub(super) fn send(
        &mut self,
        number: u64,
        now: Instant,
        clock: Millis,
        random: u8,
    ) -> StreamProbe {
        self.under_way.push_back((number, now));
        self.sent = Some(now);
        self.unanswered = self.unanswered.or(Some(now));
        let longest = longest_patience(self.interval);
        self.patience = longest / 2 + longest / 2 * u32::from(random) / 255;
        self.peers.probe(number, clock)
    }

    /// Whether the last probe was sent at least an interval ago, even if messages arrive.
    pub(super) fn is_probe_overdue(&self, now: Instant) -> bool {
        self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= self.interval)
    }

    /// The liveness at this time. All messages that have arrived must have been handled before.
    pub(super) fn liveness(&mut self, now: Instant, clock: Millis) -> Liveness {
        let since = |then| now.saturating_duration_since(then);
        let was_paused = since(std::mem::replace(&mut self.asked, now)) > PAUSED_AFTER;
        if was_paused {
            self.peers.forget_clocks();
        }
        let silence = since(self.seen);
        // Only a probe that had the time to come back counts: this process may have been busy.
        let is_unanswered = self.unanswered.is_some_and(|sent| since(sent) >= self.timeout / 4);
        if silence >= self.timeout && is_unanswered {
            return Liveness::Lost;
        }
        let is_late = |(_, sent): &(u64, Instant)| since(*sent) >= self.late_after();
        if !was_paused && self.under_way.front().is_some_and(is_late) {
            return Liveness::Late;
        }
        // The leader does not wait for others.
        let patience = if self.peers.is_leader() { Duration::ZERO } else { self.patience };
        let is_due = since(self.proven) >= self.interval + patience;
        let is_due = is_due || self.peers.owes_comparison(clock);
        if is_due && self.is_probe_overdue(now) { Liveness::ProbeDue } else { Liveness::Alive }
    }
}

/// The longest time after the interval that a replica waits for the probe of another one.
fn longest_patience(interval: Duration) -> Duration {
    interval * 2 / 5
}

/// The clock by which probes are compared: it is not slewed.
pub(super) fn clock() -> Millis {
    Millis::try_from(ambient::unslewed().as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVALS: ProbeIntervals = ProbeIntervals {
        interval: Duration::from_millis(500),
        timeout: Duration::from_millis(1_500),
    };

    fn probe_timer(start: Instant) -> ProbeTimer {
        ProbeTimer::new("me", INTERVALS, start, 0)
    }

    fn millis(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    fn clock(at: u64) -> Millis {
        Millis::try_from(at).unwrap()
    }

    /// Replicas that share a stream, which delivers each message with a delay.
    struct World {
        start: Instant,
        timers: Vec<ProbeTimer>,
        numbers: Vec<u64>,
        stream: VecDeque<(u64, StreamProbe)>,
        sent: Vec<usize>,
        /// A replica that has stopped.
        gone: Option<usize>,
    }

    impl World {
        fn new(replicas: u64) -> Self {
            let start = Instant::now();
            let new = |n: u64| ProbeTimer::new(&n.to_string(), INTERVALS, start, 0);
            let count = usize::try_from(replicas).unwrap();
            Self {
                start,
                timers: (0..replicas).map(new).collect(),
                numbers: vec![0; count],
                stream: VecDeque::new(),
                sent: vec![0; count],
                gone: None,
            }
        }

        /// Lets a millisecond pass. The replica `deaf` gets nothing. Returns the replicas that are
        /// late.
        fn step(&mut self, at: u64, deaf: Option<usize>) -> Vec<usize> {
            let now = millis(self.start, at);
            while let Some((_, probe)) = self.stream.pop_front_if(|(due, _)| *due <= at) {
                for (place, probe_timer) in self.timers.iter_mut().enumerate() {
                    if [deaf, self.gone].contains(&Some(place)) {
                        continue;
                    }
                    probe_timer.on_message(now);
                    probe_timer.probe_arrived(&probe, now, clock(at));
                    if probe.from == place.to_string() {
                        probe_timer.is_in_time(probe.number);
                    }
                }
            }
            let mut late = Vec::new();
            for (place, probe_timer) in self.timers.iter_mut().enumerate() {
                if self.gone == Some(place) {
                    continue;
                }
                match probe_timer.liveness(now, clock(at)) {
                    Liveness::ProbeDue => {
                        self.numbers[place] += 1;
                        self.sent[place] += 1;
                        let random = u8::try_from(place * 37 % 256).unwrap();
                        let probe = probe_timer.send(self.numbers[place], now, clock(at), random);
                        self.stream.push_back((at + 3, probe));
                    }
                    Liveness::Late | Liveness::Lost => late.push(place),
                    Liveness::Alive => {}
                }
            }
            late
        }
    }

    #[test]
    fn one_probe_in_each_interval_serves_all_replicas() {
        for replicas in [1, 3, 10, 50] {
            let mut world = World::new(replicas);
            for at in 0..300_000 {
                assert_eq!(world.step(at, None), [0; 0], "{replicas} replicas after {at} ms");
            }
            let total: usize = world.sent.iter().sum();
            // Two in a second, and one of each replica in half a minute, after those of the start.
            let replicas = usize::try_from(replicas).unwrap();
            let most = 600 + replicas * 12;
            assert!((590..=most).contains(&total), "{replicas} replicas sent {total}");
        }
    }

    #[test]
    fn another_replica_leads_when_the_leader_is_gone() {
        let mut world = World::new(5);
        for at in 0..20_000 {
            world.step(at, None);
        }
        world.gone = world.timers.iter().position(|probe_timer| probe_timer.peers.is_leader());
        assert!(world.gone.is_some());
        world.sent.fill(0);
        for at in 20_000..60_000 {
            assert_eq!(world.step(at, None), [0; 0], "after {at} ms");
        }
        let total: usize = world.sent.iter().sum();
        assert!((78..=110).contains(&total), "{total} in 40 s");
    }

    #[test]
    fn a_replica_without_deliveries_notices_within_the_timeout() {
        for deaf in 0..3 {
            for from in (10_000..11_000).step_by(37) {
                let mut world = World::new(3);
                for at in 0..from {
                    world.step(at, None);
                }
                let noticed =
                    (from..from + 10_000).find(|at| world.step(*at, Some(deaf)).contains(&deaf));
                let took = noticed.unwrap() - from;
                assert!(took <= 1_500, "replica {deaf} noticed after {took} ms");
            }
        }
    }

    #[test]
    fn a_late_probe_is_noticed_although_events_arrive() {
        let start = Instant::now();
        let mut probe_timer = probe_timer(start);
        probe_timer.send(1, start, 0, 0);
        let late = (0..3_000).find(|&at| {
            probe_timer.on_message(millis(start, at));
            probe_timer.liveness(millis(start, at), clock(at)) == Liveness::Late
        });
        assert_eq!(late, Some(800));
        assert_eq!(probe_timer.late_since(), start);
        probe_timer.send(2, millis(start, 800), 800, 0);
        probe_timer.on_message(millis(start, 1_300));
        assert!(!probe_timer.is_in_time(1), "it took more than a second");
        assert_eq!(probe_timer.liveness(millis(start, 1_300), 1_300), Liveness::ProbeDue);
        probe_timer.send(3, millis(start, 1_300), 1_300, 0);
        assert!(probe_timer.is_in_time(2), "and the next one half a second");
        assert!(!probe_timer.is_in_time(2), "once");
    }

    #[test]
    fn an_alarm_excuses_only_unconfirmed_probes() {
        let start = Instant::now();
        let late = |is_confirmed: bool| {
            let mut probe_timer = probe_timer(start);
            probe_timer.send(1, start, 0, 0);
            if is_confirmed {
                probe_timer.confirmed();
            }
            (10..3_000).find(|&at| {
                probe_timer.note_alive(millis(start, at));
                probe_timer.pause(millis(start, at));
                probe_timer.liveness(millis(start, at), clock(at)) == Liveness::Late
            })
        };
        assert_eq!((late(true), late(false)), (Some(800), None));
    }

    #[test]
    fn a_paused_process_handles_first_what_arrived() {
        let start = Instant::now();
        let mut probe_timer = probe_timer(start);
        probe_timer.send(1, start, 0, 0);
        assert_eq!(probe_timer.liveness(millis(start, 1_200), 1_200), Liveness::ProbeDue);
        assert_eq!(probe_timer.liveness(millis(start, 1_225), 1_225), Liveness::Late);
    }

    #[test]
    fn silence_is_answered_by_probes_and_then_a_loss() {
        for random in [0, 100, 255] {
            let start = Instant::now();
            let mut probe_timer = probe_timer(start);
            probe_timer.send(0, start, 0, random);
            probe_timer.on_message(millis(start, 1));
            assert!(probe_timer.is_in_time(0));
            let (mut probes, mut lost_at) = (0, None);
            for at in 1..3_000 {
                match probe_timer.liveness(millis(start, at), clock(at)) {
                    Liveness::Alive | Liveness::Late => {}
                    Liveness::ProbeDue => {
                        assert!(at > 500, "the first one after the interval: {at}");
                        probes += 1;
                        probe_timer.send(probes, millis(start, at), clock(at), random);
                    }
                    Liveness::Lost => {
                        lost_at = Some(at);
                        break;
                    }
                }
            }
            assert!((1..=2).contains(&probes), "{random}: {probes}");
            assert!(lost_at.is_some_and(|at| (1_500..1_600).contains(&at)), "{lost_at:?}");
        }
    }

    #[test]
    fn a_process_too_busy_to_send_a_probe_declares_no_loss() {
        let start = Instant::now();
        let mut probe_timer = probe_timer(start);
        assert_eq!(probe_timer.liveness(millis(start, 60_000), 60_000), Liveness::ProbeDue);
        probe_timer.send(1, millis(start, 60_000), 60_000, 0);
        assert_eq!(probe_timer.liveness(millis(start, 60_001), 60_001), Liveness::Alive);
        assert_eq!(probe_timer.liveness(millis(start, 60_400), 60_400), Liveness::Lost);
    }

    #[test]
    fn a_probe_is_overdue_after_the_interval_whatever_else_arrives() {
        let start = Instant::now();
        let mut probe_timer = probe_timer(start);
        assert!(probe_timer.is_probe_overdue(start));
        probe_timer.send(1, start, 0, 255);
        probe_timer.on_message(millis(start, 499));
        assert!(!probe_timer.is_probe_overdue(millis(start, 499)));
        assert!(probe_timer.is_probe_overdue(millis(start, 500)));
    }
}
