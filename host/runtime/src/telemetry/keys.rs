//! Metrics of issuers' keys: attempts to read or fetch them, and sources that cannot be used.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::{Metric, MetricFamily};

use super::exposition::{as_f64, counter, counters, gauge, gauges};
use crate::boot_clock::BootInstant;

/// The metrics of all issuers. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct KeyMetrics(Arc<Mutex<Vec<IssuerKeyMetrics>>>);

/// The metrics of one issuer's key files. Clones count into the same place.
#[derive(Debug, Clone)]
pub struct IssuerKeyMetrics(Arc<KeyCounters>);

/// In place of a time, for keys in files.
const FILES: u64 = u64::MAX;

#[derive(Debug)]
struct KeyCounters {
    issuer: String,
    successes: AtomicU64,
    failures: AtomicU64,
    failing: AtomicU64,
    /// In milliseconds of the boot clock; [`FILES`] if no keys are fetched.
    usable_until: AtomicU64,
}

// === impl KeyMetrics ===

impl KeyMetrics {
    /// The metrics of the issuer of that name; the same ones for the same name. They are shown from
    /// the first call on.
    #[must_use]
    pub fn issuer(&self, name: &str) -> IssuerKeyMetrics {
        let mut issuers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = issuers.iter().find(|known| known.0.issuer == name) {
            return known.clone();
        }
        let counters = KeyCounters {
            issuer: name.to_owned(),
            successes: AtomicU64::default(),
            failures: AtomicU64::default(),
            failing: AtomicU64::default(),
            usable_until: AtomicU64::new(FILES),
        };
        let issuer = IssuerKeyMetrics(Arc::new(counters));
        issuers.push(issuer.clone());
        issuer
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let issuers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if issuers.is_empty() {
            return Vec::new();
        }
        let reloads = issuers.iter().flat_map(|IssuerKeyMetrics(counters)| {
            let of = |result, count: &AtomicU64| {
                counter(&[("issuer", &counters.issuer), ("result", result)], count.load(Relaxed))
            };
            [of("failure", &counters.failures), of("success", &counters.successes)]
        });
        let failing = issuers.iter().map(|IssuerKeyMetrics(counters)| {
            gauge(&[("issuer", &counters.issuer)], as_f64(counters.failing.load(Relaxed)))
        });
        let mut families = vec![
            counters(
                "portcullis_key_reloads_total",
                "Fetches of keys, and attempts to read a key file that has changed or could not be used before.",
                reloads,
            ),
            gauges(
                "portcullis_key_files_failing",
                "Key files and URLs that could not be read or used when last looked at, or that hang.",
                failing,
            ),
        ];
        let usable: Vec<_> = issuers.iter().filter_map(IssuerKeyMetrics::usable).collect();
        if !usable.is_empty() {
            families.push(gauges(
                "portcullis_keys_usable_seconds",
                "For how long the fetched keys of an issuer are still used if it does not answer.",
                usable,
            ));
        }
        families
    }
}

// === impl IssuerKeyMetrics ===

impl IssuerKeyMetrics {
    /// A file was read.
    pub fn succeeded(&self) {
        self.0.successes.fetch_add(1, Relaxed);
    }

    /// A file could not be read or used.
    pub fn failed(&self) {
        self.0.failures.fetch_add(1, Relaxed);
    }

    /// How many files cannot be used now.
    pub fn set_failing(&self, files: usize) {
        self.0.failing.store(files as u64, Relaxed);
    }

    /// Until when fetched keys may be used, in the past if there are none; `None` if none are fetched.
    pub fn set_usable_until(&self, until: Option<BootInstant>) {
        self.0.usable_until.store(until.map_or(FILES, BootInstant::as_millis), Relaxed);
    }

    fn usable(&self) -> Option<Metric> {
        let until = self.0.usable_until.load(Relaxed);
        let left = BootInstant::from_millis(until).since(BootInstant::now());
        (until != FILES).then(|| gauge(&[("issuer", &self.0.issuer)], left.as_secs_f64()))
    }

    /// How often a file could not be read or used.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }

    /// The files that cannot be used now.
    #[must_use]
    pub fn failing(&self) -> u64 {
        self.0.failing.load(Relaxed)
    }
}
