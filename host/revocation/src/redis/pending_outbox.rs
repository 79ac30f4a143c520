//! The pending outbox: reading events that wait for the relay, without removing them.
//!
//! Publishers push at the head, relays pop at the tail, and a relay that fails pushes back at the
//! head. So new entries are in front of those that were at the head last time. If these cannot be
//! found with certainty, everything counts as new: reading an entry twice costs little, missing one
//! would let a revoked token pass.

use std::{collections::HashSet, fmt, future::Future, mem, time::Duration};

use redis::Pipeline;
use tokio::time::{Instant, timeout};

use super::{
    Redis,
    ask::{Ask, Patience},
    error::StoreError,
    keys::Keys,
};
use crate::event::Event;

/// What has been read of the list so far.
#[derive(Default)]
pub(crate) struct PendingOutbox {
    /// How long the list was.
    length: usize,
    /// The entries at its head.
    head: Vec<Vec<u8>>,
    /// The position from which it has not been read, if reading stopped in the middle.
    unread: Option<usize>,
    /// When the head was read.
    read_at: Option<Instant>,
    /// Events that were read and not taken yet, the newest of each reading first.
    found: Vec<Event>,
}

/// Where the outbox is read. It is Redis except in tests.
pub(crate) trait ReadOutbox: Send + Sync {
    /// Reads what publishers have left for the relay since `pending` was last read, and leaves it
    /// there. What could be read is in `pending` even after an error.
    ///
    /// # Errors
    /// When not all of it could be read within [`LIMIT`].
    fn read_outbox(
        &self,
        pending: &mut PendingOutbox,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// How long one reading may take. The next reading continues where it stopped.
const LIMIT: Duration = Duration::from_secs(1);

/// How many entries at the head are read each time, and remembered.
const HEAD: usize = 64;

/// How many of them have to be found again.
const LANDMARK: usize = HEAD / 2;

/// After this long, a relay that keeps failing may have rotated the list so far that the same
/// entries are at the head again, with new entries behind them.
const MEMORY: Duration = Duration::from_secs(5);

/// The page size of a reading of all entries.
const PAGE: usize = 1_000;

// === impl Redis ===

impl ReadOutbox for Redis {
    async fn read_outbox(&self, pending: &mut PendingOutbox) -> Result<(), StoreError> {
        let patience = Patience { redis: self, limit: LIMIT };
        let read = timeout(LIMIT, pending.read(self.keys(), &patience)).await;
        read.unwrap_or(Err(StoreError::Timeout(LIMIT)))
    }
}

// === impl PendingOutbox ===

impl PendingOutbox {
    /// The events that were read since the last call. Only events that revoke are returned: an
    /// un-revocation takes effect when the relay sends it, after everything that was pushed before.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        let mut found = mem::take(&mut self.found);
        found.retain(Event::revokes);
        found
    }

    /// The same, without revocations that have an un-revocation in front of them: a snapshot, which
    /// reads old entries again, must not bring them back. What such an entry may have meant besides
    /// is in the keys, or was returned by [`PendingOutbox::take`] when it was new.
    pub(super) fn take_valid(&mut self) -> Vec<Event> {
        let mut unrevoked = HashSet::new();
        let mut found = mem::take(&mut self.found);
        found.retain(|event| {
            if !event.revokes() {
                unrevoked.insert(event.entry());
            }
            event.revokes() && !unrevoked.contains(&event.entry())
        });
        found
    }

    /// As if `events` had been read.
    #[cfg(test)]
    pub(crate) fn pretend(&mut self, events: impl Iterator<Item = Event>) {
        self.found.extend(events);
    }

    /// Reads new entries. What was read before an error is kept, and the next reading continues
    /// there.
    pub(super) async fn read(&mut self, keys: &Keys, from: &impl Ask) -> Result<(), StoreError> {
        let now = Instant::now();
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("LLEN").arg(&keys.outbox);
        commands.cmd("LRANGE").arg(&keys.outbox).arg(0).arg(HEAD - 1);
        let (length, head) = from.ask(&commands).await?;
        self.see_head(length, head, now);
        while let Some(start) = self.unread {
            let mut commands = Pipeline::with_capacity(1);
            commands.cmd("LRANGE").arg(&keys.outbox).arg(start).arg(start + PAGE - 1);
            let (page,): (Vec<Vec<u8>>,) = from.ask(&commands).await?;
            self.find(page.iter());
            self.unread = (page.len() == PAGE).then_some(start + PAGE);
        }
        Ok(())
    }

    fn see_head(&mut self, length: usize, head: Vec<Vec<u8>>, now: Instant) {
        if self.read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) > MEMORY) {
            self.head.clear();
        }
        if head.len() >= length {
            // The head is the whole list.
            self.unread = None;
            let known = mem::take(&mut self.head);
            self.find(head.iter().filter(|entry| !known.contains(entry)));
        } else if let Some(new) = self.new_at(length, &head) {
            // Unread entries moved away from the head by the number of new ones.
            self.unread = self.unread.map(|start| start + new);
            self.find(head.iter().take(new));
        } else {
            self.unread = Some(head.len());
            self.find(head.iter());
        }
        (self.length, self.head, self.read_at) = (length, head, Some(now));
    }

    /// How many entries are in front of those that were at the head last time; `None` if these are
    /// not found.
    fn new_at(&self, length: usize, head: &[Vec<u8>]) -> Option<usize> {
        let landmark = self.head.len().min(LANDMARK);
        let at_least = length.saturating_sub(self.length);
        let at_most = head.len().checked_sub(landmark).filter(|_| landmark > 0)?;
        (at_least..=at_most).find(|new| {
            let mut rest = head.iter().skip(*new).zip(&self.head);
            rest.all(|(one, other)| one == other)
        })
    }

    fn find<'a>(&mut self, entries: impl Iterator<Item = &'a Vec<u8>>) {
        // Malformed entries are handled by the relay.
        self.found.extend(entries.filter_map(|entry| Event::parse(entry).ok()));
    }
}

impl fmt::Debug for PendingOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOutbox").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
