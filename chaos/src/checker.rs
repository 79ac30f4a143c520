//! Checker of histories: finds missed revocations, refused good tokens, and denials with a wrong
//! reason.
//!
//! Pure. In doubt it reports a violation: only named excuses apply, and nothing is averaged. A
//! missed revocation is a violation. A late one is counted, and is a violation only beyond a limit
//! that is stretched by the load of the machine.

mod lateness;
mod refusal;
mod timeline;
mod violation;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub use self::violation::{Violation, Wrong};
use self::{lateness::Lateness, timeline::Timeline};
use crate::{
    fault::FaultKind,
    history::{Check, Fault, Health, History, Revocation, Unrevocation, Verdict, Way},
    moment::{Moment, Span},
};

/// What is promised.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A revocation takes effect on all replicas within this time after its acknowledgement; later
    /// it is late. Time in which the whole machine was stalled, or in which a fault could not be
    /// detected yet, does not count.
    pub bound: Duration,
    /// Later than this, it counts as missed. The limit is stretched by the load of the machine.
    pub limit: Duration,
    /// How much longer a revocation in the outbox may take: until a relay publishes it or, without
    /// a relay, until the replicas read the outbox.
    pub relay: Duration,
}

/// The findings of the checker.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Checks of good tokens that were refused without an excuse, by the fault at that time. Each
    /// is also a violation.
    pub failed: BTreeMap<Option<FaultKind>, u64>,
    /// Refusals that a fault excuses.
    pub excused: u64,
    /// Revocations that were later than the bound at a replica, but within the limit, by the fault
    /// at that time.
    pub late: BTreeMap<Option<FaultKind>, Late>,
    /// The same for un-revocations.
    pub late_unrevocations: Late,
    /// Missed revocations, by their place in the history.
    pub missed: Vec<usize>,
    /// Revocations of tokens that had been unrevoked before, and that were lost with their keys:
    /// the documented limit.
    pub lost_again: Vec<usize>,
}

/// Count and extent of lateness.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// By how much the latest exceeded the bound.
    pub longest: Duration,
}

/// How long a replica may take to report that it became ready, or not ready.
const REPORTED_WITHIN: Duration = Duration::from_millis(200);
/// How long after their expiry tokens are accepted.
const LEEWAY: Duration = Duration::from_secs(5);
/// How far clocks may differ. Expiries are whole seconds.
const SKEW: Duration = Duration::from_secs(6);

/// Within this time, a replica queries the store for a token that is revoked again.
const LOOKED_UP: Duration = Duration::from_secs(2);
/// The same for a token that was unrevoked, if the key is there.
const ASKED_AGAIN: Duration = Duration::from_secs(8);

/// A history, and what is derived from it.
struct Judge<'a> {
    history: &'a History,
    rules: &'a Rules,
    timelines: Vec<Timeline<'a>>,
    /// For each replica, when it reported that it is not ready.
    unready: BTreeMap<usize, Vec<Span>>,
    /// How late each revocation was, by its place and the replica.
    late: BTreeMap<(usize, usize), (Duration, Moment)>,
    late_unrevocations: BTreeMap<(usize, usize), Duration>,
    findings: Findings,
}

/// Judges the history of the run with this seed.
#[must_use]
pub fn judge(seed: u64, history: &History, rules: &Rules) -> Findings {
    let mut judge = Judge::new(history, rules);
    for check in &history.checks {
        if let Some(wrong) = judge.wrong(check) {
            judge.findings.violations.push(Violation::new(seed, history, *check, wrong));
        }
    }
    judge.finish()
}

// === impl Judge ===

impl<'a> Judge<'a> {
    fn new(history: &'a History, rules: &'a Rules) -> Self {
        let mut unready: BTreeMap<usize, Vec<Span>> = BTreeMap::new();
        for sample in history.health.iter().filter(|one| one.health == Health::NotReady) {
            unready.entry(sample.replica).or_default().push(sample.span);
        }
        Self {
            history,
            rules,
            timelines: timeline::all(history),
            unready,
            late: BTreeMap::new(),
            late_unrevocations: BTreeMap::new(),
            findings: Findings::default(),
        }
    }

    /// The violation of an answer.
    fn wrong(&mut self, check: &Check) -> Option<Wrong> {
        match check.verdict {
            Verdict::Allow if self.is_over(check) => Some(Wrong::Expired),
            Verdict::Allow if self.reported_not_ready(check) => Some(Wrong::Unready),
            Verdict::Allow => self.missed(check),
            Verdict::Deny(_) | Verdict::Failed => self.denied(check),
        }
    }

    /// Whether the token of a check has expired by every clock.
    fn is_over(&self, check: &Check) -> bool {
        let expires = self.history.tokens.get(check.token).and_then(|token| token.expires);
        expires.is_some_and(|expires| check.span.began > expires.plus(LEEWAY + SKEW))
    }

    fn reported_not_ready(&self, check: &Check) -> bool {
        let slack = REPORTED_WITHIN.mul_f64(self.history.load.slowdown(check.span));
        let span = Span::new(check.span.began, check.span.ended.plus(slack));
        // A quick test first: few replicas are ever not ready.
        let near = self.unready.get(&check.replica).is_some_and(|spans| {
            spans.iter().any(|span| span.meets(check.span.grown(Duration::from_secs(1))))
        });
        near && self.history.reported_not_ready(check.replica, span)
    }

    /// The revocation that an allowed check missed.
    fn missed(&mut self, check: &Check) -> Option<Wrong> {
        let standing: Vec<_> = self.timelines.get(check.token)?.standing(check.span).collect();
        let lateness = Lateness::new(self.history, self.rules);
        for (place, revocation) in standing {
            let Some(late) = lateness.of_revocation(revocation, check) else { continue };
            let window = Span::new(revocation.began, check.span.ended);
            if late > self.limit(window) {
                if self.is_lost_again(check.token, revocation) {
                    self.findings.lost_again.push(place);
                    continue;
                }
                self.findings.missed.push(place);
                return Some(Wrong::Allowed(*revocation));
            }
            if late > self.rules.bound {
                let beyond = late.saturating_sub(self.rules.bound);
                let known = self.late.entry((place, check.replica)).or_default();
                *known = (*known).max((beyond, check.span.began));
            }
        }
        None
    }

    /// Whether a revocation followed an un-revocation, and its key may be lost. Replicas verify
    /// such a revocation in the store. Only keys of publishers that do not wait for the replica of
    /// Redis can be lost in a failover.
    fn is_lost_again(&self, token: usize, revocation: &Revocation) -> bool {
        let Some(timeline) = self.timelines.get(token) else { return false };
        let stored = revocation.acknowledged.unwrap_or(revocation.began);
        let lost = |until: Moment, fault: &Fault| {
            let is_lost = fault.kind == FaultKind::RedisFlushed
                || fault.kind.loses_keys() && revocation.way == Way::Exchange;
            is_lost && fault.span.meets(Span::new(revocation.began, until))
        };
        timeline.before(revocation).any(|unrevocation| {
            let arrived = self.arrival(unrevocation);
            // One that arrives later is asked about for longer.
            let is_late = arrived >= revocation.began;
            let asked = if is_late {
                arrived.max(stored).plus(self.stretched(ASKED_AGAIN, revocation))
            } else {
                stored.plus(self.stretched(LOOKED_UP, revocation))
            };
            self.history.faults.iter().any(|fault| lost(asked, fault))
        })
    }

    /// A time for which replicas query the store about a revocation, on a machine with this load.
    fn stretched(&self, time: Duration, revocation: &Revocation) -> Duration {
        let acknowledged = revocation.acknowledged.unwrap_or(revocation.began);
        time.mul_f64(self.history.load.slowdown(Span::new(revocation.began, acknowledged)))
    }

    /// When an un-revocation has arrived at all replicas at the latest: faults may delay it.
    fn arrival(&self, unrevocation: &Unrevocation) -> Moment {
        let published = unrevocation.acknowledged.unwrap_or(unrevocation.began);
        let mut arrived = match unrevocation.way {
            Way::Outbox => published.plus(self.rules.relay),
            Way::Exchange | Way::Receipt | Way::Store => published.plus(self.rules.bound),
        };
        let delays = |fault: &&Fault| fault.kind.delays_relay() || fault.kind.cuts_off_broker();
        for fault in self.history.faults.iter().filter(delays) {
            if fault.span.began <= arrived {
                arrived = arrived.max(fault.span.ended.plus(self.rules.relay));
            }
        }
        arrived
    }

    /// The violation of a check that was not allowed.
    fn denied(&mut self, check: &Check) -> Option<Wrong> {
        let timeline = self.timelines.get(check.token)?;
        let justified = refusal::is_justified(self.history, check);
        if let Some((place, unrevocation)) = timeline.unrevoked(check.span) {
            let late =
                Lateness::new(self.history, self.rules).of_unrevocation(unrevocation, check)?;
            let window = Span::new(unrevocation.began, check.span.ended);
            if late > self.limit(window) {
                return if justified {
                    self.findings.excused += 1;
                    None
                } else {
                    Some(Wrong::StillRevoked(*unrevocation))
                };
            }
            if late > self.rules.bound {
                let beyond = late.saturating_sub(self.rules.bound);
                let known = self.late_unrevocations.entry((place, check.replica)).or_default();
                *known = (*known).max(beyond);
            }
            return None;
        }
        if timeline.may_be_revoked(check.span) {
            // A failed call allowed no request.
            let right = matches!(check.verdict, Verdict::Failed) || timeline::is_revoked(check);
            return (!right && !justified).then_some(Wrong::Reason);
        }
        if justified {
            self.findings.excused += 1;
            return None;
        }
        let fault = self.history.faults.iter().find(|fault| fault.span.meets(check.span));
        *self.findings.failed.entry(fault.map(|fault| fault.kind)).or_default() += 1;
        Some(Wrong::Refused)
    }

    /// The limit in a window.
    fn limit(&self, window: Span) -> Duration {
        self.rules.limit.mul_f64(self.history.load.slowdown(window))
    }

    fn finish(mut self) -> Findings {
        for places in [&mut self.findings.missed, &mut self.findings.lost_again] {
            places.sort_unstable();
            places.dedup();
        }
        for ((place, _), (beyond, at)) in self.late {
            if self.findings.missed.binary_search(&place).is_ok() {
                continue;
            }
            let at = Span::new(at, at);
            let fault = self.history.faults.iter().find(|fault| fault.span.meets(at));
            self.findings.late.entry(fault.map(|fault| fault.kind)).or_default().add(beyond);
        }
        for beyond in self.late_unrevocations.into_values() {
            self.findings.late_unrevocations.add(beyond);
        }
        self.findings
    }
}

// === impl Late ===

impl Late {
    fn add(&mut self, beyond: Duration) {
        self.count += 1;
        self.longest = self.longest.max(beyond);
    }

    /// Adds the lateness of another run.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }
}

/// The time that at least one of the spans covers.
pub(crate) fn union(mut spans: Vec<Span>) -> Duration {
    spans.sort_by_key(|span| span.began);
    let mut covered = Duration::ZERO;
    let mut reached = Moment::default();
    for span in spans {
        covered += span.ended.since(span.began.max(reached));
        reached = reached.max(span.ended);
    }
    covered
}
