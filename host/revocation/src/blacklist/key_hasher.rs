//! Hasher of the blacklist's maps: the bytes of a digest are used as the hash.

use std::hash::{BuildHasherDefault, Hasher};

/// Uses the number that a [`DigestKey`](portcullis_types::digest::DigestKey) writes as the hash.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct KeyHasher(u64);

/// Makes [`KeyHasher`]s.
pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

// === impl KeyHasher ===

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    /// Never called for a digest; kept correct for other keys.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
