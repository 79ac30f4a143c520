//! Metrics of logouts that issuers report: how many were stored, and how many were not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::MetricFamily;

use super::exposition::{counter, counters};

portcullis_types::listed_enum! {
    /// What became of a logout.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum LogoutResult: label {
        /// It is stored, and effective here.
        Stored = "stored",
        /// It could not be verified or stored now: keys or the store were missing.
        Failed = "failed",
        /// The issuer has signed it, and it is not acceptable.
        Rejected = "rejected",
        /// Nothing proves that an issuer has sent it.
        Unproven = "unproven",
    }
}

/// The logouts of all issuers. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct LogoutMetrics(Arc<[AtomicU64; LogoutResult::ALL.len()]>);

// === impl LogoutMetrics ===

impl LogoutMetrics {
    /// Counts a logout.
    pub fn count(&self, result: LogoutResult) {
        self.0[result as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn family(&self) -> MetricFamily {
        let counts = LogoutResult::ALL.into_iter().zip(&*self.0);
        counters(
            "portcullis_logouts_total",
            "Logouts that issuers reported, by what became of them.",
            counts
                .map(|(result, count)| counter(&[("result", result.label())], count.load(Relaxed))),
        )
    }
}
