//! Metrics of the relay, which is a separate process.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use prometheus::TextEncoder;

use super::{
    connections::ConnectionMetrics,
    exposition::{as_f64, count, flag, level},
    log_writer::{self, DroppedLines},
    metrics::EncodeError,
};

/// The metrics of a relay. Clones share their counts.
#[derive(Debug, Clone)]
pub struct RelayMetrics(Arc<RelayCounters>);

#[derive(Debug, Default)]
struct RelayCounters {
    relayed: AtomicU64,
    dead_lettered: AtomicU64,
    rejected: AtomicU64,
    unknown: AtomicU64,
    backlog: AtomicU64,
    leader: AtomicBool,
    connections: ConnectionMetrics,
    dropped_lines: Option<DroppedLines>,
}

/// How many entries have left the outbox, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// The broker has confirmed them.
    pub relayed: usize,
    /// They were malformed: dead letters.
    pub malformed: usize,
    /// The broker does not accept them: dead letters.
    pub rejected: usize,
    /// Their type is unknown: moved to the `:unknown` list.
    pub unknown: usize,
}

// === impl RelayMetrics ===

impl RelayMetrics {
    /// Starts every counter at zero. The log counts the lines that it drops in `dropped_lines`.
    #[must_use]
    pub fn new(dropped_lines: Option<DroppedLines>) -> Self {
        Self(Arc::new(RelayCounters { dropped_lines, ..RelayCounters::default() }))
    }

    /// Counts entries that have left the outbox.
    pub fn count(&self, counts: RelayCounts) {
        let RelayCounts { relayed, malformed, rejected, unknown } = counts;
        let add = |counter: &AtomicU64, count: usize| counter.fetch_add(count as u64, Relaxed);
        add(&self.0.relayed, relayed);
        add(&self.0.dead_lettered, malformed.saturating_add(rejected));
        add(&self.0.rejected, rejected);
        add(&self.0.unknown, unknown);
    }

    /// Sets the number of pending entries.
    pub fn set_backlog(&self, entries: u64) {
        self.0.backlog.store(entries, Relaxed);
    }

    /// Sets whether this relay is the leader. The last backlog stays: while the broker or the store
    /// is unavailable, there may be no newer value.
    pub fn set_leader(&self, is_leader: bool) {
        self.0.leader.store(is_leader, Relaxed);
    }

    /// Everything as Prometheus text, version 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode(&self) -> Result<String, EncodeError> {
        let mut families = vec![
            level(
                "portcullis_relay_backlog",
                "Entries in the outbox at the last reading of this relay; 0 while another is the leader.",
                as_f64(self.0.backlog.load(Relaxed)),
            ),
            count(
                "portcullis_relay_dead_lettered_total",
                "Entries of the outbox that became dead letters, for any reason.",
                self.0.dead_lettered.load(Relaxed),
            ),
            flag("portcullis_relay_leader", "Whether this relay is the leader.", &self.0.leader),
            count(
                "portcullis_relay_rejected_total",
                "Events that became dead letters because the broker does not accept them.",
                self.0.rejected.load(Relaxed),
            ),
            count(
                "portcullis_relay_relayed_total",
                "Events that the broker has confirmed and that have left the outbox.",
                self.0.relayed.load(Relaxed),
            ),
            count(
                "portcullis_relay_unknown_total",
                "Events of an unknown type that were moved to the `:unknown` list.",
                self.0.unknown.load(Relaxed),
            ),
        ];
        families.extend(self.0.connections.families());
        families.push(log_writer::family(self.0.dropped_lines.as_ref()));
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families).map_err(EncodeError::from)
    }

    /// The metrics of connections; the same ones each time.
    pub fn connections(&self) -> ConnectionMetrics {
        self.0.connections.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_is_a_dead_letter_too() {
        let metrics = RelayMetrics::new(None);
        metrics.count(RelayCounts { relayed: 7, malformed: 2, rejected: 1, unknown: 3 });
        let text = metrics.encode().unwrap();
        for (name, value) in [("relayed", 7), ("dead_lettered", 3), ("rejected", 1), ("unknown", 3)]
        {
            let line = format!("\nportcullis_relay_{name}_total {value}\n");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn a_relay_that_stops_work_goes_on_telling_what_is_left() {
        let metrics = RelayMetrics::new(None);
        metrics.set_leader(true);
        metrics.set_backlog(7);
        metrics.set_leader(false);
        let text = metrics.encode().unwrap();
        assert!(text.contains("\nportcullis_relay_leader 0\n"), "{text}");
        assert!(text.contains("\nportcullis_relay_backlog 7\n"), "{text}");
    }
}
