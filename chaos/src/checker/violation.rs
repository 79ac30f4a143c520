//! Violation: one broken promise, reported with all that is needed to understand and reproduce it.

use std::fmt;

use crate::{
    history::{Check, Fault, History, Revocation, Target, Token, Unrevocation, Verdict},
    moment::Moment,
};

/// A broken promise.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The seed that reproduces the plan.
    pub seed: u64,
    /// The broken promise.
    pub wrong: Wrong,
    /// The answer.
    pub check: Check,
    /// The token that was asked about.
    pub token: Option<Token>,
    /// The faults between the promise and the answer.
    pub faults: Vec<Fault>,
    /// How the replicas were set up.
    pub setup: String,
    /// The steps of the token, in order.
    pub timeline: Vec<String>,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// A token was allowed although it was revoked.
    Allowed(Revocation),
    /// A good token was refused, and no fault justifies the refusal or its reason.
    Refused,
    /// A revoked token was denied for a reason that no fault justifies.
    Reason,
    /// A token was denied although it had been unrevoked.
    StillRevoked(Unrevocation),
    /// A token was allowed by a replica that reported that it is not ready.
    Unready,
    /// An expired token was allowed.
    Expired,
}

// === impl Violation ===

impl Violation {
    pub(super) fn new(seed: u64, history: &History, check: Check, wrong: Wrong) -> Self {
        let mut span = check.span;
        match wrong {
            Wrong::Allowed(revocation) => span.began = revocation.began,
            Wrong::StillRevoked(unrevocation) => span.began = unrevocation.began,
            _ => {}
        }
        let between = history.faults.iter().filter(|fault| fault.span.meets(span));
        Self {
            seed,
            wrong,
            check,
            token: history.tokens.get(check.token).copied(),
            faults: between.copied().collect(),
            setup: history.setup.name(),
            timeline: timeline(history, check.token),
        }
    }
}

/// The steps of a token.
fn timeline(history: &History, place: usize) -> Vec<String> {
    let Some(token) = history.tokens.get(place) else { return Vec::new() };
    let mut all = Vec::new();
    for one in history.revocations.iter().filter(|one| one.target.covers(place, token)) {
        all.push((one.began, "revoked", one.way, one.acknowledged));
    }
    for one in history.unrevocations.iter().filter(|one| one.token == place) {
        all.push((one.began, "unrevoked", one.way, one.acknowledged));
    }
    all.sort_by_key(|(began, ..)| *began);
    let line = |(began, what, way, acknowledged): (Moment, &str, _, Option<Moment>)| {
        let end = acknowledged.map_or("never".to_owned(), |at| Time(at).to_string());
        format!("{what} by way of {way:?}, begun at {}, acknowledged at {end}", Time(began))
    };
    all.into_iter().map(line).collect()
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
            Wrong::Reason => {
                writeln!(
                    out,
                    "A REVOKED TOKEN WAS DENIED FOR A WRONG REASON (seed {})",
                    self.seed
                )?;
            }
            Wrong::StillRevoked(unrevocation) => {
                writeln!(out, "AN UNREVOKED TOKEN WAS STILL DENIED (seed {})", self.seed)?;
                writeln!(out, "  unrevoked by way of {:?}", unrevocation.way)?;
            }
            Wrong::Unready => {
                writeln!(out, "A REPLICA THAT IS NOT READY ALLOWED A TOKEN (seed {})", self.seed)?;
            }
            Wrong::Expired => writeln!(out, "AN EXPIRED TOKEN WAS ALLOWED (seed {})", self.seed)?,
        }
        let answer = match verdict {
            Verdict::Allow => "allowed".to_owned(),
            Verdict::Deny(reason) => format!("denied as {reason:?}"),
            Verdict::Failed => "no answer".to_owned(),
        };
        write!(out, "  check: token {token} at replica {replica}, begun at {}", Time(span.began))?;
        writeln!(out, ", answered at {}: {answer}", Time(span.ended))?;
        for fault in &self.faults {
            let scope =
                fault.replica.map_or("all replicas".to_owned(), |one| format!("replica {one}"));
            let (began, ended) = (Time(fault.span.began), Time(fault.span.ended));
            write!(out, "  fault: {} at {scope}, from {began} to {ended}", fault.kind)?;
            writeln!(out, ", healed at {}", Time(fault.healed))?;
        }
        for line in &self.timeline {
            writeln!(out, "  token {token}: {line}")?;
        }
        if let Some(expires) = self.token.and_then(|token| token.expires) {
            writeln!(out, "  token {token}: expires at {}", Time(expires))?;
        }
        writeln!(out, "  setup: {}", self.setup)?;
        let table = if self.setup == "table" { " --table-runs 1" } else { "" };
        let arguments = format!("--runs 1{table} --seed {} --no-figures", self.seed);
        writeln!(out, "  reproduce: make chaos CHAOS_ARGS=\"{arguments}\"")
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
