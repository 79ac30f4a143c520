//! Probes in flight: notifications of this replica to itself, which prove that other notifications
//! arrive.
//!
//! PostgreSQL delivers notifications in the order of their commits. So a probe that comes back
//! proves that every notification that was committed before it was sent has arrived; and a probe
//! that overtakes an earlier one proves that something was lost.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use portcullis_runtime::boot_clock::BootInstant;

/// After so long without a probe that came back, notifications count as not arriving.
const DEAF_AFTER: Duration = Duration::from_secs(3);

/// How many probes may be in flight. More than are sent within [`DEAF_AFTER`].
const MOST: usize = 16;

/// The message of a probe, around its id. Other replicas ignore it.
const AROUND_ID: (&str, &str) = (r#"{"type":"probe","id":""#, r#""}"#);

/// A point in time, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) at: Instant,
    pub(super) boot: BootInstant,
}

/// A notification of this replica to itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableProbe {
    /// A random id.
    pub(super) id: String,
    /// When it was sent, or shortly before.
    pub(super) sent: Moment,
}

/// A probe came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Proof {
    /// Everything that was committed before this has arrived.
    pub(super) sent: Moment,
    /// Unless this is true: then an earlier probe did not come back.
    pub(super) is_gap: bool,
}

/// The probes in flight.
#[derive(Debug)]
pub(super) struct ProbeLog {
    /// In the order in which they were sent.
    sent: VecDeque<TableProbe>,
    /// Whether a probe was dropped because there were too many.
    is_gap: bool,
    /// When the last one that came back was sent; at first, the start.
    proven: Instant,
}

// === impl Moment ===

impl Moment {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), boot: BootInstant::now() }
    }
}

// === impl TableProbe ===

impl TableProbe {
    pub(super) fn message(&self) -> String {
        let (before, after) = AROUND_ID;
        format!("{before}{}{after}", self.id)
    }

    /// The id in the message of a probe, of this replica or another one.
    pub(super) fn id_in(message: &str) -> Option<&str> {
        let (before, after) = AROUND_ID;
        message.strip_prefix(before)?.strip_suffix(after)
    }
}

// === impl ProbeLog ===

impl ProbeLog {
    pub(super) const fn new(now: Instant) -> Self {
        Self { sent: VecDeque::new(), is_gap: false, proven: now }
    }

    /// A probe is sent.
    pub(super) fn sent(&mut self, probe: TableProbe) {
        if self.sent.len() == MOST {
            self.sent.pop_front();
            self.is_gap = true;
        }
        self.sent.push_back(probe);
    }

    /// A probe came back. `None` if it is not of this replica.
    pub(super) fn heard(&mut self, id: &str) -> Option<Proof> {
        let place = self.sent.iter().position(|probe| probe.id == id)?;
        let TableProbe { sent, .. } = self.sent.drain(..=place).next_back()?;
        self.proven = sent.at;
        let is_gap = std::mem::take(&mut self.is_gap) || place > 0;
        Some(Proof { sent, is_gap })
    }

    /// When notifications count as not arriving, unless a probe comes back before.
    pub(super) fn deaf_at(&self) -> Instant {
        self.proven + DEAF_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(id: &str) -> TableProbe {
        TableProbe { id: id.to_owned(), sent: Moment::now() }
    }

    fn sent(probes: &mut ProbeLog, ids: impl IntoIterator<Item = usize>) {
        ids.into_iter().for_each(|id| probes.sent(probe(&id.to_string())));
    }

    fn is_gap(probes: &mut ProbeLog, id: &str) -> Option<bool> {
        probes.heard(id).map(|proof| proof.is_gap)
    }

    #[test]
    fn a_message_of_a_probe_is_known_again() {
        let probe = probe("17");
        assert_eq!(TableProbe::id_in(&probe.message()), Some("17"));
        for other in ["", "{}", r#"{"type":"add","jti":"17"}"#] {
            assert_eq!(TableProbe::id_in(other), None);
        }
    }

    #[test]
    fn a_probe_proves_the_time_at_which_it_was_sent_and_only_once() {
        let mut probes = ProbeLog::new(Instant::now());
        let first = probe("1");
        probes.sent(first.clone());
        assert_eq!(probes.heard("0"), None, "another replica's");
        assert_eq!(probes.heard("1"), Some(Proof { sent: first.sent, is_gap: false }));
        assert_eq!(probes.deaf_at(), first.sent.at + DEAF_AFTER);
        assert_eq!(probes.heard("1"), None);
    }

    #[test]
    fn a_late_probe_is_no_gap_and_an_overtaken_one_is() {
        let mut probes = ProbeLog::new(Instant::now());
        sent(&mut probes, 1..=4);
        assert_eq!(is_gap(&mut probes, "1"), Some(false));
        assert_eq!(is_gap(&mut probes, "3"), Some(true));
        assert_eq!(is_gap(&mut probes, "2"), None);
        assert_eq!(is_gap(&mut probes, "4"), Some(false));
    }

    #[test]
    fn a_listener_without_probes_is_deaf_and_uses_bounded_memory() {
        let start = Instant::now();
        let mut probes = ProbeLog::new(start);
        sent(&mut probes, 1..=1000);
        assert_eq!(probes.deaf_at(), start + DEAF_AFTER);
        assert_eq!(probes.sent.len(), MOST);
        assert_eq!(is_gap(&mut probes, "985"), Some(true), "what came before is lost");
        assert_eq!(is_gap(&mut probes, "986"), Some(false));
    }
}
