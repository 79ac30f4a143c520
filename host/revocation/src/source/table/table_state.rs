//! State machine of the table source: when the table is read next, whether changes are notified,
//! and until when the set may be trusted.
//!
//! Changes are notified if the trigger exists and notifications arrive, both since the last
//! complete reading began. Then each probe that comes back extends the lease, and a failed reading
//! is retried: nothing is missed meanwhile. Otherwise the table is polled: a complete reading
//! extends the lease until the next one should have been completed, and a failed one ends the
//! session.
//!
//! Pure: it gets events and times as input, and does no I/O.

use std::time::{Duration, Instant};

use portcullis_runtime::boot_clock::BootInstant;

use super::probes::{Moment, Proof};
use crate::{blacklist::lease::LEASE, feed::refresh::Resync};

/// How much later than expected a polled reading may end.
const GRACE: Duration = Duration::from_secs(5);

/// The pause before a failed reading is retried.
const RETRY: Duration = Duration::from_secs(5);

/// The shortest pause between two readings that notifications cause.
const REST: Duration = Duration::from_secs(1);

/// After a reading, the pause before a notification may cause the next one, as a multiple of its
/// duration: any user of the database can send notifications.
const RESTS: u32 = 9;

/// The state of the source.
#[derive(Debug)]
pub(super) struct TableState {
    interval: Duration,
    /// Whether notifications arrive; `None` until that is known.
    hears: Option<bool>,
    /// Whether changes are notified, so that nothing has been missed since the last complete
    /// reading began.
    is_notified: bool,
    /// Whether the table has been read completely.
    is_live: bool,
    /// When the last probe that came back was sent.
    proven: Moment,
    /// When the set was last known to be complete.
    complete: Instant,
    /// When the trigger was last found.
    trigger_seen: Option<Instant>,
    reading: Option<TableReading>,
    /// The order that waits for the next reading.
    asked: Option<Resync>,
    /// When the next reading begins without a request.
    due: Instant,
    /// Until when no notification causes a reading.
    rest: Instant,
    /// Whether a notification arrived that needs a reading.
    is_in_doubt: bool,
}

/// Facts about the server and the table when a reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether a trigger publishes every row that is inserted.
    pub(super) has_trigger: bool,
    /// Whether it is a standby, which may lag behind.
    pub(super) is_standby: bool,
}

/// A reading in progress.
#[derive(Debug)]
struct TableReading {
    begun: Moment,
    asked: Option<Resync>,
    facts: Option<Facts>,
    /// Whether all notifications since it began have arrived.
    is_gapless: bool,
    rows: usize,
}

/// The table has been read completely.
#[derive(Debug)]
pub(super) struct ReadingEnded {
    /// The order that waited for it.
    pub(super) asked: Option<Resync>,
    /// How many rows there were.
    pub(super) rows: usize,
    /// How long that took.
    pub(super) took: Duration,
    /// Whether it was the first one.
    pub(super) is_first: bool,
    /// Whether entries that it has not seen are gone.
    pub(super) is_authoritative: bool,
    /// Until when the set may be trusted.
    pub(super) lease: BootInstant,
}

// === impl TableState ===

impl TableState {
    /// Nothing has been read yet. The first reading begins as soon as it is known whether
    /// notifications arrive.
    pub(super) const fn new(interval: Duration, now: Moment) -> Self {
        Self {
            interval,
            hears: None,
            is_notified: false,
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
        if self.is_notified { self.complete } else { now.min(self.complete + self.interval) }
    }

    /// Whether a request can ask for a reading.
    pub(super) const fn may_be_asked(&self) -> bool {
        self.asked.is_none()
    }

    /// A request asks for a reading.
    pub(super) fn ask(&mut self, resync: Resync) {
        self.asked = Some(resync);
    }

    /// A notification arrived that needs a reading.
    pub(super) const fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    /// A probe came back. Returns until when the set may be trusted, if the probe proves it.
    pub(super) fn prove(&mut self, proof: Proof) -> Option<BootInstant> {
        if proof.is_gap || self.hears == Some(false) {
            self.interrupt();
        }
        self.hears = Some(true);
        self.proven = proof.sent;
        if !self.is_notified {
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

    /// A notification may have been missed: only a reading that begins now or later repairs that.
    fn interrupt(&mut self) {
        self.is_notified = false;
        self.is_in_doubt = true;
        if let Some(reading) = &mut self.reading {
            reading.is_gapless = false;
        }
    }

    /// When the next reading begins, unless one is under way.
    pub(super) fn next_reading(&self, now: Instant) -> Option<Instant> {
        if self.reading.is_some() || self.hears.is_none() {
            return None;
        }
        Some(match (&self.asked, self.is_in_doubt) {
            // The refresher limits how often that happens.
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
        self.reading = Some(TableReading {
            begun: now,
            asked: self.asked.take(),
            facts: None,
            is_gapless: self.hears == Some(true),
            rows: 0,
        });
        true
    }

    /// Stores the facts as the reading begins.
    pub(super) const fn learn(&mut self, facts: Facts) {
        if let Some(reading) = &mut self.reading {
            reading.facts = Some(facts);
        }
    }

    /// Counts rows that were read.
    pub(super) const fn read(&mut self, rows: usize) {
        if let Some(reading) = &mut self.reading {
            reading.rows += rows;
        }
    }

    /// The reading is complete.
    pub(super) fn end_reading(&mut self, now: Moment) -> Option<ReadingEnded> {
        let TableReading { begun, asked, facts, is_gapless, rows } = self.reading.take()?;
        let is_authoritative = facts.is_some_and(|facts| !facts.is_standby);
        let has_trigger = facts.is_some_and(|facts| facts.has_trigger);
        let took = now.at.saturating_duration_since(begun.at);
        let is_first = !std::mem::replace(&mut self.is_live, true);
        self.is_notified = is_authoritative && has_trigger && is_gapless;
        self.trigger_seen = has_trigger.then_some(now.at);
        self.complete = self.complete.max(begun.at);
        self.rest = now.at + (took * RESTS).max(REST);
        // Reads at most half of the time.
        self.due = (begun.at + self.interval).max(now.at + took);
        let lease = if self.is_notified {
            self.complete = self.complete.max(self.proven.at);
            self.proven.boot.plus(LEASE)
        } else {
            now.boot.plus(self.due.saturating_duration_since(now.at) + took * 2 + GRACE)
        };
        Some(ReadingEnded { asked, rows, took, is_first, is_authoritative, lease })
    }

    /// The reading has failed. Returns whether nothing is missed meanwhile, so that it can be
    /// retried.
    pub(super) fn fail_reading(&mut self, now: Instant) -> bool {
        let facts = self.reading.take().and_then(|reading| reading.facts);
        self.due = now + RETRY;
        self.rest = self.due;
        if let Some(facts) = facts {
            self.trigger_seen = facts.has_trigger.then_some(now);
        }
        // The trigger may have been dropped while no connection could check for it.
        let bound = self.interval + GRACE * 2;
        let is_recent = |seen: Instant| now.saturating_duration_since(seen) <= bound;
        self.is_notified && self.trigger_seen.is_some_and(is_recent)
    }
}

#[cfg(test)]
mod tests;
