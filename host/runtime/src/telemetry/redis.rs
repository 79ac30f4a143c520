//! Metrics of Redis as the store of revocations.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::MetricFamily;

use super::exposition::{by_label, counters, flag};

portcullis_types::listed_enum! {
    /// The result of a lookup in the store.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Lookup: label {
        /// The store holds a revocation that covers the token.
        Found = "found",
        /// It holds none.
        Clear = "clear",
        /// It did not answer, or there is no connection to it.
        Error = "error",
    }
}

/// The metrics of the store. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct RedisMetrics(Arc<RedisCounters>);

#[derive(Debug, Default)]
struct RedisCounters {
    lookups: [AtomicU64; Lookup::ALL.len()],
    up: AtomicBool,
    evicts: AtomicBool,
}

// === impl RedisMetrics ===

impl RedisMetrics {
    /// Counts a lookup.
    pub fn asked(&self, lookup: Lookup) {
        self.0.lookups[lookup as usize].fetch_add(1, Relaxed);
    }

    /// Whether there is a connection to the primary.
    pub fn set_up(&self, up: bool) {
        self.0.up.store(up, Relaxed);
    }

    /// The same.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.0.up.load(Relaxed)
    }

    /// Whether the store drops entries when its memory is full, and with them revocations.
    pub fn set_evicts(&self, evicts: bool) {
        self.0.evicts.store(evicts, Relaxed);
    }

    pub(super) fn families(&self) -> [MetricFamily; 3] {
        [
            counters(
                "portcullis_redis_lookups_total",
                "Lookups of tokens in Redis, by result.",
                by_label("result", Lookup::ALL.map(Lookup::label), &self.0.lookups),
            ),
            flag(
                "portcullis_redis_up",
                "Whether there is a connection to the primary Redis, and it answers.",
                &self.0.up,
            ),
            flag(
                "portcullis_redis_evicts",
                "Whether Redis drops revocations when its memory is full; must be 0.",
                &self.0.evicts,
            ),
        ]
    }
}
