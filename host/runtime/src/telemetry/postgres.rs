//! Metrics of the PostgreSQL table as the source of revocations.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::MetricFamily;

use super::exposition::{by_label, count, counters, flag};

/// The metrics of the table. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct PostgresMetrics(Arc<PostgresCounters>);

portcullis_types::listed_enum! {
    /// The kind of a notification.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Notified: label {
        /// A new row.
        Event = "event",
        /// A row was deleted: the table is read again.
        Removal = "removal",
        /// An empty notification: the table is read again.
        Empty = "empty",
        /// Malformed or unsupported: the table is read again.
        Malformed = "malformed",
    }
}

#[derive(Debug, Default)]
struct PostgresCounters {
    connected: AtomicBool,
    was_connected: AtomicBool,
    reconnects: AtomicU64,
    trigger: AtomicBool,
    listening: AtomicBool,
    notified: [AtomicU64; Notified::ALL.len()],
}

// === impl PostgresMetrics ===

impl PostgresMetrics {
    /// The table is followed.
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

    /// Whether the trigger existed when the table was last read.
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
        [
            flag(
                "portcullis_postgres_connection_status",
                "Whether the table of revoked tokens is followed.",
                &self.0.connected,
            ),
            flag(
                "portcullis_postgres_trigger",
                "Whether the trigger existed and was enabled when the table was last read.",
                &self.0.trigger,
            ),
            flag(
                "portcullis_postgres_listening",
                "Whether notifications arrive, as probes prove.",
                &self.0.listening,
            ),
            count(
                "portcullis_postgres_reconnects_total",
                "Reconnects to PostgreSQL.",
                self.0.reconnects.load(Relaxed),
            ),
            counters(
                "portcullis_postgres_notifications_total",
                "Notifications of changes of the table, by type.",
                by_label("type", Notified::ALL.map(Notified::label), &self.0.notified),
            ),
        ]
    }
}
