//! Digest keys: half of a SHA-256 digest, in the place of a name.
//!
//! The name itself is not kept, so it cannot end up in a log, and all keys have the same size.

use std::hash::{Hash, Hasher};

use aws_lc_rs::digest::Digest;

/// The first half of a SHA-256 digest.
///
/// Finding a name that collides with a given one takes 2^128 attempts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestKey([u8; 16]);

// === impl DigestKey ===

impl DigestKey {
    /// The key as bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<Digest> for DigestKey {
    fn from(digest: Digest) -> Self {
        let mut key = [0; 16];
        for (byte, hashed) in key.iter_mut().zip(digest.as_ref()) {
            *byte = *hashed;
        }
        Self(key)
    }
}

impl Hash for DigestKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a digest are a good hash, and cost nothing.
        if let Some(number) = self.0.first_chunk() {
            state.write_u64(u64::from_le_bytes(*number));
        }
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // With a known name, the digest could be found in the logs.
        f.write_str("[redacted]")
    }
}
