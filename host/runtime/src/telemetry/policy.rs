//! Metrics of policies: calls and reloads of each.
//!
//! A policy slot holds its counters, so no name is looked up while a request waits.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus::proto::Metric;

use super::{
    exposition::{counter, gauge},
    shards::Shards,
};

portcullis_types::listed_enum! {
    /// How a policy call ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Outcome: label {
        /// It allowed.
        Allow = "allow",
        /// It denied.
        Deny = "deny",
        /// It did not answer in time.
        Timeout = "timeout",
        /// It trapped, or answered with an error or an invalid value.
        Failure = "failure",
    }
}

/// The counters of one policy. Clones count into the same place.
#[derive(Debug, Clone)]
pub struct PolicyMetrics(Arc<PolicyCounters>);

const RELOAD_RESULTS: [&str; 2] = ["failure", "success"];

#[derive(Debug)]
struct PolicyCounters {
    name: String,
    evaluations: Shards<[AtomicU64; Outcome::ALL.len()]>,
    reloads: [AtomicU64; 2],
    digest: Mutex<Option<String>>,
}

// === impl PolicyMetrics ===

impl PolicyMetrics {
    pub(super) fn new(name: &str) -> Self {
        Self(Arc::new(PolicyCounters {
            name: name.to_owned(),
            evaluations: Shards::default(),
            reloads: Default::default(),
            digest: Mutex::default(),
        }))
    }

    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Counts a call.
    pub fn evaluated(&self, outcome: Outcome) {
        self.0.evaluations.mine()[outcome as usize].fetch_add(1, Relaxed);
    }

    /// Counts an attempt to load a revision, and remembers the digest of one that is now in use.
    pub fn reloaded(&self, digest: Option<&str>) {
        self.0.reloads[usize::from(digest.is_some())].fetch_add(1, Relaxed);
        if let Some(digest) = digest {
            *self.0.digest.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest.to_owned());
        }
    }

    pub(super) fn evaluations(&self) -> Vec<Metric> {
        let metric = |outcome: Outcome| {
            let place = outcome as usize;
            let count = self.0.evaluations.iter().map(|shard| shard[place].load(Relaxed)).sum();
            counter(&[("policy", self.name()), ("outcome", outcome.label())], count)
        };
        Outcome::ALL.into_iter().map(metric).collect()
    }

    pub(super) fn reloads(&self) -> Vec<Metric> {
        let metric = |(result, count): (&str, &AtomicU64)| {
            counter(&[("policy", self.name()), ("result", result)], count.load(Relaxed))
        };
        RELOAD_RESULTS.into_iter().zip(&self.0.reloads).map(metric).collect()
    }

    pub(super) fn revision(&self) -> Vec<Metric> {
        let digest = self.0.digest.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = |digest: &String| gauge(&[("policy", self.name()), ("digest", digest)], 1.0);
        digest.iter().map(metric).collect()
    }
}
