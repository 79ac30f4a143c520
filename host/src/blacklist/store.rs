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
mod presented;
mod term;
mod writer;

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
use self::term::{Reach, Term};
pub use self::{presented::Presented, writer::Writer};
use super::{
    cutoff::{Cutoff, CutoffKind},
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
    (Writer::new(store, margin), blacklist)
}

/// The blacklist as the authorizer sees it. Clones show the same set.
#[derive(Clone)]
pub struct Blacklist {
    store: Arc<Store>,
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

#[cfg(test)]
mod tests;
