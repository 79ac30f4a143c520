//! The writer of the blacklist: all changes are made through it.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use papaya::Guard;
use portcullis_runtime::boot_clock::BootInstant;
use portcullis_types::{timestamp::Timestamp, token_id::TokenId};

use super::{
    Applied, Expired, Reliance, Shared,
    entry::{CutoffEntry, TokenEntry},
    generation::{Generation, Generations},
    token_key::TokenKey,
};
use crate::event::{Cutoff, CutoffKind, Event, extent::Extent};

/// Changes the blacklist. There is one.
pub struct BlacklistWriter {
    shared: Arc<Shared>,
    margin: Duration,
    /// How many cut-offs of each kind there are, by [`CutoffKind::index`].
    cutoffs_by_kind: [usize; CutoffKind::ALL.len()],
    generations: Generations,
    /// How many entries were made since garbage was last collected.
    grown: usize,
    retired: bool,
}

/// Garbage is collected when the set has grown by this part, and by at least so many entries.
const GROWN_PART: usize = 16;
const GROWN_LEAST: usize = 4_096;

// === impl BlacklistWriter ===

impl BlacklistWriter {
    pub(super) fn new(shared: Arc<Shared>, margin: Duration) -> Self {
        Self {
            shared,
            margin,
            cutoffs_by_kind: [0; CutoffKind::ALL.len()],
            generations: Generations::default(),
            grown: 0,
            retired: false,
        }
    }

    /// Applies `event`. Readers that start after the return see the change.
    pub fn apply(&mut self, event: Event) -> Applied {
        match event {
            Event::Add { token_id, expires_at } => {
                self.add(token_id, expires_at, TokenEntry::extend)
            }
            Event::Unrevoke { token_id } => {
                match self.shared.tokens.pin().remove(&TokenKey::from(token_id)) {
                    Some(_) => Applied::Removed,
                    None => Applied::Absent,
                }
            }
            Event::CutOff { cutoff, issued_before, except, expires_at } => {
                let extent = Extent::new(issued_before, except);
                self.cut_off(cutoff, CutoffEntry { extent, until: self.until(expires_at) })
            }
            Event::LiftCutoff { cutoff } => {
                let lifted = self.shared.cutoffs.pin().remove(&cutoff).is_some();
                if lifted {
                    self.count(cutoff.kind(), |count| count.saturating_sub(1));
                }
                if lifted { Applied::Removed } else { Applied::Absent }
            }
        }
    }

    /// Revokes a token of which the store has returned only the id, until `until` or until
    /// [`BlacklistWriter::set_expiry`] sets its expiry. A token that is revoked at `now` is not
    /// changed. An entry that has expired by then is replaced: its event may have had a wrong
    /// expiry.
    pub fn hold(&mut self, token_id: TokenId, until: Timestamp, now: Timestamp) {
        let tokens = self.shared.tokens.pin();
        let key = TokenKey::from(token_id);
        if tokens.get(&key).is_none_or(|known| !known.lasts(now)) {
            tokens.insert(key, TokenEntry::with_unknown_expiry(until));
            drop(tokens);
            self.collect_garbage();
        }
    }

    /// As [`BlacklistWriter::apply`], for an event read from the store: it may also shorten an
    /// entry whose expiry was unknown.
    pub fn set_expiry(&mut self, event: Event) {
        let _ = match event {
            Event::Add { token_id, expires_at } => {
                self.add(token_id, expires_at, TokenEntry::set_expiry)
            }
            _ => self.apply(event),
        };
    }

    /// A reading of the table begins: its rows are added from now on.
    pub fn begin_reading(&mut self) {
        self.generations.begin();
    }

    /// The table has been read completely, and all its rows were added. Token ids that were not
    /// added since the reading began, by it or by an event, are no longer in the table: the next
    /// sweep removes them.
    pub fn end_reading(&mut self) {
        self.generations.end(self.len());
    }

    /// The last complete reading, if it has left something to sweep, which is going to be done now.
    pub(crate) const fn take_complete(&mut self) -> Option<Generation> {
        self.generations.take_complete()
    }

    /// Removes the entries that have expired by `now` or were missing in the last complete reading,
    /// and returns how many they were.
    #[cfg(test)]
    pub(super) fn sweep(&mut self, now: Timestamp) -> usize {
        let complete = self.generations.complete();
        let mut expired =
            super::Blacklist { shared: Arc::clone(&self.shared) }.expired(now, complete);
        self.remove_expired(&mut expired, usize::MAX, now)
    }

    /// Removes at most `count` expired entries, unless they were extended meanwhile. Returns how
    /// many were removed.
    pub(crate) fn remove_expired(
        &mut self,
        expired: &mut Expired,
        count: usize,
        now: Timestamp,
    ) -> usize {
        let tokens = self.shared.tokens.pin();
        let from = expired.tokens.len().saturating_sub(count);
        let complete = self.generations.complete();
        let is_over =
            |key: &TokenKey| tokens.get(key).is_some_and(|entry| entry.is_over(now, complete));
        let over = expired.tokens.drain(from..).filter(is_over);
        let mut removed = over.filter(|key| tokens.remove(key).is_some()).count();
        drop(tokens);
        // There are few of them.
        for cutoff in std::mem::take(&mut expired.cutoffs) {
            let is_over =
                self.shared.cutoffs.pin().get(&cutoff).is_some_and(|reach| !reach.lasts(now));
            if is_over && self.apply(Event::LiftCutoff { cutoff }) == Applied::Removed {
                removed += 1;
            }
        }
        removed
    }

    /// How many token ids the set holds, expired ones included until they are swept.
    pub(crate) fn len(&self) -> usize {
        self.shared.tokens.len()
    }

    /// Extends the lease: readers may trust the set until `end`.
    pub fn renew(&self, end: BootInstant) {
        self.shared.lease_end.store(end.as_millis(), Ordering::Release);
    }

    /// Sets how far readers may rely on the set while its lease lasts. Until this is first called,
    /// they may not.
    pub fn set_reliance(&mut self, reliance: Reliance) {
        let reliance = reliance as u8;
        // Writing only what changes leaves the readers' caches alone.
        if self.shared.reliance.load(Ordering::Relaxed) != reliance {
            self.shared.reliance.store(reliance, Ordering::Release);
        }
    }

    /// Ends writing gracefully: the last reliance stays valid, so that requests in flight can still
    /// be answered while the process stops.
    pub fn retire(mut self) {
        self.retired = true;
    }

    fn until(&self, expires_at: Option<Timestamp>) -> Timestamp {
        expires_at.map_or(Timestamp::MAX, |expires_at| expires_at.plus(self.margin))
    }

    fn add(
        &mut self,
        token_id: TokenId,
        expires_at: Option<Timestamp>,
        join: fn(TokenEntry, Timestamp) -> TokenEntry,
    ) -> Applied {
        let until = self.until(expires_at);
        let tokens = self.shared.tokens.pin();
        let key = TokenKey::from(token_id);
        // There is no other writer, so nothing can change between read and write.
        let Some(known) = tokens.get(&key).copied() else {
            tokens.insert(key, TokenEntry::new(until).seen_in(self.generations.see(None)));
            drop(tokens);
            self.collect_garbage();
            return Applied::Added;
        };
        let generation = self.generations.see(Some(known.generation()));
        let entry = join(known, until).seen_in(generation);
        if entry != known {
            tokens.insert(key, entry);
        }
        if entry.end() > known.end() { Applied::Extended } else { Applied::Unchanged }
    }

    /// Frees hash tables that the set has outgrown. Their collector waits for 32 pieces of garbage,
    /// and a set that only grows makes one each time its size doubles: together they are as large
    /// as the table in use.
    fn collect_garbage(&mut self) {
        self.grown += 1;
        // The length is a sum over all processors, so it is not read for each entry of a small set.
        if self.grown >= GROWN_LEAST && self.grown >= self.len() / GROWN_PART {
            self.grown = 0;
            self.shared.tokens.guard().flush();
        }
    }

    fn cut_off(&mut self, cutoff: Cutoff, reach: CutoffEntry) -> Applied {
        let shared = Arc::clone(&self.shared);
        let cutoffs = shared.cutoffs.pin();
        let Some(known) = cutoffs.get(&cutoff) else {
            cutoffs.insert(cutoff, reach);
            self.count(cutoff.kind(), |count| count + 1);
            return Applied::Added;
        };
        let joined = known.join(reach);
        if joined == *known {
            return Applied::Unchanged;
        }
        cutoffs.insert(cutoff, joined);
        Applied::Extended
    }

    /// Counts the cut-offs of a kind, and tells readers which kinds there are.
    fn count(&mut self, kind: CutoffKind, change: impl FnOnce(usize) -> usize) {
        if let Some(count) = self.cutoffs_by_kind.get_mut(kind.index()) {
            *count = change(*count);
        }
        let used = CutoffKind::ALL.iter().zip(self.cutoffs_by_kind).filter(|(_, count)| *count > 0);
        let kinds = used.fold(0, |kinds, (kind, _)| kinds | kind.bit());
        self.shared.cutoff_kinds.store(kinds, Ordering::Release);
    }
}

impl Drop for BlacklistWriter {
    fn drop(&mut self) {
        if !self.retired {
            self.set_reliance(Reliance::None);
        }
    }
}

impl fmt::Debug for BlacklistWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlacklistWriter").field("len", &self.len()).finish_non_exhaustive()
    }
}
