//! Owns reading the list in which publishers leave events while the broker is away, without taking
//! anything from it: that is the relay's to do.
//!
//! Publishers push at the head, relays pop at the tail, and a relay that fails pushes back at the
//! head. So what is new stands before what stood at the head last time. Where that is not found for
//! certain, everything counts as new: reading an entry twice costs a little, missing one would let
//! a revoked token pass.

use std::{
    fmt, mem,
    time::{Duration, Instant},
};

use redis::Pipeline;

use super::{super::event::Event, ask::Ask, error::StoreError, keys::Keys};

/// What has been read of the list so far.
#[derive(Default)]
pub(in crate::blacklist) struct Parked {
    /// How long the list was.
    length: usize,
    /// The entries at its head.
    head: Vec<Vec<u8>>,
    /// From where on it has not been read, if reading stopped in the middle.
    unread: Option<usize>,
    /// When the head was read.
    read_at: Option<Instant>,
    /// What was read and not asked for yet.
    found: Vec<Event>,
}

/// How many entries at the head are read each time, and remembered.
const HEAD: usize = 64;

/// So many of them have to be found again.
const LANDMARK: usize = HEAD / 2;

/// After this long, a relay that keeps failing may have turned the list round so far that what stood
/// at the head does so again, with new entries behind it.
const MEMORY: Duration = Duration::from_secs(5);

/// How many entries are read at once where all are.
const PAGE: usize = 1_000;

// === impl Parked ===

impl Parked {
    /// What was read since the last call. Only events that revoke are heeded: a removal takes
    /// effect when the relay sends it, after everything that was parked before.
    pub(in crate::blacklist) fn take(&mut self) -> Vec<Event> {
        mem::take(&mut self.found)
    }

    /// As if `events` had been read.
    #[cfg(test)]
    pub(in crate::blacklist) fn pretend(&mut self, events: impl Iterator<Item = Event>) {
        self.found.extend(events);
    }

    /// Reads what is new. What was read before an error is kept, and reading goes on from there.
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
            self.see_page(start, &page);
        }
        Ok(())
    }

    fn see_head(&mut self, length: usize, head: Vec<Vec<u8>>, now: Instant) {
        if self.read_at.is_none_or(|read_at| now.saturating_duration_since(read_at) > MEMORY) {
            self.head.clear();
        }
        if head.len() >= length {
            // All there is.
            self.unread = None;
            let known = mem::take(&mut self.head);
            self.find(head.iter().filter(|entry| !known.contains(entry)));
        } else if let Some(new) = self.new_at(length, &head) {
            // Whatever was unread moved away from the head by as much as came before it.
            self.unread = self.unread.map(|start| start + new);
            self.find(head.iter().take(new));
        } else {
            self.unread = Some(head.len());
            self.find(head.iter());
        }
        (self.length, self.head, self.read_at) = (length, head, Some(now));
    }

    fn see_page(&mut self, start: usize, page: &[Vec<u8>]) {
        self.find(page.iter());
        self.unread = (page.len() == PAGE).then_some(start + PAGE);
    }

    /// How many entries stand before what stood at the head last time; `None` if it is not there.
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
        // Entries that are no events are the relay's to deal with.
        let events = entries.filter_map(|entry| Event::parse(entry).ok());
        self.found.extend(events.filter(Event::revokes));
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked").field("length", &self.length).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
