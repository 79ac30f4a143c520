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
    /// A change of the table.
    Event,
    /// It only says that something changed: the table is read again.
    Empty,
    /// Neither: the table is read again.
    Malformed,
    /// A removal that the table does not confirm.
    Unconfirmed,
}

const NOTIFIED: [(Notified, &str); 4] = [
    (Notified::Event, "event"),
    (Notified::Empty, "empty"),
    (Notified::Malformed, "malformed"),
    (Notified::Unconfirmed, "unconfirmed"),
];

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicBool,
    was_connected: AtomicBool,
    reconnects: AtomicU64,
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
    }

    /// Counts a notification.
    pub fn notified(&self, notified: Notified) {
        self.0.notified[notified as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn families(&self) -> [MetricFamily; 3] {
        let connected = f64::from(u8::from(self.0.connected.load(Relaxed)));
        let notified = NOTIFIED.into_iter().map(|(notified, kind)| {
            counter(&[("type", kind)], self.0.notified[notified as usize].load(Relaxed))
        });
        [
            family(
                "portcullis_postgres_connection_status",
                "Whether the table of revoked tokens is watched.",
                MetricType::GAUGE,
                vec![gauge(&[], connected)],
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
