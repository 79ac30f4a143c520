//! Metrics of the feed of revocations.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::proto::{Metric, MetricFamily};

use super::exposition::{as_f64, by_label, count, counter, counters, flag, gauge, gauges, level};

/// The metrics of the feed. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct FeedMetrics(Arc<FeedCounters>);

portcullis_types::listed_enum! {
    /// The kind of a message from the broker.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Received: label {
        /// A token is revoked.
        Add = "add",
        /// A token is no longer revoked.
        Remove = "remove",
        /// All older tokens of a subject, session or issuer are revoked.
        CutOff = "cutoff",
        /// A cut-off is lifted.
        Lift = "lift",
        /// None of these.
        Malformed = "malformed",
    }
}

/// The state of the feed.
#[derive(Debug, Clone, Copy)]
pub struct FeedReading {
    /// Its state, one of `states`.
    pub state: &'static str,
    /// All its states.
    pub states: &'static [&'static str],
    /// How long the set may have been incomplete.
    pub staleness: Duration,
    /// When the last event arrived, in Unix seconds.
    pub last_event_secs: Option<i64>,
}

#[derive(Default)]
struct FeedCounters {
    has_broker: AtomicBool,
    received: [AtomicU64; Received::ALL.len()],
    processed: [AtomicU64; Received::ALL.len()],
    unset_expiry: AtomicU64,
    over: AtomicU64,
    connected: AtomicBool,
    reconnects: AtomicU64,
    has_offset: AtomicBool,
    offset: AtomicU64,
    reading: OnceLock<Box<dyn Fn() -> FeedReading + Send + Sync>>,
}

// === impl FeedMetrics ===

impl FeedMetrics {
    /// Sets where to read the state of the feed. Only the first call has an effect.
    pub fn report(&self, read: impl Fn() -> FeedReading + Send + Sync + 'static) {
        // The first one stays, since there is one feed.
        let _ = self.0.reading.set(Box::new(read));
    }

    /// There is a broker, so its metrics are shown.
    pub fn expect_broker(&self) {
        self.0.has_broker.store(true, Relaxed);
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.0.has_broker.load(Relaxed)
    }

    /// Counts a message that is not a probe.
    pub fn received(&self, received: Received) {
        self.0.received[received as usize].fetch_add(1, Relaxed);
    }

    /// Counts a message that was applied to the blacklist.
    pub fn processed(&self, received: Received) {
        self.0.processed[received as usize].fetch_add(1, Relaxed);
    }

    /// Counts a token that was revoked for ever because its expiry stands for "not set".
    pub fn unset_expiry(&self) {
        self.0.unset_expiry.fetch_add(1, Relaxed);
    }

    /// Counts a revocation that arrived after its token had expired.
    pub fn over(&self) {
        self.0.over.fetch_add(1, Relaxed);
    }

    /// Whether events are delivered.
    pub fn set_connected(&self, connected: bool) {
        self.0.connected.store(connected, Relaxed);
    }

    /// The same.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.connected.load(Relaxed)
    }

    /// Counts a connection that was opened after an earlier one was lost.
    pub fn reconnected(&self) {
        self.0.reconnects.fetch_add(1, Relaxed);
    }

    /// The number of reconnects.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.0.reconnects.load(Relaxed)
    }

    /// Sets the offset of the last message in the stream.
    pub fn set_offset(&self, offset: u64) {
        self.0.offset.store(offset, Relaxed);
        self.0.has_offset.store(true, Relaxed);
    }

    /// The same.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.has_offset.load(Relaxed).then(|| self.0.offset.load(Relaxed))
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let mut families = self.0.reading.get().map_or(vec![], |read| of_the_set(&read()));
        if self.has_broker() {
            families.extend(self.of_the_broker());
        }
        families
    }

    fn of_the_broker(&self) -> [MetricFamily; 8] {
        let processed = Received::ALL.into_iter().filter(|kind| *kind != Received::Malformed);
        let processed = processed.map(|kind| {
            counter(&[("type", kind.label())], self.0.processed[kind as usize].load(Relaxed))
        });
        [
            counters(
                "ext_authz_mq_events_received_total",
                "Messages from the broker, without probes.",
                self.received_by_type(),
            ),
            counters(
                "ext_authz_mq_events_processed_total",
                "Messages from the broker that were applied.",
                processed,
            ),
            count(
                "ext_authz_mq_events_failed_total",
                "Malformed messages from the broker.",
                self.0.received[Received::Malformed as usize].load(Relaxed),
            ),
            count(
                "portcullis_blacklist_unset_expiry_total",
                "Messages from the broker that revoke a token for ever: its expiry stands for not set.",
                self.0.unset_expiry.load(Relaxed),
            ),
            count(
                "portcullis_blacklist_over_total",
                "Messages from the broker that revoke a token which has expired when they arrive.",
                self.0.over.load(Relaxed),
            ),
            count("ext_authz_mq_reconnects_total", "Reconnects to the broker.", self.reconnects()),
            flag(
                "ext_authz_mq_connection_status",
                "Whether events are delivered.",
                &self.0.connected,
            ),
            gauges(
                "portcullis_blacklist_stream_offset",
                "The offset of the last message in the stream.",
                self.offset().map(|offset| gauge(&[], as_f64(offset))),
            ),
        ]
    }

    fn received_by_type(&self) -> impl Iterator<Item = Metric> {
        by_label("type", Received::ALL.map(Received::label), &self.0.received)
    }
}

impl std::fmt::Debug for FeedCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FeedCounters").field("connected", &self.connected).finish_non_exhaustive()
    }
}

fn of_the_set(reading: &FeedReading) -> Vec<MetricFamily> {
    let states = reading
        .states
        .iter()
        .map(|state| gauge(&[("state", state)], f64::from(u8::from(*state == reading.state))));
    let last_event = reading.last_event_secs.and_then(|secs| u64::try_from(secs).ok());
    vec![
        gauges(
            "portcullis_blacklist_state",
            "The state of the feed of revocations: 1 for the present one.",
            states,
        ),
        level(
            "portcullis_blacklist_staleness_seconds",
            "How long ago the set was last complete, or the store last answered for it; 0 while live.",
            reading.staleness.as_secs_f64(),
        ),
        gauges(
            "portcullis_blacklist_last_event_timestamp_seconds",
            "When the last revocation arrived.",
            last_event.map(|secs| gauge(&[], as_f64(secs))),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(metrics: &FeedMetrics) -> Vec<String> {
        let families = metrics.families();
        let filled = families.iter().filter(|family| !family.get_metric().is_empty());
        filled.map(|family| family.name().to_owned()).collect()
    }

    #[test]
    fn without_a_broker_its_metrics_are_absent() {
        let metrics = FeedMetrics::default();
        assert!(names(&metrics).is_empty());
        metrics.expect_broker();
        assert!(names(&metrics).contains(&"ext_authz_mq_connection_status".to_owned()));
        let offset = "portcullis_blacklist_stream_offset".to_owned();
        assert!(!names(&metrics).contains(&offset));
        metrics.set_offset(0);
        assert!(names(&metrics).contains(&offset));
    }

    #[test]
    fn odd_expiries_are_counted_apart() {
        let metrics = FeedMetrics::default();
        metrics.expect_broker();
        metrics.over();
        metrics.over();
        metrics.unset_expiry();
        let value = |name: &str| {
            let families = metrics.families();
            let family = families.iter().find(|family| family.name() == name).unwrap();
            family.get_metric()[0].get_counter().get_value().to_string()
        };
        assert_eq!(value("portcullis_blacklist_over_total"), "2");
        assert_eq!(value("portcullis_blacklist_unset_expiry_total"), "1");
    }

    #[test]
    fn one_state_is_the_current_one() {
        let reading = FeedReading {
            state: "live",
            states: &["bind", "live"],
            staleness: Duration::ZERO,
            last_event_secs: None,
        };
        let families = of_the_set(&reading);
        let values: Vec<f64> =
            families[0].get_metric().iter().map(|metric| metric.get_gauge().get_value()).collect();
        assert_eq!(values, [0.0, 1.0]);
    }
}
