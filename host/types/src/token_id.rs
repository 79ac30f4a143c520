//! Identity of a token for revocation: a digest of its id (`jti`).
//!
//! Both the side that reads tokens and the side that revokes them derive it here, so the two cannot
//! disagree. The id itself is not kept, so it cannot end up in a log.

use aws_lc_rs::digest::{SHA256, digest};

use crate::digest::DigestKey;

/// The identity of a token, derived from its id (`jti`, RFC 7519 section 4.1.7).
///
/// A collision gains an attacker nothing: it is the attacker's own token that counts as revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(DigestKey);

/// A token id is blank. Many issuers that leave it blank would share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token id is blank; give the `jti` of the token")]
pub struct EmptyTokenId;

impl TokenId {
    /// Derives the identity of the token whose id is `id`. Blanks around an id are part of it: two
    /// ids are the same only if they are the same text.
    ///
    /// # Errors
    /// When the id is empty or consists of white space.
    pub fn new(id: &str) -> Result<Self, EmptyTokenId> {
        if id.trim().is_empty() {
            return Err(EmptyTokenId);
        }
        Ok(Self(digest(&SHA256, id.as_bytes()).into()))
    }

    /// The first 16 bytes of the SHA-256 digest of the id.
    #[must_use]
    pub const fn key(self) -> [u8; 16] {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_first_half_of_the_digest() {
        // SHA-256("abc"), FIPS 180-2 appendix B.1.
        let key = TokenId::new("abc").unwrap().key();
        assert_eq!(u128::from_be_bytes(key), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
    }

    #[test]
    fn a_blank_id_identifies_nothing() {
        for blank in ["", " ", "\t\n", "\u{a0}"] {
            assert_eq!(TokenId::new(blank), Err(EmptyTokenId), "{blank:?}");
        }
    }

    #[test]
    fn different_texts_are_different_tokens() {
        assert_ne!(TokenId::new("a"), TokenId::new("a "));
        assert_ne!(TokenId::new("a"), TokenId::new("A"));
    }

    #[test]
    fn debug_shows_neither_the_id_nor_its_digest() {
        assert_eq!(format!("{:?}", TokenId::new("abc").unwrap()), "TokenId([redacted])");
    }
}
