//! Sweep of expired entries: a blocking thread finds them, and the feed removes a few at a time, so
//! that neither events nor requests wait for it.

use std::{future::pending, time::Duration};

use futures_util::FutureExt;
use tokio::{
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval_at},
};

use crate::{
    ambient,
    blacklist::{Blacklist, BlacklistWriter, Expired, Generation},
};

/// Looks for expired entries at an interval, and for entries that a reading of the table did not
/// see at once.
#[derive(Debug)]
pub(super) struct Sweep {
    blacklist: Blacklist,
    due: Interval,
    looking: Option<JoinHandle<Expired>>,
    found: Expired,
    /// How far the wall clock was ahead of the boot clock when a sweep was last due, in
    /// milliseconds. A wall clock that was set is not trusted until it has been stable for an
    /// interval: entries that are swept by a wrong clock are lost.
    clock_offset: i64,
    /// The last complete reading of the table.
    complete: Generation,
    missing: Missing,
}

/// The entries that a reading of the table did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// They have been removed.
    Removed,
    /// They have yet to be looked for.
    Asked,
    /// They are being looked for, or removed.
    Looking,
}

/// A clock that moves by more than this between two sweeps was set.
const TOLERANCE_MS: u64 = 2_000;

// === impl Sweep ===

impl Sweep {
    pub(super) fn new(blacklist: Blacklist, interval: Duration) -> Self {
        // An interval must not be zero; the configuration refuses that already.
        let interval = interval.max(Duration::from_millis(1));
        let mut due = interval_at(tokio::time::Instant::now() + interval, interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            blacklist,
            due,
            looking: None,
            found: Expired::default(),
            clock_offset: ambient::clock_offset(),
            complete: Generation::default(),
            missing: Missing::Removed,
        }
    }

    /// Resolves when there is something to remove. Loses nothing if it is dropped before.
    pub(super) async fn next(&mut self) {
        while self.found.is_empty() {
            self.begin_if_asked();
            tokio::select! {
                found = look(&mut self.looking) => self.take(found),
                _ = self.due.tick() => {
                    if self.is_clock_steady() && self.looking.is_none() {
                        self.begin();
                    }
                }
            }
            if self.is_done() {
                // Return, so that waiting callers are told.
                return;
            }
        }
    }

    /// Looks for the entries that were missing in a complete reading of the table.
    pub(super) const fn look_for_missing(&mut self, complete: Generation) {
        self.complete = complete;
        self.missing = Missing::Asked;
    }

    /// Whether all entries that a reading of the table did not see have been removed.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.missing, Missing::Removed)
    }

    /// Removes at most `count` of the entries that were found.
    pub(super) fn remove_some(&mut self, writer: &mut BlacklistWriter, count: usize) {
        self.begin_if_asked();
        // Under a steady stream of events, no other code polls the thread.
        if self.looking.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(found) = look(&mut self.looking).now_or_never()
        {
            self.take(found);
        }
        if self.found.is_empty() {
            return;
        }
        let removed = writer.remove_expired(&mut self.found, count, ambient::now());
        if removed > 0 {
            tracing::debug!(removed, entries = writer.len(), "blacklist entries expired");
        }
        self.note_removed();
    }

    fn begin_if_asked(&mut self) {
        if self.missing == Missing::Asked && self.looking.is_none() && self.found.is_empty() {
            self.missing = Missing::Looking;
            self.begin();
        }
    }

    fn begin(&mut self) {
        let (blacklist, now, complete) = (self.blacklist.clone(), ambient::now(), self.complete);
        self.looking = Some(tokio::task::spawn_blocking(move || blacklist.expired(now, complete)));
    }

    fn take(&mut self, found: Expired) {
        self.looking = None;
        self.found = found;
        self.note_removed();
    }

    fn note_removed(&mut self) {
        if self.missing == Missing::Looking && self.looking.is_none() && self.found.is_empty() {
            self.missing = Missing::Removed;
        }
    }

    /// Whether the wall clock has not been set since the last call.
    fn is_clock_steady(&mut self) -> bool {
        let before = std::mem::replace(&mut self.clock_offset, ambient::clock_offset());
        before.abs_diff(self.clock_offset) <= TOLERANCE_MS
    }
}

async fn look(looking: &mut Option<JoinHandle<Expired>>) -> Expired {
    match looking {
        // A failed search found nothing; the next sweep looks again.
        Some(looking) => looking.await.unwrap_or_default(),
        None => pending().await,
    }
}
