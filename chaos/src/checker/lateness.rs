//! Lateness: how long after its acknowledgement a revocation or an un-revocation had no effect yet,
//! minus excused time.

use std::time::Duration;

use super::{Rules, union};
use crate::{
    fault::{Excuse, LEASE, NOTICED_WITHIN, RECOVERED_WITHIN},
    history::{Check, Fault, History, Revocation, Unrevocation, Way},
    moment::Span,
    setup::{Setup, Topology, WhileStale},
};

/// Finds excuses in a history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lateness<'a> {
    history: &'a History,
    rules: &'a Rules,
    setup: Setup,
}

/// Excuses for lateness in a window.
#[derive(Debug, Default)]
struct Excused {
    /// Time that does not count.
    blind: Vec<Span>,
    /// Additional time that it may take.
    allowance: Duration,
    /// Nothing is promised.
    void: bool,
}

/// A replica verifies an un-revocation in the store this long after the event.
const UNREVOCATION_VERIFIED_AFTER: Duration = Duration::from_secs(1);
/// How long a snapshot of the store takes.
const READING: Duration = Duration::from_secs(1);

// === impl Lateness ===

impl<'a> Lateness<'a> {
    pub(super) const fn new(history: &'a History, rules: &'a Rules) -> Self {
        Self { history, rules, setup: history.setup }
    }

    /// How late a revocation was that an allowed check did not apply. `None` if the check began
    /// before the acknowledgement, or if nothing is promised.
    pub(super) fn of_revocation(&self, revocation: &Revocation, check: &Check) -> Option<Duration> {
        let acknowledged = revocation.acknowledged.filter(|at| *at < check.span.began)?;
        let window = Span::new(acknowledged, check.span.began);
        let mut excused = Excused { blind: self.history.stalls.clone(), ..Excused::default() };
        // Faults count that may have delayed the revocation or affected the answer.
        let whole = Span::new(revocation.began, check.span.began);
        let faults = || self.history.faults.iter().filter(|one| one.affects(check.replica, whole));
        for fault in faults() {
            self.excuse(fault, revocation, check, &mut excused);
            for other in faults() {
                self.excuse_both(fault, other, revocation, &mut excused);
            }
        }
        match revocation.way {
            Way::Outbox => excused.allowance += self.rules.relay,
            Way::Store if !self.setup.always_asks() => {
                excused.allowance += self.setup.resnapshot + READING;
                let is_disturbed = faults().next().is_some();
                excused.void |= self.may_be_unread(window, check, is_disturbed);
            }
            Way::Store | Way::Exchange | Way::Receipt => {}
        }
        excused.lateness(window)
    }

    /// Whether the key of an expired token within its leeway may have expired before the replica
    /// read it: because time was short, or because a fault kept the replica from reading or
    /// restarted it. Keys expire with their tokens.
    fn may_be_unread(&self, window: Span, check: &Check, is_disturbed: bool) -> bool {
        let token = self.history.tokens.get(check.token);
        let Some(expires) = token.and_then(|token| token.expires) else { return false };
        let reading = (self.setup.resnapshot + READING).mul_f64(self.history.load.slowdown(window));
        check.span.ended > expires && (is_disturbed || window.began.plus(reading) > expires)
    }

    fn excuse(&self, fault: &Fault, revocation: &Revocation, check: &Check, out: &mut Excused) {
        let began = fault.span.began;
        let until = self.until(fault);
        let is_asked = self.setup.always_asks();
        if self.setup.while_stale == WhileStale::Serve && fault.kind.cuts_off_broker() {
            // Only the local set is used until it has expired.
            let expired = began.plus(NOTICED_WITHIN + self.setup.max_staleness);
            out.blind.push(Span::new(began, until.min(expired)));
        }
        match (fault.kind.excuse(), revocation.way) {
            (Excuse::WrongClock, _) | (Excuse::StoreAway, Way::Outbox) => {
                out.blind.push(Span::new(began, until));
            }
            (Excuse::Stopped, _) => {
                let stopped = Span::new(began, fault.healed);
                // After the lease there is no excuse. A receipt comes from each replica whose lease
                // may still be valid.
                if stopped.length() < LEASE && !is_asked && revocation.way != Way::Receipt {
                    out.blind.push(stopped);
                }
            }
            // A receipt is a proof: after it there is no excuse.
            (Excuse::Nothing, _)
            | (_, Way::Receipt)
            | (Excuse::StoreAway | Excuse::StoreEmptied, Way::Exchange) => {}
            (Excuse::UntilNoticed | Excuse::WhileItLasts | Excuse::UntilRead, _) if is_asked => {}
            (Excuse::UntilNoticed, _) => {
                let noticed = began.plus(NOTICED_WITHIN).min(fault.span.ended);
                out.blind.push(Span::new(began, noticed));
            }
            (Excuse::WhileItLasts, _) => out.allowance = out.allowance.max(NOTICED_WITHIN),
            (Excuse::UntilRead, _) => {
                out.allowance = out.allowance.max(self.setup.resnapshot + READING);
            }
            (Excuse::StoreAway, Way::Store) => {
                // A key that was not copied to the new primary is lost.
                out.void |= fault.span.meets(Span::new(revocation.began, check.span.began));
            }
            (Excuse::StoreEmptied, way) => {
                // Only if the store may still have been the only place that had it.
                let longest = match way {
                    Way::Store => self.setup.resnapshot + READING,
                    _ => self.rules.relay,
                };
                let acknowledged = revocation.acknowledged.unwrap_or(revocation.began);
                let there = Span::new(revocation.began, acknowledged.plus(longest));
                out.void |= fault.span.meets(there);
            }
        }
    }

    /// The excuse of two simultaneous faults: a replica without broker and store serves until its
    /// set has expired, and without a relay the outbox can only be read from the store.
    fn excuse_both(&self, fault: &Fault, other: &Fault, one: &Revocation, out: &mut Excused) {
        if !other.kind.cuts_off_store() || self.setup.always_asks() {
            return;
        }
        let both = Span::new(fault.span.began, self.until(fault))
            .overlap(Span::new(other.span.began, self.until(other)));
        if fault.kind.cuts_off_broker() {
            let expired = fault.span.began.plus(NOTICED_WITHIN + self.setup.max_staleness);
            out.blind.push(Span::new(both.began, both.ended.min(expired).max(both.began)));
        }
        let waits = matches!(one.way, Way::Outbox | Way::Store);
        if waits && (fault.kind.delays_relay() || one.way == Way::Store) {
            out.blind.push(both);
        }
    }

    /// How late an un-revocation was at a check that was denied. `None` if nothing is promised: the
    /// event, or the deletion of the key, may have been lost.
    pub(super) fn of_unrevocation(
        &self,
        unrevocation: &Unrevocation,
        check: &Check,
    ) -> Option<Duration> {
        let acknowledged = unrevocation.acknowledged.filter(|at| *at < check.span.began)?;
        let mut excused = Excused { blind: self.history.stalls.clone(), ..Excused::default() };
        let whole = Span::new(unrevocation.began, check.span.began);
        // A revocation that is redelivered after a fault is verified again.
        let mut since = acknowledged;
        for fault in self.history.faults.iter().filter(|one| one.span.meets(whole)) {
            let kind = fault.kind;
            let lost_queue =
                self.setup.topology == Topology::ExclusiveQueue && kind.cuts_off_broker();
            excused.void |= kind.loses_keys() || kind.loses_events() || lost_queue;
            since = since.max(fault.span.ended);
        }
        // The store contradicts as long as the key is there. It is queried again with an
        // exponential backoff.
        let took = acknowledged.since(unrevocation.began);
        if self.setup.table {
            excused.allowance += self.setup.resnapshot + READING;
        }
        excused.allowance += UNREVOCATION_VERIFIED_AFTER + 2 * took;
        if unrevocation.way == Way::Outbox {
            excused.allowance += self.rules.relay;
        }
        excused.lateness(Span::new(since, check.span.began.max(since)))
    }

    /// When the part that a fault broke is in use again.
    fn until(&self, fault: &Fault) -> crate::moment::Moment {
        let recovered = Span::new(fault.span.began, fault.healed);
        let slowdown = self.history.load.slowdown(recovered);
        fault.healed.plus(RECOVERED_WITHIN.mul_f64(slowdown)).min(fault.span.ended)
    }
}

// === impl Excused ===

impl Excused {
    fn lateness(self, window: Span) -> Option<Duration> {
        if self.void {
            return None;
        }
        let blind = self.blind.into_iter().map(|span| span.overlap(window)).collect();
        let counted = window.length().saturating_sub(union(blind));
        Some(counted.saturating_sub(self.allowance))
    }
}
