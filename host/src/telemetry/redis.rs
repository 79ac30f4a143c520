//! Owns what is counted of the store of revocations.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::{MetricFamily, MetricType};

use super::exposition::{counter, family, gauge};

/// What became of a question to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The store holds something against the token.
    Found,
    /// It holds nothing.
    Clear,
    /// It did not answer, or there is no connection to it.
    Error,
}

/// The metrics of the store. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct RedisMetrics(Arc<Counters>);

const LOOKUPS: [(Lookup, &str); 3] =
    [(Lookup::Found, "found"), (Lookup::Clear, "clear"), (Lookup::Error, "error")];

#[derive(Debug, Default)]
struct Counters {
    lookups: [AtomicU64; LOOKUPS.len()],
    up: AtomicBool,
    evicts: AtomicBool,
}

// === impl RedisMetrics ===

impl RedisMetrics {
    /// Counts a question.
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
        let lookups = LOOKUPS.into_iter().map(|(lookup, result)| {
            counter(&[("result", result)], self.0.lookups[lookup as usize].load(Relaxed))
        });
        let state = |name, help, is: &AtomicBool| {
            let value = f64::from(u8::from(is.load(Relaxed)));
            family(name, help, MetricType::GAUGE, vec![gauge(&[], value)])
        };
        [
            family(
                "portcullis_redis_lookups_total",
                "Tokens that Redis was asked about, by what became of it.",
                MetricType::COUNTER,
                lookups.collect(),
            ),
            state(
                "portcullis_redis_up",
                "Whether there is a connection to the primary Redis, and it answers.",
                &self.0.up,
            ),
            state(
                "portcullis_redis_evicts",
                "Whether Redis drops revocations when its memory is full; must be 0.",
                &self.0.evicts,
            ),
        ]
    }
}
