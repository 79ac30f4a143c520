//! Owns the metrics of the relay, which is a process of its own with nothing else to count.

use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};

use super::{
    connections::ConnectionMetrics,
    log_writer::{self, DroppedLines},
    metrics::EncodeError,
};

/// What a relay counts. Clones share their counts.
#[derive(Debug, Clone)]
pub struct RelayMetrics {
    registry: Registry,
    relayed: IntCounter,
    dead_lettered: IntCounter,
    rejected: IntCounter,
    unknown: IntCounter,
    backlog: IntGauge,
    leader: IntGauge,
    connections: ConnectionMetrics,
    dropped_lines: Option<DroppedLines>,
}

/// How many entries have left the outbox, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayCounts {
    /// The broker has confirmed them.
    pub relayed: usize,
    /// They were no events: dead letters.
    pub malformed: usize,
    /// The broker does not accept them: dead letters.
    pub rejected: usize,
    /// Their type is unknown: set aside.
    pub unknown: usize,
}

/// The metrics cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metrics: {0}; this is a fault of Portcullis, please report it")]
pub struct RegisterError(#[from] prometheus::Error);

// === impl RelayMetrics ===

impl RelayMetrics {
    /// Starts every counter at zero. The log counts the lines that it drops in `dropped_lines`.
    ///
    /// # Errors
    /// When two have the same name, which they have not.
    pub fn new(dropped_lines: Option<DroppedLines>) -> Result<Self, RegisterError> {
        let metrics = Self {
            registry: Registry::new(),
            relayed: IntCounter::new(
                "portcullis_relay_relayed_total",
                "Events that the broker has confirmed and that have left the outbox.",
            )?,
            dead_lettered: IntCounter::new(
                "portcullis_relay_dead_lettered_total",
                "Entries of the outbox that became dead letters, for whatever reason.",
            )?,
            rejected: IntCounter::new(
                "portcullis_relay_rejected_total",
                "Events that became dead letters because the broker does not accept them.",
            )?,
            unknown: IntCounter::new(
                "portcullis_relay_unknown_total",
                "Events of an unknown type that were set aside for a newer relay.",
            )?,
            backlog: IntGauge::new(
                "portcullis_relay_backlog",
                "Entries in the outbox when this relay last looked; none while another is at work.",
            )?,
            leader: IntGauge::new(
                "portcullis_relay_leader",
                "Whether this relay is the one at work.",
            )?,
            connections: ConnectionMetrics::default(),
            dropped_lines,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.relayed.clone()))?;
        registry.register(Box::new(metrics.dead_lettered.clone()))?;
        registry.register(Box::new(metrics.rejected.clone()))?;
        registry.register(Box::new(metrics.unknown.clone()))?;
        registry.register(Box::new(metrics.backlog.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        Ok(metrics)
    }

    /// Counts entries that have left the outbox.
    pub fn count(&self, counts: RelayCounts) {
        let RelayCounts { relayed, malformed, rejected, unknown } = counts;
        let add = |counter: &IntCounter, count| {
            counter.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        };
        add(&self.relayed, relayed);
        add(&self.dead_lettered, malformed.saturating_add(rejected));
        add(&self.rejected, rejected);
        add(&self.unknown, unknown);
    }

    /// Shows how many entries wait.
    pub fn set_backlog(&self, entries: u64) {
        self.backlog.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Shows whether this is the relay at work. What it knew of the backlog stays: nobody may know
    /// better for as long as the broker or the store is away.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// Everything as Prometheus text, version 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode(&self) -> Result<String, EncodeError> {
        let mut families = self.registry.gather();
        families.extend(self.connections.families());
        families.push(log_writer::family(self.dropped_lines.as_ref()));
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families).map_err(EncodeError::from)
    }

    /// The metrics of connections; the same ones each time.
    pub fn connections(&self) -> ConnectionMetrics {
        self.connections.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_rejected_is_a_dead_letter_too() {
        let metrics = RelayMetrics::new(None).unwrap();
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
        let metrics = RelayMetrics::new(None).unwrap();
        metrics.set_leader(true);
        metrics.set_backlog(7);
        metrics.set_leader(false);
        let text = metrics.encode().unwrap();
        assert!(text.contains("\nportcullis_relay_leader 0\n"), "{text}");
        assert!(text.contains("\nportcullis_relay_backlog 7\n"), "{text}");
    }
}
