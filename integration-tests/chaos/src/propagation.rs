//! Owns how long revocations took to be in force: computed from histories, never measured apart
//! from them.

use std::{collections::HashMap, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    history::{History, Moment, Revocation, Span, Target, Verdict, Way},
    plan::REPLICAS,
};

/// Times from the first byte of a revocation to the answer that made it known that all replicas
/// deny. Both ends lie outside of what is measured, so nothing is told too short.
#[derive(Debug, Clone)]
pub struct Propagation {
    /// Published to the exchange while no fault lasted.
    pub quiet: Times,
    /// All, whatever lasted and whichever way they took.
    pub all: Times,
}

/// A distribution of times.
#[derive(Debug, Clone, PartialEq)]
pub struct Times(Histogram<u64>);

/// The longest time that is told apart from longer ones, in microseconds.
const LONGEST: u64 = 120_000_000;

// === impl Propagation ===

impl Default for Propagation {
    fn default() -> Self {
        Self { quiet: Times::new(), all: Times::new() }
    }
}

impl Propagation {
    /// Takes in the revocations of a run that all replicas were seen to deny.
    pub fn add(&mut self, history: &History) {
        let denials = denials(history);
        for revocation in &history.revocations {
            let Some(known) = denied_everywhere(history, revocation, &denials) else { continue };
            let time = known.since(revocation.began);
            self.all.record(time);
            let span = Span::new(revocation.began, known);
            let quiet = history.faults.iter().all(|fault| !fault.span.meets(span));
            if quiet && revocation.way == Way::Exchange {
                self.quiet.record(time);
            }
        }
    }
}

/// For each token and replica, the ends of the checks that were denied, in order.
type Denials = HashMap<(usize, usize), Vec<Moment>>;

fn denials(history: &History) -> Denials {
    let mut denials = Denials::new();
    for check in &history.checks {
        if let Verdict::Deny(_) = check.verdict {
            denials.entry((check.token, check.replica)).or_default().push(check.span.ended);
        }
    }
    for moments in denials.values_mut() {
        moments.sort_unstable();
    }
    denials
}

/// When the last of the replicas had denied a revoked token for the first time. Nothing for
/// revocations that nobody acknowledged, or that were seen too seldom.
fn denied_everywhere(
    history: &History,
    revocation: &Revocation,
    denials: &Denials,
) -> Option<Moment> {
    revocation.acknowledged?;
    let token = match revocation.target {
        Target::Token(token) => token,
        target => {
            let mut tokens = history.tokens.iter().enumerate();
            tokens.find(|(place, token)| target.covers(*place, token))?.0
        }
    };
    let first = |replica| {
        let moments = denials.get(&(token, replica))?;
        moments.iter().find(|moment| **moment >= revocation.began).copied()
    };
    (0..REPLICAS).map(first).collect::<Option<Vec<_>>>()?.into_iter().max()
}

// === impl Times ===

impl Times {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_max(LONGEST, 3).expect("the range is one that it can have"))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(LONGEST));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time, in milliseconds, within which so many of all fell; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, part: f64) -> f64 {
        millis(self.0.value_at_quantile(part))
    }

    /// The longest, in milliseconds.
    #[must_use]
    pub fn max(&self) -> f64 {
        millis(if self.0.is_empty() { 0 } else { self.0.max() })
    }

    /// How many fell between one bound and the next, in milliseconds, beginning at 0; the last
    /// number has what is beyond the last bound.
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
    fn a_time_ends_with_the_first_denial_of_the_last_replica() {
        let mut history = History {
            tokens: vec![Token { subject: 0, session: 0, issued_at: 1 }; 2],
            revocations: vec![revocation(Target::Token(1), Way::Exchange, 100)],
            ..History::default()
        };
        for (replica, ended) in [(0, 103), (1, 109), (1, 107), (2, 104), (2, 300)] {
            history.checks.push(asked(1, replica, ended, Verdict::Deny(403)));
        }
        history.checks.push(asked(1, 1, 105, Verdict::Allow));
        let mut propagation = Propagation::default();
        propagation.add(&history);
        assert!((propagation.quiet.max() - 7.0).abs() < 0.01);

        history.checks.retain(|check| check.replica != 2);
        let mut propagation = Propagation::default();
        propagation.add(&history);
        assert_eq!(propagation.all.count(), 0, "nobody saw the third one deny");
    }

    #[test]
    fn only_what_meets_no_fault_and_was_published_directly_is_quiet() {
        let target = Target::Subject { subject: 0, issued_before: 1 };
        let mut history = History {
            tokens: vec![Token { subject: 0, session: 0, issued_at: 1 }],
            revocations: vec![revocation(target, Way::Receipt, 100)],
            ..History::default()
        };
        history.checks = (0..3).map(|one| asked(0, one, 110, Verdict::Deny(403))).collect();
        let counts = |history: &History| {
            let mut propagation = Propagation::default();
            propagation.add(history);
            (propagation.quiet.count(), propagation.all.count())
        };
        assert_eq!(counts(&history), (0, 1));
        history.revocations[0].way = Way::Exchange;
        assert_eq!(counts(&history), (1, 1));
        let span = Span::new(ms(105), ms(200));
        history.faults.push(Fault { kind: FaultKind::LinkCut, replica: Some(0), span });
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
