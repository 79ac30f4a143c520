//! Owns what happened in a run: every revocation, every answer, every fault, each with its times.
//!
//! It only grows, and judges nothing. Who observes something writes it down in a [`History`] of its
//! own, without a lock; they are put together at the end.

use std::time::{Duration, Instant};

use crate::fault::FaultKind;

/// Times are read from one monotonic clock. A moment is the time since the run began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

/// From one moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub began: Moment,
    /// Its end.
    pub ended: Moment,
}

/// A token, as far as it matters to who is covered by a revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Whom it was issued to.
    pub subject: usize,
    /// The session that it belongs to.
    pub session: usize,
    /// When it was issued, in seconds.
    pub issued_at: i64,
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

/// The way that a revocation took to the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The exchange has confirmed it, and the store has it.
    Exchange,
    /// The outbox has it, from where a relay publishes it, and the store has it.
    Outbox,
    /// Every ready replica has given a receipt for it.
    Receipt,
}

/// A revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// What is revoked.
    pub target: Target,
    /// The way that it took.
    pub way: Way,
    /// When its first byte was sent.
    pub began: Moment,
    /// When whoever revoked was told that it holds. Without it, it may hold or not.
    pub acknowledged: Option<Moment>,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Allow,
    /// It may not, and the client gets this HTTP status.
    Deny(u16),
    /// There was no answer: the call failed.
    Failed,
}

/// An answered `Check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The token, by its place in [`History::tokens`].
    pub token: usize,
    /// Who was asked.
    pub replica: usize,
    /// The answer.
    pub verdict: Verdict,
    /// From asking to the answer.
    pub span: Span,
}

/// A fault that was injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// The replica that it befell; all of them without one.
    pub replica: Option<usize>,
    /// From before it began until every replica was live again.
    pub span: Span,
}

/// A look at whether a replica was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The replica.
    pub replica: usize,
    /// What it said; one that does not answer is not ready.
    pub ready: bool,
    /// From asking to the answer.
    pub span: Span,
}

/// What a replica said about how old its set may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// The replica.
    pub replica: usize,
    /// When it said so.
    pub at: Moment,
    /// For how long its set may have been incomplete.
    pub staleness: Duration,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// All tokens.
    pub tokens: Vec<Token>,
    /// Revocations, in no order.
    pub revocations: Vec<Revocation>,
    /// Checks that were answered, or failed.
    pub checks: Vec<Check>,
    /// Faults.
    pub faults: Vec<Fault>,
    /// Looks at the replicas' readiness.
    pub looks: Vec<Look>,
    /// What replicas said about the age of their sets.
    pub ages: Vec<Age>,
    /// Times in which a process of the replica was killed and no other one was ready.
    pub deaths: Vec<(usize, Span)>,
    /// Times in which the whole machine stood still, this program included.
    pub stalls: Vec<Span>,
}

// === impl Moment ===

impl Moment {
    /// A moment by its time since the run began.
    #[must_use]
    pub const fn after(time: Duration) -> Self {
        Self(time)
    }

    /// The time since the run began.
    #[must_use]
    pub const fn since_begin(self) -> Duration {
        self.0
    }

    /// The time from an earlier moment to this one; zero if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// A later moment.
    #[must_use]
    pub const fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

// === impl Clock ===

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    /// The moment that is now.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.at(Instant::now())
    }

    /// The moment at a time.
    #[must_use]
    pub fn at(&self, time: Instant) -> Moment {
        Moment(time.saturating_duration_since(self.0))
    }
}

// === impl Span ===

impl Span {
    /// From `began` to `ended`.
    #[must_use]
    pub const fn new(began: Moment, ended: Moment) -> Self {
        Self { began, ended }
    }

    /// How long it is.
    #[must_use]
    pub const fn length(self) -> Duration {
        self.ended.since(self.began)
    }

    /// What both have in common; empty if nothing.
    #[must_use]
    pub fn overlap(self, other: Self) -> Self {
        let began = self.began.max(other.began);
        Self { began, ended: self.ended.min(other.ended).max(began) }
    }

    /// Whether there is a moment in both; touching counts.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        self.began <= other.ended && other.began <= self.ended
    }
}

// === impl Target ===

impl Target {
    /// Whether it covers a token, which stands at a place in the history.
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
    /// Whether it concerns a replica in a span.
    #[must_use]
    pub fn befalls(&self, replica: usize, span: Span) -> bool {
        self.replica.is_none_or(|befallen| befallen == replica) && self.span.meets(span)
    }
}

// === impl History ===

impl History {
    /// Takes over what another observer wrote down.
    pub fn merge(&mut self, other: Self) {
        self.tokens.extend(other.tokens);
        self.revocations.extend(other.revocations);
        self.checks.extend(other.checks);
        self.faults.extend(other.faults);
        self.looks.extend(other.looks);
        self.ages.extend(other.ages);
        self.deaths.extend(other.deaths);
        self.stalls.extend(other.stalls);
    }

    /// How long it lasted.
    #[must_use]
    pub fn lasted(&self) -> Duration {
        let last = self.looks.iter().map(|look| look.span.ended).max();
        last.map_or(Duration::ZERO, Moment::since_begin)
    }

    /// What the nearest looks before and after a span, and all in between, say about a replica:
    /// `Some` if they agree, and if nothing is known of its death in the meantime.
    #[must_use]
    pub fn readiness(&self, replica: usize, span: Span) -> Option<bool> {
        let mut before: Option<&Look> = None;
        let mut after: Option<&Look> = None;
        let mut within = Vec::new();
        for look in self.looks.iter().filter(|look| look.replica == replica) {
            if look.span.ended <= span.began {
                before = before.filter(|best| best.span.ended > look.span.ended).or(Some(look));
            } else if look.span.began >= span.ended {
                after = after.filter(|best| best.span.began < look.span.began).or(Some(look));
            } else {
                within.push(look.ready);
            }
        }
        let ready = before?.ready;
        let agree = after?.ready == ready && within.iter().all(|within| *within == ready);
        let died = self.deaths.iter().any(|(dead, death)| *dead == replica && death.meets(span));
        (agree && !(died && ready)).then_some(ready)
    }
}
