//! Metrics of what issuers report, logouts and security events: how many were stored, and how many were
//! not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::MetricFamily;

use super::exposition::{counter, counters};

portcullis_types::listed_enum! {
    /// What became of a report.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ReportResult: label {
        /// It is stored, and effective here.
        Stored = "stored",
        /// It ends no token.
        Ignored = "ignored",
        /// It would end tokens, and names them by what no token has.
        Unmatched = "unmatched",
        /// It could not be verified or stored now: keys or the store were missing.
        Failed = "failed",
        /// The issuer has signed it, and it is not acceptable.
        Rejected = "rejected",
        /// Nothing proves that an issuer has sent it.
        Unproven = "unproven",
    }
}

/// The reports of one kind from all issuers. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct ReportMetrics(Arc<[AtomicU64; ReportResult::ALL.len()]>);

// === impl ReportMetrics ===

impl ReportMetrics {
    /// Counts a report.
    pub fn count(&self, result: ReportResult) {
        self.0[result as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn logouts(&self) -> MetricFamily {
        self.family(
            "portcullis_logouts_total",
            "Logouts that issuers reported, by what became of them.",
            // A logout always ends something.
            |result| !matches!(result, ReportResult::Ignored | ReportResult::Unmatched),
        )
    }

    pub(super) fn security_events(&self) -> MetricFamily {
        self.family(
            "portcullis_security_events_total",
            "Security event tokens that issuers sent, by what became of them.",
            |_| true,
        )
    }

    fn family(
        &self,
        name: &str,
        help: &str,
        can_occur: impl Fn(ReportResult) -> bool,
    ) -> MetricFamily {
        let counts = ReportResult::ALL.into_iter().zip(&*self.0);
        let counts = counts.filter(|(result, _)| can_occur(*result));
        let series = counts
            .map(|(result, count)| counter(&[("result", result.label())], count.load(Relaxed)));
        counters(name, help, series)
    }
}
