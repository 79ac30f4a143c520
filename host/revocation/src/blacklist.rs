//! The in-memory set of revoked tokens: one [`BlacklistWriter`] and the lock-free reader
//! [`Blacklist`].
//!
//! Reading takes no lock, does no I/O and changes nothing. Writing only extends: an event can make
//! an entry last longer, never shorter, so duplicates, replays and reordering cannot un-revoke a
//! token. Entries leave by expiry, by an un-revocation, or because a complete reading of the table
//! no longer has them ([`BlacklistWriter::end_reading`]). A token whose id the store has returned
//! without an expiry is revoked for the longest life of a token, until the store has returned the
//! expiry ([`BlacklistWriter::hold`], [`BlacklistWriter::set_expiry`]).
//!
//! What the feed says of the set ([`Reliance`]) holds while the lease lasts. The source extends the
//! lease ([`BlacklistWriter::renew`]); readers compare the end of the lease with the boot clock. So a replica that was stopped, starved or suspended does not trust its own set,
//! whatever its other tasks are doing. The set begins as not current, and it ends so if its writer
//! is dropped without [`BlacklistWriter::retire`], as when the writer's task panics.

mod entry;
mod generation;
mod key_hasher;
pub(crate) mod lease;
mod token_key;
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
use portcullis_runtime::boot_clock::BootInstant;
use portcullis_types::{timestamp::Timestamp, token_id::TokenId};

pub(crate) use self::generation::Generation;
pub use self::writer::BlacklistWriter;
use self::{
    entry::{CutoffEntry, TokenEntry},
    key_hasher::BuildKeyHasher,
    token_key::TokenKey,
};
use crate::{
    ambient,
    event::{Cutoff, CutoffKind, PresentedToken},
};

/// Makes an empty blacklist that is trusted without a lease. `margin` is how long an entry outlives
/// its token.
#[must_use]
pub fn pair(margin: Duration) -> (BlacklistWriter, Blacklist) {
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
pub fn leased_pair(margin: Duration, terms: LeaseTerms) -> (BlacklistWriter, Blacklist) {
    let shared = Arc::new(Shared {
        tokens: HashMap::with_hasher(BuildKeyHasher::default()),
        cutoffs: HashMap::with_hasher(BuildKeyHasher::default()),
        cutoff_kinds: AtomicU8::new(0),
        reliance: AtomicU8::new(Reliance::None as u8),
        lease_end: AtomicU64::new(BootInstant::START.as_millis()),
        terms,
    });
    let blacklist = Blacklist { shared: Arc::clone(&shared) };
    (BlacklistWriter::new(shared, margin), blacklist)
}

/// The blacklist as the authorizer sees it. Clones show the same set.
#[derive(Clone)]
pub struct Blacklist {
    shared: Arc<Shared>,
}

/// The effect of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It made a new entry.
    Added,
    /// It made an entry last longer or reach further.
    Extended,
    /// It changed nothing.
    Unchanged,
    /// It removed an entry.
    Removed,
    /// It would have removed an entry that does not exist.
    Absent,
}

/// What it means that a token is not in the set, from the most trusted set to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reliance {
    /// The token is not revoked.
    Final,
    /// The store has to be queried. If it does not answer, the token counts as not revoked.
    AskOrServe,
    /// The store has to be queried. If it does not answer, the request is denied.
    AskOrDeny,
    /// Nothing: no complete snapshot has been applied yet, or the set has been out of date for too
    /// long.
    None,
}

/// The highest reliance of the set once its lease has lapsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// After the end of the lease.
    pub lapsed: Reliance,
    /// From `max_staleness` after the end of the lease.
    pub expired: Reliance,
    /// How long the set goes on serving without a lease.
    pub max_staleness: Duration,
}

/// The result of a search for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is revoked.
    Revoked,
    /// It is not revoked.
    Clear,
    /// The store has to be queried.
    Unknown {
        /// Deny if the store does not answer.
        or_deny: bool,
    },
    /// Nothing: the set must not be relied upon. The answer to the request is
    /// [`Reason::NotReady`](portcullis_types::decision::Reason::NotReady).
    Unreliable,
}

/// Entries that have expired and have yet to be removed.
#[derive(Debug, Default)]
pub(crate) struct Expired {
    tokens: Vec<TokenKey>,
    cutoffs: Vec<Cutoff>,
}

/// State shared by the writer and the readers.
struct Shared {
    tokens: HashMap<TokenKey, TokenEntry, BuildKeyHasher>,
    cutoffs: HashMap<Cutoff, CutoffEntry, BuildKeyHasher>,
    /// One bit for each kind of cut-off that there is, by [`CutoffKind::index`], so that a reader
    /// computes no digest that it does not need.
    cutoff_kinds: AtomicU8,
    /// A [`Reliance`].
    reliance: AtomicU8,
    /// The end of the lease on the boot clock, in milliseconds.
    lease_end: AtomicU64,
    terms: LeaseTerms,
}

// === impl Blacklist ===

impl Blacklist {
    /// Looks for `token` at the time `now`.
    #[must_use]
    pub fn find(&self, token: &PresentedToken<'_>, now: Timestamp) -> Found {
        self.shared.find(|| self.is_blacklisted(token, now))
    }

    /// Whether `token` is revoked at the time `now`: by its id, or by a cut-off of its subject, its
    /// session or its issuer. Meaningless while [`Blacklist::find`] returns [`Found::Unreliable`].
    #[must_use]
    pub fn is_blacklisted(&self, token: &PresentedToken<'_>, now: Timestamp) -> bool {
        token.token_id.is_some_and(|token_id| self.holds(token_id, now))
            || self.is_cut_off(token, now)
    }

    /// Whether the set must not be relied upon.
    #[cfg(test)]
    pub(crate) fn is_expired(&self) -> bool {
        self.shared.reliance() == Reliance::None
    }

    /// Until when the token with this id is revoked by its id. [`Timestamp::MAX`] means for ever.
    /// It may be in the past.
    #[must_use]
    pub fn until(&self, token_id: &TokenId) -> Option<Timestamp> {
        self.entry(token_id).map(TokenEntry::end)
    }

    /// Whether the token with this id is revoked at `now`.
    pub(crate) fn holds(&self, token_id: &TokenId, now: Timestamp) -> bool {
        self.entry(token_id).is_some_and(|entry| entry.lasts(now))
    }

    /// Whether the store has to be queried for the expiry of the token with this id: the set does
    /// not know it, or it has passed.
    pub(crate) fn lacks_expiry(&self, token_id: &TokenId, now: Timestamp) -> bool {
        self.entry(token_id).is_none_or(|entry| entry.lacks_expiry() || !entry.lasts(now))
    }

    /// The entries that have expired by `now`, and those that the last complete reading of the
    /// table did not contain. Takes time in proportion to the size of the set, and blocks neither
    /// readers nor the writer.
    pub(crate) fn expired(&self, now: Timestamp, complete: Generation) -> Expired {
        let tokens = self.shared.tokens.pin();
        let cutoffs = self.shared.cutoffs.pin();
        Expired {
            tokens: tokens
                .iter()
                .filter(|(_, entry)| entry.is_over(now, complete))
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
        self.shared.tokens.len()
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.cutoffs() == 0
    }

    /// How many cut-offs the set holds, expired ones included until they are swept.
    #[must_use]
    pub fn cutoffs(&self) -> usize {
        self.shared.cutoffs.len()
    }

    fn entry(&self, token_id: &TokenId) -> Option<TokenEntry> {
        self.shared.tokens.pin().get(&TokenKey::from(*token_id)).copied()
    }

    fn is_cut_off(&self, token: &PresentedToken<'_>, now: Timestamp) -> bool {
        let kinds = self.shared.cutoff_kinds.load(Ordering::Acquire);
        if kinds == 0 {
            return false;
        }
        CutoffKind::ALL.into_iter().filter(|kind| kinds & kind.bit() != 0).any(|kind| {
            let Some(cutoff) = token.cutoff(kind) else { return false };
            let cutoffs = self.shared.cutoffs.pin();
            cutoffs.get(&cutoff).is_some_and(|reach| reach.covers(token, now))
        })
    }
}

impl fmt::Debug for Blacklist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blacklist")
            .field("len", &self.len())
            .field("cutoffs", &self.cutoffs())
            .field("expired", &(self.shared.reliance() == Reliance::None))
            .finish()
    }
}

// === impl Expired ===

impl Expired {
    pub(crate) const fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.cutoffs.is_empty()
    }
}

// === impl Shared ===

impl Shared {
    /// The result of a search that says whether the set has the token.
    ///
    /// The set may become complete, and its lease be renewed, between the search and the look at the
    /// clock: so the reliance before it counts too. It counts once more after it, so that a thread that
    /// was paused in between notices.
    fn find(&self, is_revoked: impl FnOnce() -> bool) -> Found {
        let before = self.reliance();
        let is_revoked = is_revoked();
        match before.max(self.reliance()) {
            Reliance::None => Found::Unreliable,
            _ if is_revoked => Found::Revoked,
            Reliance::Final => Found::Clear,
            Reliance::AskOrServe => Found::Unknown { or_deny: false },
            Reliance::AskOrDeny => Found::Unknown { or_deny: true },
        }
    }

    /// The present reliance of the set.
    fn reliance(&self) -> Reliance {
        // The lease first: a reader that sees it renewed after a pause also sees the reliance that was set
        // before the renewal.
        let end = BootInstant::from_millis(self.lease_end.load(Ordering::Acquire));
        let set = match self.reliance.load(Ordering::Acquire) {
            0 => Reliance::Final,
            1 => Reliance::AskOrServe,
            2 => Reliance::AskOrDeny,
            _ => return Reliance::None,
        };
        let now = ambient::boot();
        if now < end {
            return set;
        }
        let LeaseTerms { lapsed, expired, max_staleness } = self.terms;
        set.max(if now < end.plus(max_staleness) { lapsed } else { expired })
    }
}

#[cfg(test)]
mod tests;
