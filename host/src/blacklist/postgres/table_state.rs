//! Owns the state of the table as this replica follows it: when it is read next, whether its changes
//! are told, and until when the set may be believed.
//!
//! Changes are told if the trigger is there, notifications arrive, and both have been so since the last
//! complete reading began. Then each probe that comes back extends the lease, and a reading that fails
//! is tried again: nothing is missed meanwhile. Otherwise the table is polled: a complete reading
//! extends the lease until the next one should have come to its end, and one that fails ends the
//! session.
//!
//! Pure: it is told what happens and when, and does nothing itself.

use std::time::{Duration, Instant};

use super::probes::{Moment, Proof};
use crate::{
    blacklist::{lease::LEASE, refresh::Resync},
    boot_clock::BootInstant,
};

/// How much later than expected a polled reading may end.
const GRACE: Duration = Duration::from_secs(5);

/// Before a reading that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Between two readings that notifications cause, at least.
const REST: Duration = Duration::from_secs(1);

/// How many times as long as the last reading nothing is read because of notifications: any user of
/// the database can send them.
const RESTS: u32 = 9;

/// How far a source has come.
#[derive(Debug)]
pub(super) struct TableState {
    interval: Duration,
    /// Whether notifications arrive, as soon as that is known.
    hears: Option<bool>,
    /// Whether changes are told, so that nothing has been missed since the last complete reading began.
    is_told: bool,
    /// Whether the table has been read completely.
    is_live: bool,
    /// When the last probe that came back was sent.
    proven: Moment,
    /// When the set was last known to have everything.
    complete: Instant,
    /// When the trigger was last found in its place.
    trigger_seen: Option<Instant>,
    reading: Option<Reading>,
    /// Who waits for the next reading.
    asked: Option<Resync>,
    /// When the next one begins unless a request asks.
    due: Instant,
    /// Until when no notification causes one.
    rest: Instant,
    /// Whether something was heard that only a reading can answer.
    is_in_doubt: bool,
}

/// What the server says of itself and the table when a reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether a trigger tells of every row that is inserted.
    pub(super) has_trigger: bool,
    /// Whether it is a standby, which may lag behind.
    pub(super) is_standby: bool,
}

/// The table being read.
#[derive(Debug)]
struct Reading {
    begun: Moment,
    asked: Option<Resync>,
    facts: Option<Facts>,
    /// Whether everything that was told since it began has been heard.
    is_heard: bool,
    rows: usize,
}

/// The table has been read completely.
#[derive(Debug)]
pub(super) struct Ended {
    /// Who waited for it.
    pub(super) asked: Option<Resync>,
    /// How many rows there were.
    pub(super) rows: usize,
    /// How long that took.
    pub(super) took: Duration,
    /// Whether it was the first one.
    pub(super) is_first: bool,
    /// Whether entries that it has not seen are gone.
    pub(super) is_truth: bool,
    /// Until when the set may be believed.
    pub(super) lease: BootInstant,
}

// === impl TableState ===

impl TableState {
    /// Nothing has been read yet. That begins as soon as it is known whether notifications arrive.
    pub(super) const fn new(interval: Duration, now: Moment) -> Self {
        Self {
            interval,
            hears: None,
            is_told: false,
            is_live: false,
            proven: now,
            complete: now.at,
            trigger_seen: None,
            reading: None,
            asked: None,
            due: now.at,
            rest: now.at,
            is_in_doubt: false,
        }
    }

    /// Whether the table has been read completely.
    pub(super) const fn is_live(&self) -> bool {
        self.is_live
    }

    /// Since when the set may miss something, if the connection is lost at the time `now`.
    pub(super) fn complete_until(&self, now: Instant) -> Instant {
        if self.is_told { self.complete } else { now.min(self.complete + self.interval) }
    }

    /// Whether a request can ask for a reading.
    pub(super) const fn may_be_asked(&self) -> bool {
        self.asked.is_none()
    }

    /// A request asks for a reading.
    pub(super) fn ask(&mut self, resync: Resync) {
        self.asked = Some(resync);
    }

    /// Something was heard that only a reading can answer.
    pub(super) const fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    /// A probe came back. Until when the set may be believed, if that proves it.
    pub(super) fn prove(&mut self, proof: Proof) -> Option<BootInstant> {
        if proof.is_gap || self.hears == Some(false) {
            self.interrupt();
        }
        self.hears = Some(true);
        self.proven = proof.sent;
        if !self.is_told {
            return None;
        }
        self.complete = self.complete.max(proof.sent.at);
        Some(proof.sent.boot.plus(LEASE))
    }

    /// Probes do not come back.
    pub(super) fn fall_silent(&mut self) {
        self.hears = Some(false);
        self.interrupt();
    }

    /// Something may not have been heard: only a reading that begins now or later can make good for it.
    fn interrupt(&mut self) {
        self.is_told = false;
        self.is_in_doubt = true;
        if let Some(reading) = &mut self.reading {
            reading.is_heard = false;
        }
    }

    /// When the next reading begins, unless one is under way.
    pub(super) fn next_reading(&self, now: Instant) -> Option<Instant> {
        if self.reading.is_some() || self.hears.is_none() {
            return None;
        }
        Some(match (&self.asked, self.is_in_doubt) {
            // How often that happens is the refresher's business.
            (Some(_), _) => now,
            (None, true) => self.due.min(self.rest),
            (None, false) => self.due,
        })
    }

    /// Whether a reading begins now.
    pub(super) fn begins_reading(&mut self, now: Moment) -> bool {
        if self.next_reading(now.at).is_none_or(|at| at > now.at) {
            return false;
        }
        self.is_in_doubt = false;
        self.reading = Some(Reading {
            begun: now,
            asked: self.asked.take(),
            facts: None,
            is_heard: self.hears == Some(true),
            rows: 0,
        });
        true
    }

    /// What the server says as the reading begins.
    pub(super) const fn learn(&mut self, facts: Facts) {
        if let Some(reading) = &mut self.reading {
            reading.facts = Some(facts);
        }
    }

    /// So many rows were read.
    pub(super) const fn read(&mut self, rows: usize) {
        if let Some(reading) = &mut self.reading {
            reading.rows += rows;
        }
    }

    /// The reading has come to its end.
    pub(super) fn end_reading(&mut self, now: Moment) -> Option<Ended> {
        let Reading { begun, asked, facts, is_heard, rows } = self.reading.take()?;
        let is_truth = facts.is_some_and(|facts| !facts.is_standby);
        let has_trigger = facts.is_some_and(|facts| facts.has_trigger);
        let took = now.at.saturating_duration_since(begun.at);
        let is_first = !std::mem::replace(&mut self.is_live, true);
        self.is_told = is_truth && has_trigger && is_heard;
        self.trigger_seen = has_trigger.then_some(now.at);
        self.complete = self.complete.max(begun.at);
        self.rest = now.at + (took * RESTS).max(REST);
        // Half of the time at the most.
        self.due = (begun.at + self.interval).max(now.at + took);
        let lease = if self.is_told {
            self.complete = self.complete.max(self.proven.at);
            self.proven.boot.plus(LEASE)
        } else {
            now.boot.plus(self.due.saturating_duration_since(now.at) + took * 2 + GRACE)
        };
        Some(Ended { asked, rows, took, is_first, is_truth, lease })
    }

    /// The reading has failed. Whether nothing is missed meanwhile, so that it is tried again.
    pub(super) fn fail_reading(&mut self, now: Instant) -> bool {
        let facts = self.reading.take().and_then(|reading| reading.facts);
        self.due = now + RETRY;
        self.rest = self.due;
        if let Some(facts) = facts {
            self.trigger_seen = facts.has_trigger.then_some(now);
        }
        // The trigger may have gone while no connection could look for it.
        let bound = self.interval + GRACE * 2;
        let is_recent = |seen: Instant| now.saturating_duration_since(seen) <= bound;
        self.is_told && self.trigger_seen.is_some_and(is_recent)
    }
}

#[cfg(test)]
mod tests;
