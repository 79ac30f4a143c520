//! Token issuer of the benchmark: one RSA key, generated for each run, and its signed tokens.
//!
//! The private key stays in this process; only the public half is written to a file.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    error::Unspecified,
    rand::{SecureRandom as _, SystemRandom},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

/// Claim `iss`.
pub(crate) const ISSUER: &str = "https://login.shop.example";
/// Claim `aud`.
pub(crate) const AUDIENCE: &str = "shop-api";
/// Header parameter `kid`.
pub(crate) const KEY_ID: &str = "bench-2026";

/// Signs tokens with RS256.
pub(crate) struct Issuer {
    key: KeyPair,
    random: SystemRandom,
}

/// A token could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} with the key of the benchmark: the cryptography library refused")]
pub(crate) struct IssueError {
    step: &'static str,
}

impl Issuer {
    /// Generates a 2048 bit key, as identity providers use.
    pub(crate) fn generate() -> Result<Self, IssueError> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(failed("begin"))?;
        Ok(Self { key, random: SystemRandom::new() })
    }

    /// The public key as PEM, for Portcullis' configuration.
    pub(crate) fn public_pem(&self) -> Result<String, IssueError> {
        let der: PublicKeyX509Der<'_> =
            self.key.public_key().as_der().map_err(failed("export the public half"))?;
        let base64 = STANDARD.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END PUBLIC KEY-----\n");
        Ok(pem)
    }

    /// A random secret.
    pub(crate) fn secret(&self) -> Result<String, IssueError> {
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes).map_err(failed("make a secret"))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// A token that is valid for a day, as an identity provider would issue it.
    pub(crate) fn token(&self, subject: &str, token_id: &str) -> Result<String, IssueError> {
        let now = Timestamp::now();
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID});
        let claims = json!({
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "jti": token_id,
            "iat": now.as_second(),
            "exp": (now + 24.hours()).as_second(),
            "type": "access",
            "provider": "google",
            "scope": "openid profile orders:read orders:write",
        });
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature)
            .map_err(failed("sign"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

fn failed(step: &'static str) -> impl Fn(Unspecified) -> IssueError {
    move |Unspecified| IssueError { step }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn a_token_verifies_with_the_exported_key() {
        let issuer = Issuer::generate().unwrap();
        let token = issuer.token("alice", "some-id").unwrap();
        let key = DecodingKey::from_rsa_pem(issuer.public_pem().unwrap().as_bytes()).unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        let token = decode::<serde_json::Value>(token.as_str(), &key, &validation).unwrap();
        assert_eq!(token.header.kid.as_deref(), Some(KEY_ID));
        assert_eq!(token.claims["sub"], "alice");
        assert_eq!(token.claims["jti"], "some-id");
    }
}
