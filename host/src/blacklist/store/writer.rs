//! The writer of the set: all changes are made through it.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Applied, Blacklist, Expired, Reliance, Store,
    generation::{Generation, Generations},
    term::{Reach, Term},
};
use crate::{
    blacklist::{
        cutoff::{Cutoff, CutoffKind},
        event::Event,
        extent::Extent,
        key::Key,
    },
    boot_clock::BootInstant,
    timestamp::Timestamp,
    token_id::TokenId,
};

/// Changes the blacklist. There is one.
pub struct Writer {
    store: Arc<Store>,
    margin: Duration,
    /// How many cut-offs of each kind there are, by [`CutoffKind::index`].
    cutoffs_by_kind: [usize; 5],
    generations: Generations,
    retired: bool,
}
// === impl Writer ===

impl Writer {
    pub(super) fn new(store: Arc<Store>, margin: Duration) -> Self {
        let generations = Generations::default();
        Self { store, margin, cutoffs_by_kind: [0; 5], generations, retired: false }
    }

    /// Changes the set as `event` says. Readers that start after the return see the change.
    pub fn apply(&mut self, event: Event) -> Applied {
        match event {
            Event::Add { token_id, expires_at } => self.add(token_id, expires_at, Term::extend),
            Event::Remove { token_id } => {
                match self.store.tokens.pin().remove(&Key::from(token_id)) {
                    Some(_) => Applied::Removed,
                    None => Applied::Absent,
                }
            }
            Event::CutOff { cutoff, issued_before, except, expires_at } => {
                let extent = Extent::new(issued_before, except);
                self.cut_off(cutoff, Reach { extent, until: self.until(expires_at) })
            }
            Event::Lift { cutoff } => {
                let lifted = self.store.cutoffs.pin().remove(&cutoff).is_some();
                if lifted {
                    self.count(cutoff.kind(), |count| count.saturating_sub(1));
                }
                if lifted { Applied::Removed } else { Applied::Absent }
            }
        }
    }

    /// Revokes a token that the store names, until `until` or until [`Writer::settle`] says for how
    /// long. Changes nothing about one that is known.
    pub fn hold(&mut self, token_id: TokenId, until: Timestamp) {
        let tokens = self.store.tokens.pin();
        tokens.get_or_insert(Key::from(token_id), Term::held(until));
    }

    /// As [`Writer::apply`], for what the store says: it knows how long an entry lasts of which it has
    /// named the token only.
    pub fn settle(&mut self, event: Event) {
        let _ = match event {
            Event::Add { token_id, expires_at } => self.add(token_id, expires_at, Term::settle),
            _ => self.apply(event),
        };
    }

    /// A table is going to be read: what it holds is added from now on.
    pub fn begin_reading(&mut self) {
        self.generations.begin();
    }

    /// The table has been read completely, and all of it was added. Which token ids were not added
    /// since the reading began, by it or by an event, are no longer in the table: the next sweep
    /// removes them.
    pub fn end_reading(&mut self) {
        self.generations.end(self.len());
    }

    /// Whether a reading has left something to sweep.
    #[must_use]
    pub const fn owes_sweep(&self) -> bool {
        self.generations.owes_sweep()
    }

    /// The last complete reading, which is going to be swept now.
    pub(in crate::blacklist) const fn take_complete(&mut self) -> Generation {
        self.generations.take_complete()
    }

    /// Removes what has expired by `now`, and returns how many entries that were.
    pub fn sweep(&mut self, now: Timestamp) -> usize {
        let complete = self.generations.take_complete();
        let mut expired = Blacklist { store: Arc::clone(&self.store) }.expired(now, complete);
        self.remove_expired(&mut expired, usize::MAX, now)
    }

    /// Removes at most `count` of what has expired, unless it was extended meanwhile. Returns how many
    /// entries that were.
    pub(in crate::blacklist) fn remove_expired(
        &mut self,
        expired: &mut Expired,
        count: usize,
        now: Timestamp,
    ) -> usize {
        let tokens = self.store.tokens.pin();
        let from = expired.tokens.len().saturating_sub(count);
        let complete = self.generations.complete();
        let is_over = |key: &Key| tokens.get(key).is_some_and(|term| term.is_over(now, complete));
        let over = expired.tokens.drain(from..).filter(is_over);
        let mut removed = over.filter(|key| tokens.remove(key).is_some()).count();
        drop(tokens);
        // There are few of them.
        for cutoff in std::mem::take(&mut expired.cutoffs) {
            let is_over =
                self.store.cutoffs.pin().get(&cutoff).is_some_and(|reach| !reach.lasts(now));
            if is_over && self.apply(Event::Lift { cutoff }) == Applied::Removed {
                removed += 1;
            }
        }
        removed
    }

    /// How many token ids the set holds, expired ones included until they are swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.tokens.len()
    }

    /// Whether the set holds no token id.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves the lease: the set may be believed until `end`.
    pub fn renew(&self, end: BootInstant) {
        self.store.lease_end.store(end.as_millis(), Ordering::Release);
    }

    /// Tells readers what the set is worth while its lease lasts. It is worth nothing until this is
    /// first called.
    pub fn set_reliance(&mut self, reliance: Reliance) {
        let reliance = reliance as u8;
        // Writing only what changes leaves the readers' caches alone.
        if self.store.reliance.load(Ordering::Relaxed) != reliance {
            self.store.reliance.store(reliance, Ordering::Release);
        }
    }

    /// Ends writing in good order: what readers were told last stays valid, so that requests which
    /// are still in flight can be answered while the process stops.
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
        join: fn(Term, Timestamp) -> Term,
    ) -> Applied {
        let until = self.until(expires_at);
        let tokens = self.store.tokens.pin();
        let key = Key::from(token_id);
        // There is no other writer, so nothing can change between the reading and the writing.
        let Some(known) = tokens.get(&key).copied() else {
            tokens.insert(key, Term::new(until).seen_in(self.generations.see(None)));
            return Applied::Added;
        };
        let generation = self.generations.see(Some(known.generation()));
        let term = join(known, until).seen_in(generation);
        if term != known {
            tokens.insert(key, term);
        }
        if term.end() > known.end() { Applied::Extended } else { Applied::Unchanged }
    }

    fn cut_off(&mut self, cutoff: Cutoff, reach: Reach) -> Applied {
        let store = Arc::clone(&self.store);
        let cutoffs = store.cutoffs.pin();
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

    fn count(&mut self, kind: CutoffKind, change: impl FnOnce(usize) -> usize) {
        if let Some(count) = self.cutoffs_by_kind.get_mut(kind.index()) {
            *count = change(*count);
        }
        self.announce_kinds();
    }

    fn announce_kinds(&self) {
        let used = CutoffKind::ALL.iter().zip(self.cutoffs_by_kind).filter(|(_, count)| *count > 0);
        let kinds = used.fold(0, |kinds, (kind, _)| kinds | kind.bit());
        self.store.cutoff_kinds.store(kinds, Ordering::Release);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.retired {
            self.set_reliance(Reliance::None);
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("len", &self.len()).finish_non_exhaustive()
    }
}
