//! Keys of single tokens in the set: the first bytes of a digest.

use std::hash::{Hash, Hasher};

use portcullis_types::token_id::TokenId;

/// 80 bits of a SHA-256 digest. With a million entries, one token in 10^18 is mistaken for a
/// revoked one; and an attacker cannot make an issuer choose an id that collides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TokenKey([u8; 10]);

// === impl TokenKey ===

impl From<TokenId> for TokenKey {
    fn from(token_id: TokenId) -> Self {
        let [key @ .., _, _, _, _, _, _] = token_id.key();
        Self(key)
    }
}

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a digest are a good hash, and cost nothing.
        if let Some(number) = self.0.first_chunk() {
            state.write_u64(u64::from_le_bytes(*number));
        }
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey([redacted])")
    }
}
