//! Owns the judgement on a history: whether a revocation was missed, and whether a good token was
//! refused.
//!
//! Pure. In doubt it finds a violation: only what is excused by name is excused, and nothing is
//! averaged.

mod violation;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

pub use self::violation::{Violation, Wrong};
use crate::{
    fault::{Excuse, FaultKind, NOTICED_WITHIN},
    history::{Check, History, Moment, Revocation, Span, Verdict, Way},
};

/// What is promised.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// A revocation is in force everywhere this long after its acknowledgement. Time in which the
    /// whole machine stood still, or in which a fault cannot have been noticed, does not count.
    pub bound: Duration,
    /// How much longer one may take that is in the outbox: until a relay publishes it, or, without
    /// a relay, until the replicas look there.
    pub relay: Duration,
}

/// What the checker found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// Checks of good tokens that a ready replica did not allow, by the fault at that time. Each is
    /// a violation, too.
    pub failed: BTreeMap<Option<FaultKind>, u64>,
    /// The same, where the replica was dead or not ready.
    pub excused: u64,
}

/// The revocations that cover one token.
type Covering<'a> = Vec<&'a Revocation>;

/// Judges a history, which followed from a seed.
#[must_use]
pub fn judge(seed: u64, history: &History, rules: &Rules) -> Findings {
    let covering = covering(history);
    let mut findings = Findings::default();
    for check in &history.checks {
        let Some(revocations) = covering.get(check.token) else { continue };
        let wrong = match check.verdict {
            Verdict::Allow => missed(history, rules, revocations, check),
            Verdict::Deny(_) | Verdict::Failed => {
                refused(history, revocations, check, &mut findings)
            }
        };
        if let Some(wrong) = wrong {
            findings.violations.push(Violation::new(seed, history, *check, wrong));
        }
    }
    findings
}

/// For each token, the revocations that cover it.
fn covering(history: &History) -> Vec<Covering<'_>> {
    let of = |(place, token)| {
        history.revocations.iter().filter(|one| one.target.covers(place, token)).collect()
    };
    history.tokens.iter().enumerate().map(of).collect()
}

/// The revocation that an allowed check should have heeded.
fn missed(
    history: &History,
    rules: &Rules,
    revocations: &[&Revocation],
    check: &Check,
) -> Option<Wrong> {
    let late = |revocation: &&&Revocation| {
        lateness(history, rules, revocation, check).is_some_and(|late| late > rules.bound)
    };
    let revocation = revocations.iter().find(late)?;
    // Who is surely not ready gets no requests.
    if history.readiness(check.replica, check.span) == Some(false) {
        return None;
    }
    Some(Wrong::Allowed(**revocation))
}

/// How long after the acknowledgement a check began, without the time that is excused. `None` if it
/// began before.
fn lateness(
    history: &History,
    rules: &Rules,
    revocation: &Revocation,
    check: &Check,
) -> Option<Duration> {
    let acknowledged = revocation.acknowledged.filter(|at| *at < check.span.began)?;
    let window = Span::new(acknowledged, check.span.began);
    // Whatever may have held up its way began after it.
    let whole = Span::new(revocation.began, check.span.began);
    let mut blind: Vec<Span> = history.stalls.iter().map(|stall| stall.overlap(window)).collect();
    let mut allowance = Duration::ZERO;
    for fault in history.faults.iter().filter(|fault| fault.befalls(check.replica, whole)) {
        match (fault.kind.excuse(), revocation.way) {
            // A receipt is a proof; after it there is no excuse.
            (Excuse::Nothing, _)
            | (_, Way::Receipt)
            | (Excuse::StoreAway | Excuse::StoreEmptied, Way::Exchange) => {}
            (Excuse::UntilNoticed, _) => {
                let noticed = fault.span.began.plus(NOTICED_WITHIN).min(fault.span.ended);
                blind.push(Span::new(fault.span.began, noticed).overlap(window));
            }
            (Excuse::WhileItLasts, _) => allowance = NOTICED_WITHIN,
            (Excuse::StoreAway, Way::Outbox) => blind.push(fault.span.overlap(window)),
            (Excuse::StoreEmptied, Way::Outbox) => {
                // Only if it may still have been there, and nowhere else.
                let there = Span::new(revocation.began, acknowledged.plus(rules.relay));
                if fault.span.meets(there) {
                    return None;
                }
            }
        }
    }
    if revocation.way == Way::Outbox {
        allowance += rules.relay;
    }
    Some(window.length().saturating_sub(union(blind)).saturating_sub(allowance))
}

/// How much time is in at least one of the spans.
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

/// Whether a check that was not allowed should have been.
fn refused(
    history: &History,
    revocations: &[&Revocation],
    check: &Check,
    findings: &mut Findings,
) -> Option<Wrong> {
    if revocations.iter().any(|revocation| revocation.began <= check.span.ended) {
        // Revoked, or about to be. A call that failed let nobody in.
        return None;
    }
    if history.readiness(check.replica, check.span) != Some(true) {
        findings.excused += 1;
        return None;
    }
    let fault = history.faults.iter().find(|fault| fault.span.meets(check.span));
    *findings.failed.entry(fault.map(|fault| fault.kind)).or_default() += 1;
    Some(Wrong::Refused)
}
