//! Owns what is counted of the feed of revocations.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::exposition::{as_f64, counter, family, gauge};

/// The metrics of the feed. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct FeedMetrics(Arc<Counters>);

/// What came from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A token is revoked.
    Add,
    /// A token is no longer revoked.
    Remove,
    /// All older tokens of somebody are revoked.
    CutOff,
    /// They no longer are.
    Lift,
    /// None of these.
    Malformed,
}

/// How the feed is.
#[derive(Debug, Clone, Copy)]
pub struct FeedReading {
    /// Where it stands, one of `states`.
    pub state: &'static str,
    /// Where it can stand.
    pub states: &'static [&'static str],
    /// For how long the set may have been incomplete.
    pub staleness: Duration,
    /// When the last event arrived, in Unix seconds.
    pub last_event_secs: Option<i64>,
}

const RECEIVED: [(Received, &str); 5] = [
    (Received::Add, "add"),
    (Received::Remove, "remove"),
    (Received::CutOff, "cutoff"),
    (Received::Lift, "lift"),
    (Received::Malformed, "malformed"),
];

#[derive(Default)]
struct Counters {
    has_broker: AtomicBool,
    received: [AtomicU64; RECEIVED.len()],
    processed: [AtomicU64; RECEIVED.len()],
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
    /// Says where to read how the feed is. The first call counts.
    pub fn report(&self, read: impl Fn() -> FeedReading + Send + Sync + 'static) {
        // A second source would be a second truth; the first one stays.
        let _ = self.0.reading.set(Box::new(read));
    }

    /// There is a broker to be counted.
    pub fn expect_broker(&self) {
        self.0.has_broker.store(true, Relaxed);
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.0.has_broker.load(Relaxed)
    }

    /// A message came that is no probe.
    pub fn received(&self, received: Received) {
        self.0.received[received as usize].fetch_add(1, Relaxed);
    }

    /// What came was given to the blacklist.
    pub fn processed(&self, received: Received) {
        self.0.processed[received as usize].fetch_add(1, Relaxed);
    }

    /// A token was revoked for ever because its expiry stands for "not set".
    pub fn unset_expiry(&self) {
        self.0.unset_expiry.fetch_add(1, Relaxed);
    }

    /// The revocation of a token arrived when the token was refused already, as expired.
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

    /// A connection was made after an earlier one was lost.
    pub fn reconnected(&self) {
        self.0.reconnects.fetch_add(1, Relaxed);
    }

    /// How often that happened.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.0.reconnects.load(Relaxed)
    }

    /// The place in the stream of the message that came last.
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

    fn of_the_broker(&self) -> Vec<MetricFamily> {
        let by_type = |counters: &[AtomicU64; RECEIVED.len()], but: Option<Received>| {
            RECEIVED
                .iter()
                .filter(|(received, _)| Some(*received) != but)
                .map(|(received, name)| {
                    counter(&[("type", name)], counters[*received as usize].load(Relaxed))
                })
                .collect::<Vec<_>>()
        };
        let failed = self.0.received[Received::Malformed as usize].load(Relaxed);
        let connected = f64::from(u8::from(self.is_connected()));
        let offset = self.offset().map(|offset| gauge(&[], as_f64(offset)));
        let count = MetricType::COUNTER;
        vec![
            family(
                "ext_authz_mq_events_received_total",
                "Messages from the broker, probes aside.",
                count,
                by_type(&self.0.received, None),
            ),
            family(
                "ext_authz_mq_events_processed_total",
                "Messages from the broker that were applied.",
                count,
                by_type(&self.0.processed, Some(Received::Malformed)),
            ),
            family(
                "ext_authz_mq_events_failed_total",
                "Messages from the broker that are no events.",
                count,
                vec![counter(&[], failed)],
            ),
            family(
                "portcullis_blacklist_unset_expiry_total",
                "Messages from the broker that revoke a token for ever: its expiry stands for none.",
                count,
                vec![counter(&[], self.0.unset_expiry.load(Relaxed))],
            ),
            family(
                "portcullis_blacklist_over_total",
                "Messages from the broker that revoke a token which has expired when they arrive.",
                count,
                vec![counter(&[], self.0.over.load(Relaxed))],
            ),
            family(
                "ext_authz_mq_reconnects_total",
                "Connections to the broker, the first one aside.",
                count,
                vec![counter(&[], self.reconnects())],
            ),
            one("ext_authz_mq_connection_status", "Whether events are delivered.", connected),
            family(
                "portcullis_blacklist_stream_offset",
                "The place in the stream of the last message.",
                MetricType::GAUGE,
                offset.into_iter().collect(),
            ),
        ]
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("connected", &self.connected).finish_non_exhaustive()
    }
}

fn of_the_set(reading: &FeedReading) -> Vec<MetricFamily> {
    let states = reading
        .states
        .iter()
        .map(|state| gauge(&[("state", state)], f64::from(u8::from(*state == reading.state))));
    let last_event = reading.last_event_secs.and_then(|secs| u64::try_from(secs).ok());
    let last_event = last_event.map(|secs| gauge(&[], as_f64(secs)));
    vec![
        family(
            "portcullis_blacklist_state",
            "Where the feed of revocations stands: 1 for that state.",
            MetricType::GAUGE,
            states.collect(),
        ),
        one(
            "portcullis_blacklist_staleness_seconds",
            "How long ago the set was last complete, or the store told what it lacks; 0 while live.",
            reading.staleness.as_secs_f64(),
        ),
        family(
            "portcullis_blacklist_last_event_timestamp_seconds",
            "When the last revocation arrived.",
            MetricType::GAUGE,
            last_event.into_iter().collect::<Vec<Metric>>(),
        ),
    ]
}

fn one(name: &str, help: &str, value: f64) -> MetricFamily {
    family(name, help, MetricType::GAUGE, vec![gauge(&[], value)])
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
    fn nothing_is_told_of_a_broker_that_there_is_not() {
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

    #[test]
    fn every_kind_of_message_has_its_own_counter() {
        for (index, (received, _)) in RECEIVED.iter().enumerate() {
            assert_eq!(*received as usize, index);
        }
    }
}
