//! Owns the set of revoked tokens, split into its one [`Writer`] and its lock-free reader
//! [`Blacklist`].
//!
//! Reading takes no lock, does no I/O and changes nothing. Writing only extends: an event can make
//! an entry last longer, never shorter, so duplicates, replays and reordering cannot un-revoke a
//! token. Entries leave by expiry ([`Writer::sweep`]), by an explicit removal, or because a table that
//! was read completely no longer has them ([`Writer::end_reading`]). Where it is known
//! that a token is revoked before it is known for how long, it is so for ever until the store has
//! said it ([`Writer::hold`], [`Writer::settle`]).
//!
//! A set that nobody keeps current must not be believed. It begins as not current, and it ends so
//! if its writer is dropped without [`Writer::retire`], as when the writer's task panics.

mod generation;
mod term;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use papaya::HashMap;

use self::{
    generation::Generations,
    term::{Reach, Term},
};
use super::{
    cutoff::{Cutoff, CutoffKind},
    event::Event,
    key::{BuildKeyHasher, Key},
};
use crate::{timestamp::Timestamp, token_id::TokenId};

/// Makes an empty blacklist. `margin` is how long an entry outlives its token.
#[must_use]
pub fn pair(margin: Duration) -> (Writer, Blacklist) {
    let store = Arc::new(Store {
        tokens: HashMap::with_hasher(BuildKeyHasher::default()),
        cutoffs: HashMap::with_hasher(BuildKeyHasher::default()),
        cutoff_kinds: AtomicU8::new(0),
        reliance: AtomicU8::new(Reliance::None as u8),
    });
    let blacklist = Blacklist { store: Arc::clone(&store) };
    let generations = Generations::default();
    (Writer { store, margin, cutoffs_by_kind: [0; 5], generations, retired: false }, blacklist)
}

/// The one hand that changes the blacklist.
pub struct Writer {
    store: Arc<Store>,
    margin: Duration,
    /// How many cut-offs of each kind there are, by [`CutoffKind::index`].
    cutoffs_by_kind: [usize; 5],
    generations: Generations,
    retired: bool,
}

/// The blacklist as the authorizer sees it. Clones show the same set.
#[derive(Clone)]
pub struct Blacklist {
    store: Arc<Store>,
}

/// What a token says of itself, as far as the blacklist is concerned.
#[derive(Clone, Copy, Default)]
pub struct Presented<'a> {
    /// Its id (`jti`). A token without one can be revoked by a cut-off only.
    pub token_id: Option<&'a TokenId>,
    /// The same as the store has it in its keys.
    pub jti: Option<&'a str>,
    /// Who issued it (`iss`).
    pub issuer: Option<&'a str>,
    /// Whom it is about (`sub`).
    pub subject: Option<&'a str>,
    /// Its session (`sid`).
    pub session_id: Option<&'a str>,
    /// When it was issued (`iat`). A token that does not say is as old as can be.
    pub issued_at: Option<Timestamp>,
}

/// What an event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It made a new entry.
    Added,
    /// It made an entry last longer or reach further.
    Extended,
    /// It said nothing new.
    Unchanged,
    /// It removed an entry.
    Removed,
    /// It would have removed an entry that is not there.
    Absent,
}

/// What it means that a token is not in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reliance {
    /// Nothing: no complete snapshot has been applied yet, or the set has been out of date for too
    /// long.
    None,
    /// The token is not revoked.
    Final,
    /// The store has to be asked. If it does not answer, the token counts as not revoked.
    AskOrServe,
    /// The store has to be asked. If it does not answer, the request is denied.
    AskOrDeny,
}

/// What the set says of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is revoked.
    Revoked,
    /// It is not revoked.
    Clear,
    /// The store has to be asked. Whether a store that does not answer means a deny.
    Unknown {
        /// Deny if the store does not answer.
        or_deny: bool,
    },
    /// Nothing: the set must not be relied upon.
    Unreliable,
}

/// What both sides share.
struct Store {
    tokens: HashMap<Key, Term, BuildKeyHasher>,
    cutoffs: HashMap<Cutoff, Reach, BuildKeyHasher>,
    /// One bit for each kind of cut-off that there is, by [`CutoffKind::index`], so that a reader
    /// computes no digest in vain.
    cutoff_kinds: AtomicU8,
    /// A [`Reliance`].
    reliance: AtomicU8,
}

// === impl Blacklist ===

impl Blacklist {
    /// What the set says of `token` at the time `now`.
    #[must_use]
    pub fn find(&self, token: &Presented<'_>, now: Timestamp) -> Found {
        let reliance = self.store.reliance.load(Ordering::Acquire);
        if reliance == Reliance::None as u8 {
            return Found::Unreliable;
        }
        if self.is_blacklisted(token, now) {
            return Found::Revoked;
        }
        if reliance == Reliance::Final as u8 {
            return Found::Clear;
        }
        Found::Unknown { or_deny: reliance != Reliance::AskOrServe as u8 }
    }

    /// Whether `token` is revoked at the time `now`: by its id, or by a cut-off of its subject, its
    /// session or its issuer. Says nothing of value while [`Blacklist::is_expired`].
    #[must_use]
    pub fn is_blacklisted(&self, token: &Presented<'_>, now: Timestamp) -> bool {
        let by_id = token.token_id.and_then(|token_id| self.term(token_id));
        by_id.is_some_and(|term| term.lasts(now)) || self.is_cut_off(token, now)
    }

    /// Whether the set must not be relied upon: no complete snapshot has been applied yet, or the
    /// set has been out of date for too long. The answer to a request is then
    /// [`Reason::NotReady`](crate::decision::Reason::NotReady).
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.store.reliance.load(Ordering::Acquire) == Reliance::None as u8
    }

    /// Until when the token with this id is revoked by its id, [`Timestamp::MAX`] being for ever, or
    /// as long as nobody has said it. It may be in the past.
    #[must_use]
    pub fn until(&self, token_id: &TokenId) -> Option<Timestamp> {
        self.term(token_id).map(Term::end)
    }

    /// How many token ids the set holds, expired ones included until they are swept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.tokens.len()
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.cutoffs() == 0
    }

    /// How many cut-offs the set holds, expired ones included until they are swept.
    #[must_use]
    pub fn cutoffs(&self) -> usize {
        self.store.cutoffs.len()
    }

    fn term(&self, token_id: &TokenId) -> Option<Term> {
        self.store.tokens.pin().get(&Key::from(*token_id)).copied()
    }

    fn is_cut_off(&self, token: &Presented<'_>, now: Timestamp) -> bool {
        let kinds = self.store.cutoff_kinds.load(Ordering::Acquire);
        if kinds == 0 {
            return false;
        }
        CutoffKind::ALL.into_iter().filter(|kind| kinds & kind.bit() != 0).any(|kind| {
            let Some(cutoff) = token.cutoff(kind) else { return false };
            let cutoffs = self.store.cutoffs.pin();
            cutoffs.get(&cutoff).is_some_and(|reach| reach.covers(token, now))
        })
    }
}

impl fmt::Debug for Blacklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blacklist")
            .field("len", &self.len())
            .field("cutoffs", &self.cutoffs())
            .field("expired", &self.is_expired())
            .finish()
    }
}

// === impl Writer ===

impl Writer {
    /// Changes the set as `event` says. Readers that start after the return see the change.
    pub fn apply(&mut self, event: Event) -> Applied {
        match event {
            Event::Add { token_id, expires_at } => self.add(token_id, expires_at, false),
            Event::Remove { token_id } => {
                match self.store.tokens.pin().remove(&Key::from(token_id)) {
                    Some(_) => Applied::Removed,
                    None => Applied::Absent,
                }
            }
            Event::CutOff { cutoff, issued_before, expires_at } => {
                self.cut_off(cutoff, Reach { issued_before, until: self.until(expires_at) })
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

    /// Revokes a token for ever, until [`Writer::settle`] says for how long.
    pub fn hold(&mut self, token_id: TokenId) {
        let tokens = self.store.tokens.pin();
        let key = Key::from(token_id);
        let held = Term::hold(tokens.get(&key).copied());
        tokens.insert(key, held);
    }

    /// As [`Writer::apply`], for what the store says: it is the one that knows how long an entry lasts
    /// which so far was only held.
    pub fn settle(&mut self, event: Event) {
        match event {
            Event::Add { token_id, expires_at } => drop(self.add(token_id, expires_at, true)),
            _ => drop(self.apply(event)),
        }
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

    /// Removes what has expired by `now` or is gone from the table, and returns how many entries that
    /// were. Takes time in proportion to the size of the set.
    pub fn sweep(&mut self, now: Timestamp) -> usize {
        let mut swept = 0;
        let generations = &self.generations;
        self.store.tokens.pin().retain(|_, term| {
            let keep = term.lasts(now) && !generations.is_missing(term.generation());
            swept += usize::from(!keep);
            keep
        });
        let mut kept_by_kind = [0; 5];
        self.store.cutoffs.pin().retain(|cutoff, reach| {
            let keep = reach.lasts(now);
            if let Some(kept) = kept_by_kind.get_mut(cutoff.kind().index()) {
                *kept += usize::from(keep);
            }
            swept += usize::from(!keep);
            keep
        });
        self.cutoffs_by_kind = kept_by_kind;
        self.announce_kinds();
        self.generations.swept();
        swept
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

    /// Tells readers what the set is worth. It is worth nothing until this is first called.
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

    fn add(&mut self, token_id: TokenId, expires_at: Option<Timestamp>, by_store: bool) -> Applied {
        let until = self.until(expires_at);
        let tokens = self.store.tokens.pin();
        let key = Key::from(token_id);
        // Nobody else writes, so nothing can change between the reading and the writing.
        let Some(known) = tokens.get(&key).copied() else {
            tokens.insert(key, Term::new(until).seen_in(self.generations.see(None)));
            return Applied::Added;
        };
        let generation = self.generations.see(Some(known.generation()));
        let term = known.extend(until, by_store).seen_in(generation);
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

// === impl Presented ===

impl Presented<'_> {
    /// Whether it was issued at `time` or before. Issuers write whole seconds, so "at the same
    /// time" has to count as before.
    pub(super) fn is_as_old_as(&self, time: Timestamp) -> bool {
        self.issued_at.is_none_or(|issued_at| issued_at <= time)
    }

    /// Every cut-off that would cover the token, were it in force.
    pub(super) fn cutoffs(&self) -> impl Iterator<Item = Cutoff> {
        CutoffKind::ALL.into_iter().filter_map(|kind| self.cutoff(kind))
    }

    /// The cut-off of this kind that would cover the token, if the token says enough.
    fn cutoff(&self, kind: CutoffKind) -> Option<Cutoff> {
        match kind {
            CutoffKind::Subject => Cutoff::subject(None, self.subject?),
            CutoffKind::SubjectOfIssuer => Cutoff::subject(Some(self.issuer?), self.subject?),
            CutoffKind::Session => Cutoff::session(None, self.session_id?),
            CutoffKind::SessionOfIssuer => Cutoff::session(Some(self.issuer?), self.session_id?),
            CutoffKind::Issuer => Cutoff::issuer(self.issuer?),
        }
        .ok()
    }
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whose token it is belongs into the decision log, not into debug output.
        f.debug_struct("Presented").field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
