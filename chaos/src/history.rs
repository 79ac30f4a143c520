//! History of a run: every revocation, every answer and every fault, with their times.
//!
//! It is append-only and judges nothing. Each observer records into its own [`History`], without a
//! lock; they are merged at the end.

use std::time::Duration;

use crate::{
    fault::FaultKind,
    load::Load,
    moment::{Moment, Span},
    setup::Setup,
};

/// A token, with what decides whether a revocation covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The subject that it was issued to.
    pub subject: usize,
    /// The session that it belongs to.
    pub session: usize,
    /// When it was issued, in seconds.
    pub issued_at: i64,
    /// When it expires, for a token that does so during the run.
    pub expires: Option<Moment>,
}

/// What is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A token, by its place in [`History::tokens`].
    Token(usize),
    /// Tokens of a subject that were issued at or before a time.
    Subject {
        /// The subject.
        subject: usize,
        /// The time, in seconds.
        issued_before: i64,
    },
    /// Tokens of a session that were issued at or before a time.
    Session {
        /// The session.
        session: usize,
        /// The time, in seconds.
        issued_before: i64,
    },
}

/// How a revocation reaches the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The exchange has confirmed the event, and the store has the key.
    Exchange,
    /// The event is in the outbox, from which a relay publishes it, and the store has the key.
    Outbox,
    /// Every ready replica has given a receipt for it.
    Receipt,
    /// Only the store has it. The event has no effect, because its expiry is in the past.
    Store,
}

/// A revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub target: Target,
    /// How it reaches the replicas.
    pub way: Way,
    /// When its first byte was sent.
    pub began: Moment,
    /// When the publisher got the acknowledgement. Without one, it may or may not be in effect.
    pub acknowledged: Option<Moment>,
}

/// An un-revocation: the token is good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrevocation {
    /// The token, by its place in [`History::tokens`].
    pub token: usize,
    /// How the event reaches the replicas.
    pub way: Way,
    /// When its first byte was sent.
    pub began: Moment,
    /// When the publisher got the acknowledgement. Without one, it may or may not be in effect.
    pub acknowledged: Option<Moment>,
}

/// Why a request was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The token is revoked.
    Revoked,
    /// The set is incomplete or out of date.
    NotReady,
    /// The store was queried, and did not answer.
    StoreUnavailable,
    /// The token has expired, or was issued in the future.
    InvalidToken,
    /// Anything else.
    Other,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Allow,
    /// It may not, for this reason.
    Deny(Reason),
    /// There was no answer: the call failed.
    Failed,
}

/// An answered `Check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The token, by its place in [`History::tokens`].
    pub token: usize,
    /// The replica that answered.
    pub replica: usize,
    /// The answer.
    pub verdict: Verdict,
    /// From the request to the answer.
    pub span: Span,
}

/// A fault that was injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// The replica that it affects; without one, all of them.
    pub replica: Option<usize>,
    /// From before it began until every replica was live again.
    pub span: Span,
    /// When it was healed.
    pub healed: Moment,
}

/// A sample of the health of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthSample {
    /// The replica.
    pub replica: usize,
    /// The answer.
    pub health: Health,
    /// From the request to the answer.
    pub span: Span,
}

/// The health of a replica, as it reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It is ready.
    Ready,
    /// It is not ready.
    NotReady,
    /// There was no answer. For callers the replica is not ready.
    NoAnswer,
}

/// The staleness that a replica reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// The replica.
    pub replica: usize,
    /// When it was reported.
    pub at: Moment,
    /// For how long the set may have been incomplete.
    pub staleness: Duration,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// All tokens.
    pub tokens: Vec<Token>,
    /// Revocations, in no order.
    pub revocations: Vec<Revocation>,
    /// Un-revocations, in no order.
    pub unrevocations: Vec<Unrevocation>,
    /// Checks that were answered, or failed.
    pub checks: Vec<Check>,
    /// Faults.
    pub faults: Vec<Fault>,
    /// Samples of the replicas' health.
    pub health: Vec<HealthSample>,
    /// The staleness that replicas reported.
    pub ages: Vec<Age>,
    /// Times between the kill of a replica and the readiness of its next process.
    pub deaths: Vec<(usize, Span)>,
    /// Times in which the whole machine was stalled, this process included.
    pub stalls: Vec<Span>,
    /// The load of the machine.
    pub load: Load,
    /// How the replicas were set up.
    pub setup: Setup,
}

// === impl Target ===

impl Target {
    /// Whether it covers the token at this place of the history.
    #[must_use]
    pub fn covers(self, place: usize, token: &Token) -> bool {
        match self {
            Self::Token(revoked) => revoked == place,
            Self::Subject { subject, issued_before } => {
                subject == token.subject && token.issued_at <= issued_before
            }
            Self::Session { session, issued_before } => {
                session == token.session && token.issued_at <= issued_before
            }
        }
    }
}

// === impl Fault ===

impl Fault {
    /// Whether it affects a replica in a span.
    #[must_use]
    pub fn affects(&self, replica: usize, span: Span) -> bool {
        self.is_at(replica) && self.span.meets(span)
    }

    /// Whether a replica is among those that it affects.
    #[must_use]
    pub fn is_at(&self, replica: usize) -> bool {
        self.replica.is_none_or(|affected| affected == replica)
    }
}

// === impl History ===

impl History {
    /// Adds the record of another observer.
    pub fn merge(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.revocations.extend(other.revocations);
        self.unrevocations.extend(other.unrevocations);
        self.checks.extend(other.checks);
        self.faults.extend(other.faults);
        self.health.extend(other.health);
        self.ages.extend(other.ages);
        self.deaths.extend(other.deaths);
        self.stalls.extend(other.stalls);
        self.load.merge(other.load);
    }

    /// How long it lasted.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        let last = self.health.iter().map(|sample| sample.span.ended).max();
        last.map_or(Duration::ZERO, Moment::since_begin)
    }

    /// Whether a replica was ready in a span, by the nearest samples before and after it and all in
    /// between. `None` if they disagree, or if the replica was dead in the meantime.
    #[must_use]
    pub fn readiness(&self, replica: usize, span: Span) -> Option<bool> {
        let samples = self.samples(replica, span)?;
        let ready = samples.first()? == &Health::Ready;
        let agree = samples.iter().all(|health| (*health == Health::Ready) == ready);
        let died = self.deaths.iter().any(|(dead, death)| *dead == replica && death.meets(span));
        (agree && !(died && ready)).then_some(ready)
    }

    /// Whether a replica reported before a span, after it and in between that it is not ready.
    #[must_use]
    pub fn reported_not_ready(&self, replica: usize, span: Span) -> bool {
        let samples = self.samples(replica, span);
        samples.is_some_and(|all| all.iter().all(|health| *health == Health::NotReady))
    }

    /// The health of a replica before a span, after it, and in between.
    fn samples(&self, replica: usize, span: Span) -> Option<Vec<Health>> {
        let mut before: Option<&HealthSample> = None;
        let mut after: Option<&HealthSample> = None;
        let mut within = Vec::new();
        for sample in self.health.iter().filter(|sample| sample.replica == replica) {
            if sample.span.ended <= span.began {
                before = before.filter(|best| best.span.ended > sample.span.ended).or(Some(sample));
            } else if sample.span.began >= span.ended {
                after = after.filter(|best| best.span.began < sample.span.began).or(Some(sample));
            } else {
                within.push(sample.health);
            }
        }
        within.extend([before?.health, after?.health]);
        Some(within)
    }
}
