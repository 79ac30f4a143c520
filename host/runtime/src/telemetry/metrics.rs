//! Metrics of the process: counters, their names, and their exposition as Prometheus text.
//!
//! Recording takes no lock and looks up no label. The names are an interface to dashboards:
//! `ext_authz_*` as existing dashboards use them, `portcullis_*` for the rest.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use prometheus::{
    TextEncoder,
    proto::{MetricFamily, MetricType},
};

use super::{
    connections::ConnectionMetrics,
    exposition::{as_f64, count, counter, counters, family, gauges, histogram, level, summary},
    feed::FeedMetrics,
    histogram::{DurationTotals, Durations, Window, WindowTotals},
    keys::KeyMetrics,
    log_writer::{self, DroppedLines},
    policy::PolicyMetrics,
    postgres::PostgresMetrics,
    redis::RedisMetrics,
    reports::ReportMetrics,
    shards::Shards,
};

/// All metrics. Shared as an `Arc`; one per app, so that tests do not share theirs.
#[derive(Debug)]
pub struct Metrics {
    /// The reason codes, in the order of [`Observation::reason`].
    reasons: Box<[&'static str]>,
    started: Instant,
    shards: Shards<Shard>,
    policies: Mutex<Vec<PolicyMetrics>>,
    redis: OnceLock<RedisMetrics>,
    postgres: OnceLock<PostgresMetrics>,
    feed: FeedMetrics,
    keys: KeyMetrics,
    connections: ConnectionMetrics,
    logouts: OnceLock<ReportMetrics>,
    security_events: OnceLock<ReportMetrics>,
    dropped_lines: OnceLock<DroppedLines>,
    blacklist_size: Reading,
    remembered_proofs: Reading,
    ready: Reading,
}

/// One answered check.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// Whether the request may pass.
    pub allowed: bool,
    /// The reason, as an index of the list given to [`Metrics::new`].
    pub reason: usize,
    /// How long the answer took.
    pub latency: Duration,
    /// When it was made.
    pub finished: Instant,
}

portcullis_types::listed_enum! {
    /// Something that happens on the way to a decision.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Event: metric {
        /// The local blacklist answered, either way.
        BlacklistAnsweredLocally = "ext_authz_cache_hits_total",
        /// The blacklist had to query the store.
        BlacklistAskedStore = "ext_authz_cache_misses_total",
        /// A token was found on the blacklist.
        BlacklistHit = "ext_authz_blacklist_hits_total",
    }
}

/// Counts a check as in flight until it is dropped.
#[derive(Debug)]
#[must_use = "the check is in flight for as long as this lives"]
pub struct InFlight<'a>(&'a AtomicI64);

/// The metrics cannot be written as text.
#[derive(Debug, thiserror::Error)]
#[error("cannot encode the metrics: {0}; this is a fault of Portcullis, please report it")]
pub struct EncodeError(#[from] prometheus::Error);

/// The largest number of reasons; more would not be counted.
const MAX_REASONS: usize = 32;

/// The values of the label `result`, and their places in [`Shard`]'s arrays.
const RESULTS: [(usize, &str); 2] = [(0, "deny"), (1, "allow")];

/// What the threads of one core count.
#[derive(Debug, Default)]
struct Shard {
    decisions: [[AtomicU64; MAX_REASONS]; 2],
    durations: [Durations; 2],
    window: Window,
    events: [AtomicU64; Event::ALL.len()],
    in_flight: AtomicI64,
}

/// A value that is read on demand when the metrics are read, so that it needs no updates.
#[derive(Default)]
struct Reading(OnceLock<Box<dyn Fn() -> f64 + Send + Sync>>);

// === impl Metrics ===

impl Metrics {
    /// Starts every counter at zero. `reasons` are the values of the label `reason`.
    #[must_use]
    pub fn new(reasons: &[&'static str]) -> Self {
        debug_assert!(reasons.len() <= MAX_REASONS, "raise MAX_REASONS");
        Self {
            reasons: reasons.iter().copied().take(MAX_REASONS).collect(),
            started: Instant::now(),
            shards: Shards::default(),
            policies: Mutex::default(),
            redis: OnceLock::new(),
            postgres: OnceLock::new(),
            feed: FeedMetrics::default(),
            keys: KeyMetrics::default(),
            connections: ConnectionMetrics::default(),
            logouts: OnceLock::new(),
            security_events: OnceLock::new(),
            dropped_lines: OnceLock::new(),
            blacklist_size: Reading::default(),
            remembered_proofs: Reading::default(),
            ready: Reading::default(),
        }
    }

    /// Counts an answered check.
    pub fn record(&self, observation: &Observation) {
        let shard = self.shards.mine();
        let result = usize::from(observation.allowed);
        if let Some(decisions) = shard.decisions[result].get(observation.reason) {
            decisions.fetch_add(1, Relaxed);
        }
        shard.durations[result].record(observation.latency);
        let at = observation.finished.saturating_duration_since(self.started);
        shard.window.record(observation.latency, at);
    }

    /// Counts something that happened on the way to a decision.
    pub fn count(&self, event: Event) {
        self.shards.mine().events[event as usize].fetch_add(1, Relaxed);
    }

    /// Counts a check as in flight while the result lives.
    pub fn in_flight(&self) -> InFlight<'_> {
        let in_flight = &self.shards.mine().in_flight;
        in_flight.fetch_add(1, Relaxed);
        InFlight(in_flight)
    }

    /// The counters of the policy `name`; the same ones for the same name.
    pub fn policy(&self, name: &str) -> PolicyMetrics {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = policies.iter().find(|policy| policy.name() == name) {
            return known.clone();
        }
        let policy = PolicyMetrics::new(name);
        policies.push(policy.clone());
        policy
    }

    /// The metrics of the store of revocations; the same ones each time. They show once this was
    /// called.
    pub fn redis(&self) -> RedisMetrics {
        self.redis.get_or_init(RedisMetrics::default).clone()
    }

    /// The metrics of the table of revocations; the same ones each time. They are shown from the
    /// first call on.
    pub fn postgres(&self) -> PostgresMetrics {
        self.postgres.get_or_init(PostgresMetrics::default).clone()
    }

    /// The metrics of the feed of revocations; the same ones each time.
    pub fn feed(&self) -> FeedMetrics {
        self.feed.clone()
    }

    /// The metrics of key files; the same ones each time.
    pub fn keys(&self) -> KeyMetrics {
        self.keys.clone()
    }

    /// The metrics of connections; the same ones each time.
    pub fn connections(&self) -> ConnectionMetrics {
        self.connections.clone()
    }

    /// The metrics of logouts that issuers report; the same ones each time. They are shown from the
    /// first call on.
    pub fn logouts(&self) -> ReportMetrics {
        self.logouts.get_or_init(ReportMetrics::default).clone()
    }

    /// The metrics of security events that issuers report; the same ones each time. They are shown from
    /// the first call on.
    pub fn security_events(&self) -> ReportMetrics {
        self.security_events.get_or_init(ReportMetrics::default).clone()
    }

    /// Sets the counter of dropped log lines. Only the first call has an effect.
    pub fn report_dropped_lines(&self, dropped: DroppedLines) {
        // The first one stays, since there is one log.
        let _ = self.dropped_lines.set(dropped);
    }

    /// Sets where to read the number of blacklist entries. Only the first call has an effect.
    pub fn report_blacklist_size(&self, read: impl Fn() -> usize + Send + Sync + 'static) {
        self.blacklist_size.set(move || as_f64(read() as u64));
    }

    /// Sets where to read how many proofs of possession are remembered; it is shown from then on. Only the
    /// first call has an effect.
    pub fn report_remembered_proofs(&self, read: impl Fn() -> usize + Send + Sync + 'static) {
        self.remembered_proofs.set(move || as_f64(read() as u64));
    }

    /// Sets where to read whether Portcullis is ready. Only the first call has an effect.
    pub fn report_ready(&self, read: impl Fn() -> bool + Send + Sync + 'static) {
        self.ready.set(move || f64::from(u8::from(read())));
    }

    /// Everything as Prometheus text, version 0.0.4.
    ///
    /// # Errors
    /// When a metric cannot be written.
    pub fn encode(&self) -> Result<String, EncodeError> {
        self.encode_at(Instant::now())
    }

    fn encode_at(&self, now: Instant) -> Result<String, EncodeError> {
        let mut families = self.decision_families(now);
        families.extend(self.event_families());
        families.extend(self.policy_families());
        families.extend(self.state_families());
        families.extend(self.remembered_proofs.0.get().map(|read| {
            let help = "Proofs of possession that are remembered, so that each is accepted once.";
            level("portcullis_dpop_proofs", help, read())
        }));
        families.extend(self.feed.families());
        families.extend(self.keys.families());
        families.extend(self.connections.families());
        families.extend(self.logouts.get().map(ReportMetrics::logouts));
        families.extend(self.security_events.get().map(ReportMetrics::security_events));
        families.push(log_writer::family(self.dropped_lines.get()));
        families.extend(self.redis.get().into_iter().flat_map(RedisMetrics::families));
        families.extend(self.postgres.get().into_iter().flat_map(PostgresMetrics::families));
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families).map_err(EncodeError)
    }

    fn decision_families(&self, now: Instant) -> Vec<MetricFamily> {
        let at = now.saturating_duration_since(self.started);
        let mut window = WindowTotals::default();
        self.shards.iter().for_each(|shard| shard.window.add_to(&mut window, at));
        let mut all = DurationTotals::default();
        let (mut requests, mut decisions, mut durations) = (vec![], vec![], vec![]);
        for (index, result) in RESULTS {
            let mut totals = DurationTotals::default();
            self.shards.iter().for_each(|shard| shard.durations[index].add_to(&mut totals));
            requests.push(counter(&[("result", result)], totals.count()));
            durations.push(histogram(&[("result", result)], &totals));
            all.merge(&totals);
            for (place, reason) in self.reasons.iter().enumerate() {
                let count = self.sum(|shard| &shard.decisions[index][place]);
                // An allow has one of few reasons; series for the others would be clutter.
                if index == 0 || count > 0 {
                    decisions.push(counter(&[("result", result), ("reason", reason)], count));
                }
            }
        }
        vec![
            counters("ext_authz_requests_total", "Checks answered, by result.", requests),
            counters(
                "ext_authz_decisions_total",
                "Checks answered, by result and reason.",
                decisions,
            ),
            family(
                "ext_authz_request_duration_seconds",
                "Time from a decoded check to its decision.",
                MetricType::HISTOGRAM,
                durations,
            ),
            family(
                "ext_authz_latency_seconds",
                "Time from a decoded check to its decision; quantiles over the last minute.",
                MetricType::SUMMARY,
                vec![summary(&all, &window)],
            ),
        ]
    }

    fn event_families(&self) -> impl Iterator<Item = MetricFamily> {
        Event::ALL.into_iter().map(|event| {
            count(event.metric(), event.help(), self.sum(|shard| &shard.events[event as usize]))
        })
    }

    fn policy_families(&self) -> [MetricFamily; 3] {
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        [
            counters(
                "portcullis_policy_evaluations_total",
                "Policy calls, by how they ended.",
                policies.iter().flat_map(PolicyMetrics::evaluations),
            ),
            counters(
                "portcullis_policy_reloads_total",
                "Attempts to load a policy revision.",
                policies.iter().flat_map(PolicyMetrics::reloads),
            ),
            gauges(
                "portcullis_policy_revision_info",
                "The policy revision in use; always 1.",
                policies.iter().flat_map(PolicyMetrics::revision),
            ),
        ]
    }

    fn state_families(&self) -> [MetricFamily; 3] {
        let in_flight: i64 = self.shards.iter().map(|shard| shard.in_flight.load(Relaxed)).sum();
        let in_flight = as_f64(u64::try_from(in_flight).unwrap_or(0));
        [
            level("ext_authz_requests_in_flight", "Checks being decided.", in_flight),
            level(
                "ext_authz_blacklist_size",
                "Entries on the local blacklist.",
                self.blacklist_size.get(),
            ),
            level("portcullis_ready", "Whether traffic may come here.", self.ready.get()),
        ]
    }

    fn sum(&self, counter: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards.iter().map(|shard| counter(shard).load(Relaxed)).sum()
    }
}

// === impl Event ===

impl Event {
    const fn help(self) -> &'static str {
        match self {
            Self::BlacklistAnsweredLocally => {
                "Blacklist lookups answered locally, whether the token was on it or not."
            }
            Self::BlacklistAskedStore => "Blacklist lookups that had to query the store.",
            Self::BlacklistHit => "Tokens that were found on the blacklist.",
        }
    }
}

// === impl InFlight ===

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// === impl Reading ===

impl Reading {
    fn set(&self, read: impl Fn() -> f64 + Send + Sync + 'static) {
        // The first one stays, since there is one source.
        let _ = self.0.set(Box::new(read));
    }

    fn get(&self) -> f64 {
        self.0.get().map_or(0.0, |read| read())
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reading({})", self.get())
    }
}

#[cfg(test)]
mod tests;
