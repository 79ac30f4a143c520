//! Token cache: the verified tokens, bounded in bytes.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use portcullis_types::timestamp::Timestamp;
use quick_cache::{Weighter, sync::Cache};

use super::claims::VerifiedToken;

/// What is reserved for each token that the capacity counts. A token of Keycloak with 40 roles needs
/// about as much; a larger one counts as several.
pub(super) const BYTES_PER_TOKEN: u64 = 1_200;

/// What an entry takes besides its token: the key and the pointer in the table with their links, the
/// counts of the shared pointer, and what the allocator and the growing table leave unused.
const ENTRY_OVERHEAD: usize = 160;

/// The verified tokens by everything on which their verdict depends, except for the time.
pub(super) struct Memory(Cache<TokenKey, Arc<VerifiedToken>, ByBytes>);

/// Everything on which the outcome depends, except for the time: the whole token, who may have
/// issued it, and their keys. With less, other implementations took one token for another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    token: [u8; 32],
    issuer_set: usize,
    generation: u64,
}

/// Lets large tokens count as several, so that the capacity bounds memory as well as number.
#[derive(Clone)]
struct ByBytes;

/// What a token occupies while it is remembered.
pub(super) fn bytes_of(token: &VerifiedToken) -> u64 {
    (token.bytes() + ENTRY_OVERHEAD) as u64
}

impl Weighter<TokenKey, Arc<VerifiedToken>> for ByBytes {
    fn weight(&self, _: &TokenKey, token: &Arc<VerifiedToken>) -> u64 {
        // The capacity bounds the number too.
        bytes_of(token).max(BYTES_PER_TOKEN)
    }
}

// === impl Memory ===

impl Memory {
    pub(super) fn new(capacity: usize) -> Self {
        let bytes = (capacity as u64).saturating_mul(BYTES_PER_TOKEN);
        Self(Cache::with_weighter(capacity, bytes, ByBytes))
    }

    pub(super) fn get(&self, key: &TokenKey) -> Option<Arc<VerifiedToken>> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: TokenKey, token: Arc<VerifiedToken>) {
        self.0.insert(key, token);
    }

    pub(super) fn clear(&self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What the capacity counts.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.0.weight()
    }

    /// Locks a part of the memory for one token at a time, so that no request waits for all of it.
    pub(super) fn forget_expired(&self, now: Timestamp) {
        for (key, _) in self.0.iter().filter(|(_, token)| token.has_expired(now)) {
            self.0.remove(&key);
        }
    }
}

// === impl TokenKey ===

impl TokenKey {
    pub(super) fn new(token: &str, issuer_set: usize, generation: u64) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self { token: hash, issuer_set, generation }
    }
}
