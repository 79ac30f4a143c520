//! Batches of the relay: how many entries are published together, and the outcome of each.
//!
//! After a failure, the entries of the failed batch are sent one by one. So an entry that the
//! broker rejects blocks no other, and those before it are not published again and again. An entry
//! that is rejected twice while it is sent alone becomes a dead letter.
//!
//! Pure logic: it neither reads nor publishes.

use crate::{
    event::{Event, ParseEventError},
    redis::{Entry, Fate},
};

/// How many entries are published before they are removed.
pub(super) const BATCH: usize = 256;

/// Makes batches of the oldest entries of the outbox.
#[derive(Debug, Default)]
pub(super) struct RelayBatcher {
    /// How many of the oldest entries were in a batch that has not succeeded yet.
    suspects: usize,
    /// The entry that was rejected while it was sent alone.
    rejected: Option<Vec<u8>>,
}

// === impl RelayBatcher ===

impl RelayBatcher {
    /// How many entries the next batch may have.
    pub(super) const fn count(&self) -> usize {
        if self.suspects > 0 { 1 } else { BATCH }
    }

    /// A batch of the oldest entries. It counts as failed until [`RelayBatcher::removed`] is
    /// called.
    pub(super) fn begin(&mut self, entries: Vec<Vec<u8>>) -> Vec<Entry> {
        self.suspects = self.suspects.max(entries.len());
        entries.into_iter().map(|body| Entry { fate: fate(&body), body }).collect()
    }

    /// The entries that can leave the outbox: those before the first event that is not confirmed.
    /// `confirmed` is how many of the batch's events the broker has confirmed; `is_rejected` means
    /// that it does not accept the next one.
    pub(super) fn settle(
        &mut self,
        mut batch: Vec<Entry>,
        confirmed: usize,
        is_rejected: bool,
    ) -> Vec<Entry> {
        if let ([entry], true) = (batch.as_mut_slice(), is_rejected) {
            if self.rejected.as_ref() != Some(&entry.body) {
                self.rejected = Some(entry.body.clone());
                return Vec::new();
            }
            entry.fate = Fate::Rejected;
        }
        let mut events = 0;
        let settled = batch.iter().take_while(|entry| {
            events += usize::from(entry.fate == Fate::Relayed);
            events <= confirmed
        });
        let settled = settled.count();
        batch.truncate(settled);
        batch
    }

    /// `count` of the oldest entries have left the outbox.
    pub(super) fn removed(&mut self, count: usize) {
        self.suspects = self.suspects.saturating_sub(count);
        if count > 0 {
            self.rejected = None;
        }
    }
}

/// Whether this version knows the type of the event.
pub(super) fn is_known(body: &[u8]) -> bool {
    fate(body) != Fate::UnknownType
}

fn fate(body: &[u8]) -> Fate {
    match Event::parse(body) {
        Ok(_) => Fate::Relayed,
        Err(ParseEventError::UnknownType) => Fate::UnknownType,
        Err(_) => Fate::NoEvent,
    }
}

#[cfg(test)]
mod tests;
