//! Owns the keys of the blacklist's maps: digests, hashed by not hashing them again.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use aws_lc_rs::digest::Digest;

use crate::token_id::TokenId;

/// Half of a SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 16]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([redacted])")
    }
}

/// Takes the number that a [`Key`] writes as the hash.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct KeyHasher(u64);

/// Makes [`KeyHasher`]s.
pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

// === impl Key ===

impl Key {
    pub(super) fn from_digest(digest: &Digest) -> Self {
        let mut key = [0; 16];
        for (byte, hashed) in key.iter_mut().zip(digest.as_ref()) {
            *byte = *hashed;
        }
        Self(key)
    }

    pub(super) const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<TokenId> for Key {
    fn from(token_id: TokenId) -> Self {
        Self(token_id.key())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a digest are as good a hash as any, and cost nothing.
        if let Some(number) = self.0.first_chunk() {
            state.write_u64(u64::from_le_bytes(*number));
        }
    }
}

// === impl KeyHasher ===

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    /// Never called for a [`Key`]; kept correct for whatever else may be hashed one day.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
