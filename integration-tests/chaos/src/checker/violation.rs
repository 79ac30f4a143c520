//! Owns one broken promise, told so that it can be understood and repeated.

use std::fmt;

use crate::history::{Check, Fault, History, Moment, Revocation, Target, Token, Verdict};

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What leads to the same plan again.
    pub seed: u64,
    /// What is wrong.
    pub wrong: Wrong,
    /// The answer.
    pub check: Check,
    /// The token that was asked about.
    pub token: Option<Token>,
    /// The faults between what was promised and the answer.
    pub faults: Vec<Fault>,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A token was allowed although it was revoked.
    Allowed(Revocation),
    /// A good token was refused by a replica that was ready.
    Refused,
}

// === impl Violation ===

impl Violation {
    pub(super) fn new(seed: u64, history: &History, check: Check, wrong: Wrong) -> Self {
        let mut span = check.span;
        if let Wrong::Allowed(revocation) = wrong {
            span.began = revocation.began;
        }
        let between = history.faults.iter().filter(|fault| fault.span.meets(span));
        Self {
            seed,
            wrong,
            check,
            token: history.tokens.get(check.token).copied(),
            faults: between.copied().collect(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Check { token, replica, verdict, span } = self.check;
        match &self.wrong {
            Wrong::Allowed(revocation) => {
                writeln!(out, "A REVOKED TOKEN WAS ALLOWED (seed {})", self.seed)?;
                write!(out, "  revocation: {}, by way of {:?}", revocation.target, revocation.way)?;
                write!(out, ", begun at {}", Time(revocation.began))?;
                if let Some(acknowledged) = revocation.acknowledged {
                    let late = Time(Moment::after(span.began.since(acknowledged)));
                    write!(out, ", acknowledged at {}", Time(acknowledged))?;
                    write!(out, ", {late} before the check")?;
                }
                writeln!(out)?;
            }
            Wrong::Refused => writeln!(out, "A GOOD TOKEN WAS REFUSED (seed {})", self.seed)?,
        }
        let answer = match verdict {
            Verdict::Allow => "allowed".to_owned(),
            Verdict::Deny(status) => format!("denied with {status}"),
            Verdict::Failed => "no answer".to_owned(),
        };
        write!(out, "  check: token {token} at replica {replica}, begun at {}", Time(span.began))?;
        writeln!(out, ", answered at {}: {answer}", Time(span.ended))?;
        for fault in &self.faults {
            let whom =
                fault.replica.map_or("all replicas".to_owned(), |one| format!("replica {one}"));
            let (began, ended) = (Time(fault.span.began), Time(fault.span.ended));
            writeln!(out, "  fault: {} at {whom}, from {began} to {ended}", fault.kind)?;
        }
        writeln!(out, "  again: make chaos CHAOS_ARGS=\"--runs 1 --seed {}\"", self.seed)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(token) => write!(out, "token {token}"),
            Self::Subject { subject, issued_before } => {
                write!(out, "subject {subject} up to {issued_before}")
            }
            Self::Session { session, issued_before } => {
                write!(out, "session {session} up to {issued_before}")
            }
        }
    }
}

/// A moment in milliseconds.
struct Time(Moment);

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.3} ms", self.0.since_begin().as_secs_f64() * 1e3)
    }
}
