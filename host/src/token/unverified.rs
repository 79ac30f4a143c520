//! Owns what a token says of itself without anybody having looked at its signature: enough to revoke
//! it, and nothing that a decision may rest on.
//!
//! Whoever revokes by a forged token revokes what they could have named without it.

use std::fmt;

use super::{claims, parse, verify_error::VerifyError};
use crate::timestamp::Timestamp;

/// What a token says of itself. `Debug` shows nothing of it.
pub struct UnverifiedToken {
    /// `jti`, which every token must have that is to be revoked by its id.
    pub jti: String,
    /// `iss`.
    pub issuer: Option<String>,
    /// `sub`.
    pub subject: Option<String>,
    /// `exp`.
    pub expires_at: Option<Timestamp>,
}

impl UnverifiedToken {
    /// Reads a signed JWT in compact form.
    ///
    /// # Errors
    /// When it is none, or has no `jti`.
    pub fn read(token: &str) -> Result<Self, VerifyError> {
        let claims = parse::split(token)?.claims;
        let text = |name| claims::text(&claims, name).map(|text| text.map(str::to_owned));
        Ok(Self {
            jti: text("jti")?.ok_or_else(|| VerifyError::MissingClaim("jti".into()))?,
            issuer: text("iss")?,
            subject: text("sub")?,
            expires_at: claims::time(&claims, "exp")?,
        })
    }
}

impl fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;

    fn read(claims: &Value) -> Result<UnverifiedToken, VerifyError> {
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = json!({"alg": "HS256"}).to_string();
        let token =
            format!("{}.{}.{}", part(header), part(claims.to_string()), part("forged".into()));
        UnverifiedToken::read(&token)
    }

    #[test]
    fn a_forged_token_says_what_it_says() {
        let token = read(&json!({"jti": "j", "iss": "i", "sub": "s", "exp": 20})).unwrap();
        assert_eq!(token.jti, "j");
        assert_eq!((token.issuer.as_deref(), token.subject.as_deref()), (Some("i"), Some("s")));
        assert_eq!(token.expires_at, Some(Timestamp::from_secs(20)));
        assert!(read(&json!({"jti": "j"})).unwrap().expires_at.is_none());
    }

    #[test]
    fn a_token_without_a_proper_id_or_expiry_is_refused() {
        for claims in [json!({"sub": "s"}), json!({"jti": ""}), json!({"jti": "j", "exp": "soon"})]
        {
            assert!(read(&claims).is_err(), "{claims}");
        }
        assert!(UnverifiedToken::read("no token").is_err());
    }
}
