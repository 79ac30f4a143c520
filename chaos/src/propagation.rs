//! Propagation times of revocations and un-revocations, computed from histories alone.

use std::{collections::HashMap, time::Duration};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::{
    history::{History, Reason, Revocation, Target, Unrevocation, Verdict, Way},
    moment::{Moment, Span},
    plan::REPLICAS,
};

/// Times from the first byte of a revocation to the answer that showed that all replicas deny. Both
/// ends lie outside of the measured interval, so no time is too short.
#[derive(Debug, Clone)]
pub struct Propagation {
    /// Revocations published to the exchange during no fault.
    pub quiet: Times,
    /// All revocations, in every way and during every fault.
    pub all: Times,
    /// From the first byte of an un-revocation to the answer that showed that all replicas allow.
    pub unrevocations: Times,
}

/// A distribution of times.
#[derive(Debug, Clone, PartialEq)]
pub struct Times(Histogram<u64>);

/// The longest recorded time, in microseconds; longer ones saturate.
const LONGEST: u64 = 120_000_000;

// === impl Propagation ===

impl Default for Propagation {
    fn default() -> Self {
        Self { quiet: Times::new(), all: Times::new(), unrevocations: Times::new() }
    }
}

impl Propagation {
    /// Adds the revocations of a run that all replicas denied.
    pub fn add(&mut self, history: &History) {
        let answers = answers(history);
        let first = |token, began| {
            let others = history.revocations.iter();
            !others.clone().any(|other| other.target == Target::Token(token) && other.began < began)
        };
        for revocation in &history.revocations {
            // After an un-revocation, a denial may belong to the earlier revocation.
            if matches!(revocation.target, Target::Token(token) if !first(token, revocation.began))
            {
                continue;
            }
            let Some(known) = denied_everywhere(history, revocation, &answers) else { continue };
            let time = known.since(revocation.began);
            self.all.record(time);
            let span = Span::new(revocation.began, known);
            let quiet = history.faults.iter().all(|fault| !fault.span.meets(span));
            if quiet && revocation.way == Way::Exchange {
                self.quiet.record(time);
            }
        }
        for unrevocation in &history.unrevocations {
            if let Some(known) = allowed_everywhere(history, unrevocation, &answers) {
                self.unrevocations.record(known.since(unrevocation.began));
            }
        }
    }
}

/// For each token and replica, the ends of the checks that were denied as revoked, and those of the
/// checks that were allowed, in order.
type Answers = HashMap<(usize, usize), [Vec<Moment>; 2]>;

/// The places in [`Answers`].
const DENIED: usize = 0;
const ALLOWED: usize = 1;

fn answers(history: &History) -> Answers {
    let mut answers = Answers::new();
    for check in &history.checks {
        let place = match check.verdict {
            Verdict::Deny(Reason::Revoked) => DENIED,
            Verdict::Allow => ALLOWED,
            Verdict::Deny(_) | Verdict::Failed => continue,
        };
        let all = answers.entry((check.token, check.replica)).or_default();
        all[place].push(check.span.ended);
    }
    for moments in answers.values_mut().flatten() {
        moments.sort_unstable();
    }
    answers
}

/// When the last of the replicas gave this answer for the first time since a moment.
fn everywhere(answers: &Answers, token: usize, place: usize, since: Moment) -> Option<Moment> {
    let first = |replica| {
        let moments = &answers.get(&(token, replica))?[place];
        moments.iter().find(|moment| **moment >= since).copied()
    };
    (0..REPLICAS).map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// When all replicas were seen to allow an unrevoked token. `None` if it was revoked again before.
fn allowed_everywhere(
    history: &History,
    unrevocation: &Unrevocation,
    answers: &Answers,
) -> Option<Moment> {
    unrevocation.acknowledged?;
    let known = everywhere(answers, unrevocation.token, ALLOWED, unrevocation.began)?;
    let again = history.revocations.iter().any(|revocation| {
        revocation.target == Target::Token(unrevocation.token)
            && revocation.began > unrevocation.began
            && revocation.began < known
    });
    (!again).then_some(known)
}

/// When the last of the replicas denied a revoked token for the first time. `None` for revocations
/// without an acknowledgement, or without a denial at some replica.
fn denied_everywhere(
    history: &History,
    revocation: &Revocation,
    answers: &Answers,
) -> Option<Moment> {
    revocation.acknowledged?;
    let token = match revocation.target {
        Target::Token(token) => token,
        target => {
            let mut tokens = history.tokens.iter().enumerate();
            tokens.find(|(place, token)| target.covers(*place, token))?.0
        }
    };
    everywhere(answers, token, DENIED, revocation.began)
}

// === impl Times ===

impl Times {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_max(LONGEST, 3).expect("the range is valid"))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST));
    }

    /// The number of times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The quantile, in milliseconds; 0 if there are no times.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        millis(self.0.value_at_quantile(part))
    }

    /// The longest time, in milliseconds.
    #[must_use]
    pub fn max(&self) -> f64 {
        millis(if self.0.is_empty() { 0 } else { self.0.max() })
    }

    /// The distribution as JSON, in milliseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "max": self.max(),
            "count": self.count(),
        })
    }

    /// The number of times between one bound and the next, in milliseconds, from 0; the last number
    /// counts the times beyond the last bound.
    #[must_use]
    pub fn buckets(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        for value in self.0.iter_recorded() {
            let time = millis(value.value_iterated_to());
            let place = bounds.iter().position(|bound| time <= *bound).unwrap_or(bounds.len());
            if let Some(count) = counts.get_mut(place) {
                *count += value.count_at_value();
            }
        }
        counts
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of two minutes, far below 2^52")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fault::FaultKind,
        history::{Check, Fault, Token},
    };

    fn ms(millis: u64) -> Moment {
        Moment::after(Duration::from_millis(millis))
    }

    fn revocation(target: Target, way: Way, began: u64) -> Revocation {
        Revocation { target, way, began: ms(began), acknowledged: Some(ms(began + 1)) }
    }

    fn asked(token: usize, replica: usize, ended: u64, verdict: Verdict) -> Check {
        Check { token, replica, verdict, span: Span::new(ms(ended - 1), ms(ended)) }
    }

    #[test]
    fn a_time_ends_when_the_last_replica_denies_first() {
        let mut history = History {
            tokens: vec![Token { subject: 0, session: 0, issued_at: 1, expires: None }; 2],
            revocations: vec![revocation(Target::Token(1), Way::Exchange, 100)],
            ..History::default()
        };
        for (replica, ended) in [(0, 103), (1, 109), (1, 107), (2, 104), (2, 300)] {
            history.checks.push(asked(1, replica, ended, Verdict::Deny(Reason::Revoked)));
        }
        history.checks.push(asked(1, 1, 105, Verdict::Allow));
        let mut propagation = Propagation::default();
        propagation.add(&history);
        assert!((propagation.quiet.max() - 7.0).abs() < 0.01);

        history.checks.retain(|check| check.replica != 2);
        let mut propagation = Propagation::default();
        propagation.add(&history);
        assert_eq!(propagation.all.count(), 0, "no check saw the third replica deny");
    }

    #[test]
    fn only_exchange_revocations_without_a_fault_are_quiet() {
        let target = Target::Subject { subject: 0, issued_before: 1 };
        let mut history = History {
            tokens: vec![Token { subject: 0, session: 0, issued_at: 1, expires: None }],
            revocations: vec![revocation(target, Way::Receipt, 100)],
            ..History::default()
        };
        history.checks =
            (0..3).map(|one| asked(0, one, 110, Verdict::Deny(Reason::Revoked))).collect();
        let counts = |history: &History| {
            let mut propagation = Propagation::default();
            propagation.add(history);
            (propagation.quiet.count(), propagation.all.count())
        };
        assert_eq!(counts(&history), (0, 1));
        history.revocations[0].way = Way::Exchange;
        assert_eq!(counts(&history), (1, 1));
        let span = Span::new(ms(105), ms(200));
        let (kind, healed) = (FaultKind::LinkCut, span.ended);
        history.faults.push(Fault { kind, replica: Some(0), span, healed });
        assert_eq!(counts(&history), (0, 1));
    }

    #[test]
    fn every_time_is_in_one_bucket() {
        let mut times = Times::new();
        for millis in [0, 1, 2, 3, 50, 5000] {
            times.record(Duration::from_millis(millis));
        }
        assert_eq!(times.buckets(&[1.0, 2.0, 100.0]), [2, 1, 2, 1]);
    }
}
