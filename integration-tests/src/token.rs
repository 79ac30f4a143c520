//! Token issuer of the tests: its keys, and claims that are valid unless a test changes them.

use std::{
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// Claim `iss` of the tokens.
pub const ISSUER: &str = "https://issuer.test";
/// Claim `aud` of the tokens.
pub const AUDIENCE: &str = "api";
/// Claim `sub` of the tokens.
pub const SUBJECT: &str = "5f0c8a54-4c5b-4f0e-9f3a-0d6f3a1f1c11";
/// Claim `provider` of the tokens.
pub const PROVIDER: &str = "google";
/// How long tokens live, in seconds.
const LIFETIME: i64 = 600;
/// The shared secret of the issuer. It guards nothing.
const SECRET: &[u8] = b"a secret of the tests, long enough for HS256";

/// The claims of a token to be.
#[derive(Debug, Clone)]
pub struct Claims(Map<String, Value>);

/// The issuer's RSA key, generated for each run: scanners would report a key in the repository.
struct RsaKey {
    private: EncodingKey,
    public_pem: String,
}

static RSA: LazyLock<RsaKey> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key can be generated");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a key can be written");
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("likewise");
    RsaKey {
        private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())
            .expect("a key that was just written can be read"),
        public_pem: pem("PUBLIC KEY", public.as_ref()),
    }
});

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Writes the issuer's keys into `folder` and returns the `issuers` section that names them.
#[must_use]
pub fn issuers(folder: &Path) -> Value {
    let put = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("the test's folder is writable");
        path
    };
    json!({
        "test": {
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "keys": [
                {"secret_file": put("issuer.secret", SECRET), "algorithm": "HS256"},
                {"pem_file": put("issuer.pem", RSA.public_pem.as_bytes()), "algorithm": "RS256"},
            ],
        },
    })
}

// === impl Claims ===

impl Default for Claims {
    /// Claims that the issuer would sign for a user who is logged in, with a unique token id.
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = jiff::Timestamp::now().as_second();
        let jti = format!("jti-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": SUBJECT, "jti": jti,
            "iat": now, "nbf": now, "exp": now + LIFETIME,
            "type": "access", "provider": PROVIDER, "scope": "read write",
        });
        match claims {
            Value::Object(claims) => Self(claims),
            _ => unreachable!("it is an object, as written above"),
        }
    }
}

impl Claims {
    /// The same claims with another value for one of them.
    #[must_use]
    pub fn with(mut self, claim: &str, value: impl Into<Value>) -> Self {
        self.0.insert(claim.to_owned(), value.into());
        self
    }

    /// The same claims without one of them.
    #[must_use]
    pub fn without(mut self, claim: &str) -> Self {
        self.0.remove(claim);
        self
    }

    /// Claims of a token that expired an hour ago.
    #[must_use]
    pub fn expired(self) -> Self {
        let then = jiff::Timestamp::now().as_second() - 3600;
        self.with("iat", then - LIFETIME).with("nbf", then - LIFETIME).with("exp", then)
    }

    /// The token id.
    ///
    /// # Panics
    /// When a test removed it.
    #[must_use]
    pub fn jti(&self) -> &str {
        self.0.get("jti").and_then(Value::as_str).expect("the claims have a token id")
    }

    /// The claims as they are signed.
    #[must_use]
    pub const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A token signed with the issuer's secret.
    #[must_use]
    pub fn hs256(&self) -> String {
        self.sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET))
    }

    /// A token signed with the issuer's secret, whose header has this `typ`.
    #[must_use]
    pub fn hs256_of_type(&self, kind: &str) -> String {
        let header = Header { typ: Some(kind.to_owned()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(SECRET);
        jsonwebtoken::encode(&header, &self.0, &key).expect("signing works")
    }

    /// A token signed with the issuer's RSA key.
    #[must_use]
    pub fn rs256(&self) -> String {
        self.sign(Algorithm::RS256, &RSA.private)
    }

    /// A token signed with `secret`, which is not the issuer's.
    #[must_use]
    pub fn forged(&self, secret: &[u8]) -> String {
        self.sign(Algorithm::HS256, &EncodingKey::from_secret(secret))
    }

    fn sign(&self, algorithm: Algorithm, key: &EncodingKey) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), &self.0, key).expect("signing works")
    }
}

/// A good token.
#[must_use]
pub fn good() -> String {
    Claims::default().hs256()
}
