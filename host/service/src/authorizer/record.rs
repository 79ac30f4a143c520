//! Record of a decision: it is made in one place, once, so no path can forget it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_revocation::Found;
use portcullis_runtime::telemetry::{
    DecisionLine, DecisionLog, Event, InFlight, Metrics, Observation, Outcome,
};
use portcullis_types::{
    attributes::Attributes,
    decision::{Decision, Reason, Verdict},
};

use crate::policy::EvaluateError;

/// Counts decisions and writes their log lines.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    log: DecisionLog,
}

impl Recorder {
    /// Records into `metrics`, which was made with [`reason_codes`], and `log`.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, log: DecisionLog) -> Self {
        Self { metrics, log }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn in_flight(&self) -> InFlight<'_> {
        self.metrics.in_flight()
    }

    /// A lookup in the local set.
    pub(super) fn blacklist(&self, found: Found) {
        match found {
            Found::Clear => self.metrics.count(Event::BlacklistAnsweredLocally),
            Found::Revoked => {
                self.metrics.count(Event::BlacklistAnsweredLocally);
                self.metrics.count(Event::BlacklistHit);
            }
            Found::Unknown { .. } => self.metrics.count(Event::BlacklistAskedStore),
            Found::Unreliable => {}
        }
    }

    /// The store knew a revoked token that the local set did not.
    pub(super) fn revoked_by_store(&self) {
        self.metrics.count(Event::BlacklistHit);
    }

    pub(super) fn decision(&self, attributes: &Attributes, decision: &Decision, started: Instant) {
        let finished = Instant::now();
        let latency = finished.saturating_duration_since(started);
        self.metrics.record(&Observation {
            allowed: decision.is_allowed(),
            reason: decision.reason as usize,
            latency,
            finished,
        });
        self.write_line(attributes, decision, latency);
    }

    fn write_line(&self, attributes: &Attributes, decision: &Decision, latency: Duration) {
        let http = attributes.http.as_ref();
        self.log.write(decision.is_allowed(), || DecisionLine {
            reason: decision.reason.code(),
            detail: decision.detail.as_deref(),
            route: decision.route.as_deref(),
            revision: decision.revision.as_deref(),
            request_id: http.and_then(|http| http.headers.first("x-request-id")),
            method: http.map_or("", |http| &http.method),
            host: http.map_or("", |http| &http.host),
            path: http.map_or("", |http| &http.path),
            status: match &decision.verdict {
                Verdict::Deny(deny) => Some(deny.status),
                Verdict::Allow(_) => None,
            },
            latency,
        });
    }
}

/// The reason codes in the order in which [`Recorder`] counts them.
#[must_use]
pub fn reason_codes() -> [&'static str; Reason::ALL.len()] {
    Reason::ALL.map(Reason::code)
}

/// How a call into a policy ended, for its counters.
pub(super) fn outcome<T>(result: &Result<(Verdict, T), EvaluateError>) -> Outcome {
    match result {
        Ok((Verdict::Allow(_), _)) => Outcome::Allow,
        Ok((Verdict::Deny(_), _)) => Outcome::Deny,
        Err(error) if error.is_about_time() => Outcome::Timeout,
        Err(_) => Outcome::Failure,
    }
}
