//! Probes of other replicas: what they prove, and which replica leads, that is, sends the next one.
//!
//! A replica that sees its own probe knows that everything has arrived that was published before it
//! was sent. So that one probe serves all replicas, a probe says when it was sent, by the clock of
//! its sender, and when the sender saw probes of others. It saw them after they were sent. So the
//! replica that sent one of them knows the largest possible lead of the other clock over its own,
//! and from then on the earliest time at which the other's probes were sent. No wall clock is
//! compared.
//!
//! The replica that has sent the last leading probe sends the next one. The others send a probe
//! from time to time, to compare the clocks, and whenever nothing proves to them that messages are
//! in time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::message::{Millis, Saw, StreamProbe};

/// What this replica knows of the others.
#[derive(Debug)]
pub(super) struct Peers {
    replica: String,
    /// After so long without a leading probe, another replica leads.
    patience: Millis,
    clocks: HashMap<String, PeerClock>,
    /// The last probes of this replica, and when each was sent.
    sent: VecDeque<(u64, Millis)>,
    /// The last probe of each other replica, and when it was seen.
    seen: VecDeque<Saw>,
    /// The sender of the last leading probe.
    leader: Option<String>,
    /// When it arrived.
    led_at: Millis,
}

/// How another clock compares with that of this replica.
#[derive(Debug, Clone, Copy)]
struct PeerClock {
    /// It is behind by at least this much.
    behind: Millis,
    /// When that was found.
    found: Millis,
}

/// Clocks are compared this often.
const COMPARE_EVERY: Millis = 30_000;
/// A comparison is valid for this long.
const COMPARED_FOR: Millis = 90_000;
/// Two clocks drift apart by at most a thousandth of the time, and each reading is rounded.
const DRIFT: Millis = 1_000;
const ROUNDING: Millis = 2;
/// How many own probes are remembered, and how many of others one probe names.
const REMEMBERED: usize = 64;

// === impl Peers ===

impl Peers {
    pub(super) fn new(replica: &str, interval: Duration, now: Millis) -> Self {
        Self {
            replica: replica.to_owned(),
            patience: millis(interval * 6 / 5),
            clocks: HashMap::new(),
            sent: VecDeque::new(),
            seen: VecDeque::new(),
            leader: None,
            // A replica that starts does not lead if another one does.
            led_at: now,
        }
    }

    /// Makes the probe with this number, which is sent now.
    pub(super) fn probe(&mut self, number: u64, now: Millis) -> StreamProbe {
        self.sent.push_back((number, now));
        if self.sent.len() > REMEMBERED {
            self.sent.pop_front();
        }
        self.seen.retain(|saw| now - saw.at <= 2 * self.patience);
        StreamProbe {
            from: self.replica.clone(),
            number,
            at: Some(now),
            leads: self.is_leader() || now - self.led_at >= self.patience,
            saw: self.seen.iter().cloned().collect(),
        }
    }

    /// A probe arrived. If it is that of another replica, returns the earliest time at which it was
    /// sent, if known: everything published before has arrived.
    pub(super) fn arrived(&mut self, probe: &StreamProbe, now: Millis) -> Option<Millis> {
        if probe.leads {
            (self.leader, self.led_at) = (Some(probe.from.clone()), now);
        }
        if probe.from == self.replica {
            return None;
        }
        self.seen.retain(|saw| saw.from != probe.from);
        self.seen.push_back(Saw { from: probe.from.clone(), number: probe.number, at: now });
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        self.compare(probe, now);
        let PeerClock { behind, found } = *self.clocks.get(&probe.from)?;
        let age = now - found;
        let sent = probe.at?.saturating_add(behind).saturating_sub(age / DRIFT + ROUNDING);
        // A time in the future shows that the comparison is wrong.
        if age > COMPARED_FOR || sent > now {
            self.clocks.remove(&probe.from);
            return None;
        }
        Some(sent)
    }

    /// Compares the clocks, if the other replica has seen one of this replica's last probes.
    fn compare(&mut self, probe: &StreamProbe, now: Millis) {
        let Some(saw) = probe.saw.iter().find(|saw| saw.from == self.replica) else { return };
        if let Some((_, sent)) = self.sent.iter().find(|(number, _)| *number == saw.number) {
            self.clocks.retain(|_, clock| now - clock.found <= COMPARED_FOR);
            self.clocks.insert(
                probe.from.clone(),
                PeerClock { behind: sent.saturating_sub(saw.at), found: now },
            );
        }
    }

    /// Whether this replica sent the last leading probe.
    pub(super) fn is_leader(&self) -> bool {
        self.leader.as_ref() == Some(&self.replica)
    }

    /// Whether it is time to compare the clocks.
    pub(super) fn owes_comparison(&self, now: Millis) -> bool {
        self.sent.back().is_some_and(|(_, sent)| now - sent >= COMPARE_EVERY)
    }

    /// This process may have been paused: earlier comparisons are not valid any more.
    pub(super) fn forget_clocks(&mut self) {
        self.clocks.clear();
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(500);

    /// Two replicas, and by how much the clock of the second is ahead.
    fn pair(ahead: Millis) -> [Peers; 2] {
        [Peers::new("one", INTERVAL, 0), Peers::new("two", INTERVAL, ahead)]
    }

    #[test]
    fn a_probe_of_another_proves_something_once_it_has_seen_ours() {
        for ahead in [-5_000_000, 0, 5_000_000] {
            let [mut one, mut two] = pair(ahead);
            let early = two.probe(1, ahead + 10);
            assert_eq!(one.arrived(&early, 15), None, "the clocks were not compared");
            let ours = one.probe(1, 20);
            assert_eq!(two.arrived(&ours, ahead + 23), Some(ahead + 13), "it names one of theirs");
            let later = two.probe(2, ahead + 500);
            // It was sent at 500, and is known to have been sent at 495 at the earliest.
            assert_eq!(one.arrived(&later, 530), Some(495));
            let old = one.arrived(&two.probe(3, ahead + 60_500), 60_530).unwrap();
            assert!((60_400..=60_500).contains(&old), "{old}: clocks drift");
            let too_old = two.probe(4, ahead + 100_000);
            assert_eq!(one.arrived(&too_old, 100_030), None, "compare again");
        }
    }

    #[test]
    fn only_a_probe_of_ours_that_is_remembered_compares_clocks() {
        let [mut one, mut two] = pair(0);
        one.probe(1, 0);
        let mut lie = two.probe(1, 100);
        lie.saw.push(Saw { from: "one".to_owned(), number: 7, at: 50 });
        assert_eq!(one.arrived(&lie, 110), None);
        lie.saw[0].number = 1;
        assert!(one.arrived(&lie, 110).is_some());
        one.forget_clocks();
        lie.saw.clear();
        assert_eq!(one.arrived(&lie, 120), None);
    }

    #[test]
    fn the_replica_that_led_last_leads_next_until_it_is_silent() {
        let [mut one, mut two] = pair(0);
        assert!(!one.probe(1, 0).leads, "another one may lead");
        let first = one.probe(2, 700);
        assert!(first.leads && !one.is_leader(), "it has not arrived");
        one.arrived(&first, 705);
        two.arrived(&first, 705);
        assert!(one.is_leader() && one.probe(3, 1_205).leads);
        assert!(!two.probe(1, 1_205).leads, "it only compares clocks");
        let next = two.probe(2, 1_400);
        assert!(next.leads, "the first one is silent");
        one.arrived(&next, 1_401);
        assert!(!one.is_leader());
    }

    #[test]
    fn clocks_are_compared_at_an_interval() {
        let [mut one, _] = pair(0);
        one.probe(1, 1_000);
        assert!(!one.owes_comparison(30_999));
        assert!(one.owes_comparison(31_000));
    }

    #[test]
    fn a_probe_names_the_last_recent_probe_of_each_replica() {
        let mut one = Peers::new("one", INTERVAL, 0);
        for n in 0..200 {
            let mut other = Peers::new(&format!("{}", n % 100), INTERVAL, 0);
            one.arrived(&other.probe(n, 0), i64::try_from(n).unwrap());
        }
        let saw = one.probe(1, 200).saw;
        assert_eq!(saw.len(), REMEMBERED);
        assert_eq!((saw[63].from.as_str(), saw[63].number, saw[63].at), ("99", 199, 199));
        assert_eq!(one.probe(2, 5_000).saw, []);
    }

    proptest! {
        /// Whatever the clocks show and however long messages take, a probe was never sent before
        /// the time that is concluded for it.
        #[test]
        fn no_probe_counts_as_younger_than_it_is(
            ahead in -1_000_000_000..1_000_000_000_i64,
            drift in -450..450_i64,
            steps in prop::collection::vec((any::<bool>(), 0..2_000_i64, 0..3_000_i64), 1..60),
        ) {
            // The second clock runs at another pace, in parts of a million.
            let of_two = |time: Millis| ahead + time + time * drift / 1_000_000;
            let [mut one, mut two] = pair(ahead);
            let (mut now, mut number) = (0, 0);
            // What is under way to each, in the order of the stream: one delay holds up all behind
            // it.
            let mut to_one: VecDeque<(Millis, Millis, StreamProbe)> = VecDeque::new();
            let mut to_two: VecDeque<(Millis, StreamProbe)> = VecDeque::new();
            for (of_first, pause, delay) in steps {
                now += pause;
                while let Some((_, sent, probe)) = to_one.pop_front_if(|(due, ..)| *due <= now) {
                    if let Some(proven) = one.arrived(&probe, now) {
                        prop_assert!(proven <= sent, "sent at {sent}, taken for {proven}");
                    }
                }
                while let Some((_, probe)) = to_two.pop_front_if(|(due, _)| *due <= now) {
                    two.arrived(&probe, of_two(now));
                }
                number += 1;
                if of_first {
                    let due = to_two.back().map_or(0, |(due, _)| *due).max(now + delay);
                    to_two.push_back((due, one.probe(number, now)));
                } else {
                    let due = to_one.back().map_or(0, |(due, ..)| *due).max(now + delay);
                    to_one.push_back((due, now, two.probe(number, of_two(now))));
                }
            }
        }
    }
}
