//! Unverified token: its own claims, with the signature unchecked. That is enough to revoke it, and
//! nothing that a decision may rest on.
//!
//! A forged token revokes only what its author could have named without it.

use std::fmt;

use portcullis_types::timestamp::Timestamp;

use super::{claims, parse, verify_error::VerifyError};

/// Claims of a token, unchecked. `Debug` shows nothing of them.
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
    /// Reads a signed JWT in compact form, or the value of an `Authorization` header with one.
    ///
    /// # Errors
    /// When it is not a token, or longer than `max_bytes`, or has no `jti`.
    pub fn read(text: &str, max_bytes: usize) -> Result<Self, VerifyError> {
        let token = match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim_start(),
            _ => text,
        };
        let claims = parse::split(token, max_bytes)?.claims;
        let name = |claim| claims::name(&claims, claim).map(|name| name.map(str::to_owned));
        Ok(Self {
            jti: name("jti")?.ok_or_else(|| VerifyError::MissingClaim("jti".into()))?,
            issuer: claims::text(&claims, "iss")?.map(str::to_owned),
            subject: name("sub")?,
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

    const MAX_BYTES: usize = 1024;

    fn token(claims: &Value) -> String {
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = json!({"alg": "HS256"}).to_string();
        format!("{}.{}.{}", part(header), part(claims.to_string()), part("forged".into()))
    }

    fn read(claims: &Value) -> Result<UnverifiedToken, VerifyError> {
        UnverifiedToken::read(&token(claims), MAX_BYTES)
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
        assert!(UnverifiedToken::read("no token", MAX_BYTES).is_err());
        let long = token(&json!({"jti": "j".repeat(MAX_BYTES)}));
        assert_eq!(UnverifiedToken::read(&long, MAX_BYTES).unwrap_err().code(), "too_large");
    }

    #[test]
    fn the_scheme_of_a_copied_header_is_left_out() {
        let token = token(&json!({"jti": "j"}));
        for text in [token.clone(), format!("Bearer {token}"), format!("bearer  {token}")] {
            assert_eq!(UnverifiedToken::read(&text, MAX_BYTES).unwrap().jti, "j", "{text}");
        }
        assert!(UnverifiedToken::read(&format!("Basic {token}"), MAX_BYTES).is_err());
    }
}
