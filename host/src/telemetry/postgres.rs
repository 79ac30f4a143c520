//! Owns what is counted of a table as the source of revocations.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::{MetricFamily, MetricType};

use super::exposition::{counter, family, gauge};

/// The metrics of the table. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct PostgresMetrics(Arc<Counters>);

/// What a notification was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notified {
    /// A new row.
    Event,
    /// A row is gone, as a message says: the table is read again.
    Removal,
    /// It only says that something changed: the table is read again.
    Empty,
    /// None of these: the table is read again.
    Malformed,
}

const NOTIFIED: [(Notified, &str); 4] = [
    (Notified::Event, "event"),
    (Notified::Removal, "removal"),
    (Notified::Empty, "empty"),
    (Notified::Malformed, "malformed"),
];

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicBool,
    was_connected: AtomicBool,
    reconnects: AtomicU64,
    trigger: AtomicBool,
    listening: AtomicBool,
    notified: [AtomicU64; NOTIFIED.len()],
}

// === impl PostgresMetrics ===

impl PostgresMetrics {
    /// The table is watched.
    pub fn connected(&self) {
        if self.0.was_connected.swap(true, Relaxed) {
            self.0.reconnects.fetch_add(1, Relaxed);
        }
        self.0.connected.store(true, Relaxed);
    }

    /// It no longer is.
    pub fn disconnected(&self) {
        self.0.connected.store(false, Relaxed);
        self.0.listening.store(false, Relaxed);
    }

    /// Whether the trigger was there when the table was last read.
    pub fn set_trigger(&self, has_trigger: bool) {
        self.0.trigger.store(has_trigger, Relaxed);
    }

    /// Whether notifications arrive.
    pub fn set_listening(&self, is_listening: bool) {
        self.0.listening.store(is_listening, Relaxed);
    }

    /// Counts a notification.
    pub fn notified(&self, notified: Notified) {
        self.0.notified[notified as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn families(&self) -> [MetricFamily; 5] {
        let notified = NOTIFIED.into_iter().map(|(notified, kind)| {
            counter(&[("type", kind)], self.0.notified[notified as usize].load(Relaxed))
        });
        let state = |name, help, is: &AtomicBool| {
            let value = f64::from(u8::from(is.load(Relaxed)));
            family(name, help, MetricType::GAUGE, vec![gauge(&[], value)])
        };
        [
            state(
                "portcullis_postgres_connection_status",
                "Whether the table of revoked tokens is watched.",
                &self.0.connected,
            ),
            state(
                "portcullis_postgres_trigger",
                "Whether the trigger was there and enabled when the table was last read.",
                &self.0.trigger,
            ),
            state(
                "portcullis_postgres_listening",
                "Whether notifications arrive, as probes prove.",
                &self.0.listening,
            ),
            family(
                "portcullis_postgres_reconnects_total",
                "Connections to PostgreSQL, the first one aside.",
                MetricType::COUNTER,
                vec![counter(&[], self.0.reconnects.load(Relaxed))],
            ),
            family(
                "portcullis_postgres_notifications_total",
                "Notifications of changes of the table, by what they were.",
                MetricType::COUNTER,
                notified.collect(),
            ),
        ]
    }
}
