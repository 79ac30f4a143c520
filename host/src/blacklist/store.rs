//! Owns the set of revoked tokens, split into its one [`Writer`] and its lock-free reader
//! [`Blacklist`].
//!
//! Reading takes no lock, does no I/O and changes nothing. Writing only extends: an event can make
//! an entry last longer, never shorter, so duplicates, replays and reordering cannot un-revoke a
//! token. Entries leave by expiry ([`Writer::sweep`]), by an explicit removal, or because a table that
//! was read completely no longer has them ([`Writer::end_reading`]). A token that the store has named
//! without an expiry is revoked for the longest life of a token, until the store has said for how long
//! ([`Writer::hold`], [`Writer::settle`]).
//!
//! The set says until when it may be believed. Its source proves again and again that it is current,
//! and moves a lease forward ([`Writer::renew`]); readers compare the end of the lease with the boot
//! clock. So a replica that was stopped, starved or suspended does not believe its own set,
//! whatever its other tasks are doing. The set begins as not current, and it ends so if its writer
//! is dropped without [`Writer::retire`], as when the writer's task panics.

mod generation;
mod term;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use papaya::HashMap;

pub(super) use self::generation::Generation;
use self::{
    generation::Generations,
    term::{Reach, Term},
};
use super::{
    cutoff::{Cutoff, CutoffKind},
    event::Event,
    extent::Extent,
    key::{BuildKeyHasher, Key},
};
use crate::{boot_clock::BootInstant, timestamp::Timestamp, token_id::TokenId};

/// Makes an empty blacklist that is believed without a lease. `margin` is how long an entry outlives
/// its token.
#[must_use]
pub fn pair(margin: Duration) -> (Writer, Blacklist) {
    let terms = LeaseTerms {
        lapsed: Reliance::None,
        expired: Reliance::None,
        max_staleness: Duration::MAX,
    };
    let (writer, blacklist) = leased_pair(margin, terms);
    writer.renew(BootInstant::NEVER);
    (writer, blacklist)
}

/// Makes an empty blacklist whose lease has lapsed.
#[must_use]
pub fn leased_pair(margin: Duration, terms: LeaseTerms) -> (Writer, Blacklist) {
    let store = Arc::new(Store {
        tokens: HashMap::with_hasher(BuildKeyHasher::default()),
        cutoffs: HashMap::with_hasher(BuildKeyHasher::default()),
        cutoff_kinds: AtomicU8::new(0),
        reliance: AtomicU8::new(Reliance::None as u8),
        lease_end: AtomicU64::new(BootInstant::START.as_millis()),
        terms,
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

/// What it means that a token is not in the set, from the most trusted set to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reliance {
    /// The token is not revoked.
    Final,
    /// The store has to be asked. If it does not answer, the token counts as not revoked.
    AskOrServe,
    /// The store has to be asked. If it does not answer, the request is denied.
    AskOrDeny,
    /// Nothing: no complete snapshot has been applied yet, or the set has been out of date for too
    /// long.
    None,
}

/// What the set is worth at the most once its lease has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// From the end of the lease on.
    pub lapsed: Reliance,
    /// From `max_staleness` after that end on.
    pub expired: Reliance,
    /// How long the set serves on without a lease.
    pub max_staleness: Duration,
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

/// Entries that have expired and have yet to be removed.
#[derive(Debug, Default)]
pub(super) struct Expired {
    tokens: Vec<Key>,
    cutoffs: Vec<Cutoff>,
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
    /// Until when the reliance holds as it is, on the boot clock, in milliseconds.
    lease_end: AtomicU64,
    terms: LeaseTerms,
}

// === impl Blacklist ===

impl Blacklist {
    /// What the set says of `token` at the time `now`.
    #[must_use]
    pub fn find(&self, token: &Presented<'_>, now: Timestamp) -> Found {
        let revoked = self.is_blacklisted(token, now);
        // The clock is read last: a thread that stood still before this must notice.
        match self.store.reliance() {
            Reliance::None => Found::Unreliable,
            _ if revoked => Found::Revoked,
            Reliance::Final => Found::Clear,
            Reliance::AskOrServe => Found::Unknown { or_deny: false },
            Reliance::AskOrDeny => Found::Unknown { or_deny: true },
        }
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
        self.store.reliance() == Reliance::None
    }

    /// Until when the token with this id is revoked by its id, [`Timestamp::MAX`] being for ever, or
    /// as long as nobody has said it. It may be in the past.
    #[must_use]
    pub fn until(&self, token_id: &TokenId) -> Option<Timestamp> {
        self.term(token_id).map(Term::end)
    }

    /// Whether the set has an entry for the token with this id.
    pub(super) fn holds(&self, token_id: &TokenId) -> bool {
        self.term(token_id).is_some()
    }

    /// Whether the store has to be asked how long the token with this id is revoked: the set does not
    /// know, or takes it for over.
    pub(super) fn lacks_expiry(&self, token_id: &TokenId, now: Timestamp) -> bool {
        self.term(token_id).is_none_or(|term| term.lacks_expiry() || !term.lasts(now))
    }

    /// What has expired by `now`, and what was missing when the table was last read completely. Takes
    /// time in proportion to the size of the set, and holds up neither readers nor the writer.
    pub(super) fn expired(&self, now: Timestamp, complete: Generation) -> Expired {
        let tokens = self.store.tokens.pin();
        let cutoffs = self.store.cutoffs.pin();
        Expired {
            tokens: tokens
                .iter()
                .filter(|(_, term)| term.is_over(now, complete))
                .map(|(key, _)| *key)
                .collect(),
            cutoffs: cutoffs
                .iter()
                .filter(|(_, reach)| !reach.lasts(now))
                .map(|(cutoff, _)| *cutoff)
                .collect(),
        }
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

// === impl Expired ===

impl Expired {
    pub(super) const fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.cutoffs.is_empty()
    }
}

// === impl Store ===

impl Store {
    /// What the set is worth now.
    fn reliance(&self) -> Reliance {
        let set = match self.reliance.load(Ordering::Acquire) {
            0 => Reliance::Final,
            1 => Reliance::AskOrServe,
            2 => Reliance::AskOrDeny,
            _ => return Reliance::None,
        };
        let end = BootInstant::from_millis(self.lease_end.load(Ordering::Acquire));
        let now = BootInstant::now();
        if now < end {
            return set;
        }
        let LeaseTerms { lapsed, expired, max_staleness } = self.terms;
        set.max(if now < end.plus(max_staleness) { lapsed } else { expired })
    }
}

// === impl Writer ===

impl Writer {
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
    pub(super) const fn take_complete(&mut self) -> Generation {
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
    pub(super) fn remove_expired(
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
