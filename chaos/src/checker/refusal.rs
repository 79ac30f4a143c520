//! Refusals: whether a check that was not allowed has the right reason and a cause within its time
//! limit.

use crate::{
    fault::{FaultKind, READY_WITHIN},
    history::{Check, Fault, History, Reason, Verdict},
    moment::{Moment, Span},
    setup::WhileStale,
};

use super::{REPORTED_WITHIN, SKEW};

/// A replica notices within this time that its clock was corrected.
const CLOCK_IS_READ: std::time::Duration = std::time::Duration::from_secs(3);

/// A replica receives a message from its source at least this often.
const HEARTBEAT: std::time::Duration = std::time::Duration::from_millis(1500);
/// From this slowdown of the machine on, the broker may fail to answer in time.
const STARVED: f64 = 2.0;
/// After a stall of this length, a replica does not trust its set, and its connections may be lost.
const PAUSED: std::time::Duration = std::time::Duration::from_secs(1);
/// A replica recovers from a stall within this time.
const RESUMED_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Whether a fault, or the token, justifies that a check was not allowed, and its reason.
pub(super) fn is_justified(history: &History, check: &Check) -> bool {
    let faults = Faults { history, replica: check.replica, span: check.span };
    match check.verdict {
        Verdict::Allow => true,
        Verdict::Failed => faults.silence() || (!faults.was_ready() && faults.unready()),
        Verdict::Deny(Reason::InvalidToken) => {
            let expires = history.tokens.get(check.token).and_then(|token| token.expires);
            expires.is_some_and(|at| check.span.ended.plus(SKEW) >= at) || faults.wrong_clock()
        }
        Verdict::Deny(Reason::NotReady) => {
            faults.stalled()
                || (!faults.was_ready() && (faults.unready() || faults.starved_broker()))
        }
        Verdict::Deny(Reason::StoreUnavailable) => faults.stalled() || faults.no_store(),
        Verdict::Deny(Reason::Revoked | Reason::Other) => false,
    }
}

/// The faults at a replica in a span.
struct Faults<'a> {
    history: &'a History,
    replica: usize,
    span: Span,
}

// === impl Faults ===

impl Faults<'_> {
    /// Whether the replica was certainly ready. A replica that resumes after a stop, or was
    /// unreachable for a moment, may not be, although it reported so shortly before and after.
    fn was_ready(&self) -> bool {
        let around = REPORTED_WITHIN.mul_f64(self.history.load.slowdown(self.span));
        self.history.readiness(self.replica, self.span.grown(around)) == Some(true)
    }

    /// Whether the process was dead or stopped, or is starting.
    fn silence(&self) -> bool {
        self.any(|fault| fault.kind.silences_replica())
    }

    fn wrong_clock(&self) -> bool {
        let is_wrong = |fault: &Fault| {
            fault.kind == FaultKind::ClockJump
                && fault.is_at(self.replica)
                && Span::new(fault.span.began, fault.healed.plus(CLOCK_IS_READ)).meets(self.span)
        };
        self.history.faults.iter().any(is_wrong)
    }

    /// Whether the replica may have been not ready.
    fn unready(&self) -> bool {
        let setup = self.history.setup;
        if self.silence() {
            return true;
        }
        let doubted = self.doubted_since();
        let expired = doubted.is_some_and(|at| self.may_be_expired(at));
        match setup.while_stale {
            WhileStale::Deny if !setup.always_asks() => doubted.is_some(),
            WhileStale::Serve if !setup.always_asks() => expired,
            _ => {
                let no_store = self.any(|fault| fault.kind.cuts_off_store());
                no_store && (expired || self.started_without_store())
            }
        }
    }

    /// Whether the store was queried and may not have answered. A query of a process that is stopped
    /// has no answer when it continues.
    fn no_store(&self) -> bool {
        let setup = self.history.setup;
        let doubted = self.doubted_since();
        let expired = doubted.is_some_and(|at| self.may_be_expired(at));
        let is_down = self.any(|fault| fault.kind.cuts_off_store());
        (is_down || self.silence()) && (setup.always_asks() || expired)
    }

    /// Whether the broker may have been silent because other work used the processors. It shows
    /// only at a replica that denies while it is stale.
    fn starved_broker(&self) -> bool {
        let setup = self.history.setup;
        let denies = setup.while_stale == WhileStale::Deny && !setup.always_asks();
        denies && self.history.load.slowdown(self.span) > STARVED
    }

    /// Whether the machine was stalled shortly before, for so long that the replica may be as after
    /// a fault: without a set that it trusts, and without connections.
    fn stalled(&self) -> bool {
        let recent = Span::new(self.span.began.minus(RESUMED_WITHIN), self.span.ended);
        let is_long = |stall: &&Span| stall.length() >= PAUSED;
        self.history.stalls.iter().filter(is_long).any(|stall| stall.meets(recent))
    }

    /// Whether the set of a replica may have expired that received nothing since a moment, or since
    /// the last message before it.
    fn may_be_expired(&self, doubted: Moment) -> bool {
        let stale = self.history.setup.max_staleness.saturating_sub(HEARTBEAT);
        self.span.ended > doubted.plus(stale)
    }

    /// Since when the replica may have had no broker.
    fn doubted_since(&self) -> Option<Moment> {
        let faults = self.near().filter(|fault| fault.kind.cuts_off_broker());
        faults.map(|fault| fault.span.began).min()
    }

    /// Whether it was killed while the store was unavailable.
    fn started_without_store(&self) -> bool {
        let killed = |fault: &&Fault| {
            fault.is_at(self.replica)
                && matches!(fault.kind, FaultKind::ReplicaKilled | FaultKind::ReplicaKilledAtStart)
        };
        let store_is_down = |killed: &Fault| {
            self.any(|other| other.kind.cuts_off_store() && other.span.meets(killed.span))
        };
        self.history.faults.iter().filter(killed).any(store_is_down)
    }

    fn any(&self, applies: impl Fn(&Fault) -> bool) -> bool {
        self.near().any(applies)
    }

    /// Faults that affect the replica and last, or were healed so recently that it may not be ready
    /// again.
    fn near(&self) -> impl Iterator<Item = &Fault> {
        self.history.faults.iter().filter(|fault| {
            let slowdown = self.history.load.slowdown(self.span);
            let ready = fault.healed.plus(READY_WITHIN.mul_f64(slowdown)).min(fault.span.ended);
            let lasts = Span::new(fault.span.began, ready.max(fault.healed));
            fault.is_at(self.replica) && lasts.meets(self.span)
        })
    }
}
