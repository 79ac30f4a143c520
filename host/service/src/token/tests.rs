//! Tests of token verification from the outside: configuration and key files in, verdicts out.

mod attacks;
mod cache;
mod claims;
mod keys;
mod logout;
mod possession;
mod presets;
mod reload;
mod security_event;

use std::{path::PathBuf, sync::OnceLock, time::Duration};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use portcullis_types::timestamp::Timestamp;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::{
    Algorithm, IssuerPreset, IssuerSet, KeyReloader, TokenBuildError, TokensConfig, Verifier,
    build, warnings,
};

/// When every test takes place, in seconds.
const NOW_SECS: i64 = 1_700_000_000;
const NOW: Timestamp = Timestamp::from_secs(NOW_SECS);

/// A directory with key files.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Replaces a file as a careful tool does.
    fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.write(&format!("{name}.new"), content);
        std::fs::rename(path, self.path(name)).unwrap();
    }

    fn jwks(&self, name: &str, keys: &[Value]) -> Value {
        json!({ "jwks_file": self.write(name, json!({ "keys": keys }).to_string()) })
    }

    fn pem(&self, name: &str, signer: &Signer, algorithm: Algorithm) -> Value {
        json!({ "pem_file": self.write(name, signer.pem()), "algorithm": algorithm })
    }

    fn secret(&self, name: &str, secret: &[u8]) -> Value {
        json!({ "secret_file": self.write(name, secret), "algorithm": "HS256" })
    }
}

/// A key pair or secret that can sign.
enum Signer {
    Hmac(Vec<u8>),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    fn hmac() -> Self {
        Self::Hmac(b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef".to_vec())
    }

    /// One RSA key for all tests: making one takes long.
    fn rsa() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(Self::new_rsa)
    }

    fn new_rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())
    }

    fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(secret) => {
                let hash = match algorithm {
                    Algorithm::HS384 => hmac::HMAC_SHA384,
                    Algorithm::HS512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
            Self::Rsa(key) => {
                let encoding: &dyn RsaEncoding = match algorithm {
                    Algorithm::RS384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::RS512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::PS256 => &signature::RSA_PSS_SHA256,
                    Algorithm::PS384 => &signature::RSA_PSS_SHA384,
                    Algorithm::PS512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signed = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message, &mut signed).unwrap();
                signed
            }
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// `SubjectPublicKeyInfo`.
    fn der(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Hmac(_) => unreachable!("a secret has no public key"),
            Self::Rsa(key) => key.public_key().as_der().unwrap(),
            Self::P256(key) | Self::P384(key) => key.public_key().as_der().unwrap(),
            Self::Ed25519(key) => key.public_key().as_der().unwrap(),
        };
        der.as_ref().to_vec()
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &self.der())
    }

    /// The public key as a JWK, with more members.
    fn jwk(&self, more: Value) -> Value {
        let point = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": curve, "x": base64url(x), "y": base64url(y) })
        };
        let mut jwk = match self {
            Self::Hmac(secret) => json!({ "kty": "oct", "k": base64url(secret) }),
            Self::Rsa(key) => {
                let numbers = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
                json!({ "kty": "RSA", "n": base64url(&numbers.n), "e": base64url(&numbers.e) })
            }
            Self::P256(key) => point("P-256", key.public_key().as_ref()),
            Self::P384(key) => point("P-384", key.public_key().as_ref()),
            Self::Ed25519(key) => {
                let x = base64url(key.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
        };
        jwk.as_object_mut().unwrap().extend(members(more));
        jwk
    }

    fn token(&self, algorithm: Algorithm, claims: &Value) -> String {
        self.token_with_header(algorithm, &json!({ "typ": "JWT" }), claims)
    }

    /// A token whose header says `alg`, unless `header` says otherwise.
    fn token_with_header(&self, algorithm: Algorithm, header: &Value, claims: &Value) -> String {
        let mut full = json!({ "alg": algorithm });
        full.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        self.token_of(algorithm, &full.to_string(), &claims.to_string())
    }

    fn token_of(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url(header), base64url(claims));
        format!("{message}.{}", base64url(self.sign(algorithm, message.as_bytes())))
    }
}

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn members(object: Value) -> Map<String, Value> {
    let Value::Object(members) = object else { unreachable!("an object was expected") };
    members
}

/// Claims with which a token is good, unless `more` says otherwise. Null removes a claim.
fn claims(more: Value) -> Value {
    let mut claims = json!({ "sub": "u1", "jti": "t1", "iat": NOW_SECS, "exp": NOW_SECS + 60 });
    let object = claims.as_object_mut().unwrap();
    for (name, value) in members(more) {
        if value.is_null() {
            object.remove(&name);
        } else {
            object.insert(name, value);
        }
    }
    claims
}

/// Builds from `issuers` and the settings of `tokens` beside it.
fn try_build(config: Value) -> Result<(Verifier, KeyReloader), TokenBuildError> {
    let mut tokens = members(config);
    let issuers = tokens.remove("issuers").unwrap_or_else(|| json!({}));
    let tokens: TokensConfig = serde_json::from_value(Value::Object(tokens)).unwrap();
    build(&serde_json::from_value(issuers).unwrap(), &tokens, Duration::from_secs(5))
}

fn built(config: Value) -> (Verifier, KeyReloader) {
    try_build(config).unwrap()
}

/// A verifier with one issuer, and the set with that issuer.
struct Single {
    verifier: Verifier,
    reloader: KeyReloader,
    set: IssuerSet,
}

impl Single {
    /// With one shared secret, the one of [`Signer::hmac`].
    fn hmac(files: &Files, more: Value) -> Self {
        let Signer::Hmac(secret) = Signer::hmac() else { unreachable!() };
        Self::new(json!([files.secret("secret", &secret)]), more)
    }

    /// With these keys and further settings.
    fn new(keys: Value, more: Value) -> Self {
        let mut issuer = members(more);
        issuer.insert("keys".to_owned(), keys);
        let (verifier, reloader) = built(json!({ "issuers": { "main": issuer } }));
        let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
        Self { verifier, reloader, set }
    }

    /// What comes of the token now: `ok` or the error's code.
    fn verdict(&self, token: &str) -> &'static str {
        verdict(&self.verifier, &self.set, token)
    }
}

/// What comes of a well signed token with these claims.
fn verdict_with(settings: Value, more: Value) -> &'static str {
    let files = Files::new();
    let token = Signer::hmac().token(Algorithm::HS256, &claims(more));
    Single::hmac(&files, settings).verdict(&token)
}

fn verdict(verifier: &Verifier, set: &IssuerSet, token: &str) -> &'static str {
    verifier.verify(token, set, NOW).map_or_else(|error| error.code(), |_| "ok")
}

fn build_error(config: Value) -> String {
    try_build(config).unwrap_err().to_string()
}

/// The error that a single key leads to.
fn key_error(key: Value) -> String {
    let keys = Value::Array(vec![key]);
    build_error(json!({ "issuers": { "main": { "keys": keys } } }))
}
