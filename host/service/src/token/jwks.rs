//! JWK sets (RFC 7517): which of their keys can verify signatures, and with which algorithm each.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, ThumbprintHash},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    key::Key,
    key_fault::{JsonFault, KeyFault, LoadKeysError, MAX_KEYS},
};

/// The members of which no public key has one.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What some editors put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The members that are the key itself, all of them texts.
const KEY_MEMBERS: [&str; 6] = ["kty", "crv", "n", "e", "x", "y"];

#[derive(Deserialize)]
struct JwkSet {
    /// Each is read by itself, so that one odd key does not spoil the others.
    keys: Vec<Value>,
}

/// A public key that stands in the header of a proof, and the algorithm of the proof. Nothing is known of
/// it but that they suit each other.
pub(super) struct EmbeddedKey {
    jwk: Jwk,
    algorithm: Algorithm,
}

/// Reads the keys of a JWK set, which may be empty: an issuer that removes its last key publishes
/// an empty set, or one that holds only keys for something else. Keys that cannot be used are left
/// out with a warning.
///
/// # Errors
/// When the content is not a JWK set, or there is something wrong with each of its keys.
pub(super) fn keys(origin: &str, content: &[u8]) -> Result<Vec<Arc<Key>>, LoadKeysError> {
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let set: JwkSet = serde_json::from_slice(content).map_err(|error| {
        LoadKeysError::NotKeySet { origin: origin.to_owned(), fault: JsonFault::from(&error) }
    })?;
    let count = set.keys.len();
    if count > MAX_KEYS {
        return Err(LoadKeysError::TooMany { origin: origin.to_owned(), count });
    }
    let mut keys = Vec::new();
    let mut first_fault = None;
    for (index, value) in set.keys.iter().enumerate() {
        match key(value) {
            Ok(key) => keys.push(Arc::new(key)),
            Err(fault) => {
                tracing::warn!(%origin, index, %fault, "a key is left out");
                if fault != KeyFault::NotForVerifying {
                    first_fault.get_or_insert((index, fault));
                }
            }
        }
    }
    match first_fault {
        Some((index, fault)) if keys.is_empty() => {
            let first = format!("; the one at index {index}: {fault}");
            Err(LoadKeysError::NoUsableKey { origin: origin.to_owned(), count, first })
        }
        _ => Ok(keys),
    }
}

fn key(value: &Value) -> Result<Key, KeyFault> {
    let members = value.as_object().ok_or(KeyFault::Unsupported)?;
    // A private key is a leaked key: every reader of the file can sign.
    if members.contains_key("d") {
        return Err(KeyFault::PrivateKey);
    }
    let kid = match members.get("kid") {
        None | Some(Value::Null) => None,
        Some(Value::String(kid)) => Some(kid.clone()),
        Some(_) => return Err(KeyFault::KidNotText),
    };
    if !is_for_verifying(members) {
        return Err(KeyFault::NotForVerifying);
    }
    let jwk = only_key_members(members)?;
    let algorithm = pinned_algorithm(&jwk.algorithm, members.get("alg"))?;
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| KeyFault::NotSuchAKey)?;
    Key::public(kid, algorithm, decoding)
}

/// Reads the public key of a proof, which `algorithm` has signed (RFC 9449 section 4.2).
///
/// # Errors
/// When it has a private member, or is no key for `algorithm`.
pub(super) fn embedded(value: &Value, algorithm: Algorithm) -> Result<EmbeddedKey, KeyFault> {
    let members = value.as_object().ok_or(KeyFault::Unsupported)?;
    if PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return Err(KeyFault::PrivateKey);
    }
    let jwk = only_key_members(members)?;
    pinned_algorithm(&jwk.algorithm, Some(&Value::from(algorithm.name())))?;
    Ok(EmbeddedKey { jwk, algorithm })
}

// === impl EmbeddedKey ===

impl EmbeddedKey {
    /// Its thumbprint by SHA-256 (RFC 7638).
    pub(super) fn thumbprint(&self) -> Option<[u8; 32]> {
        let text = self.jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
    }

    /// The key itself, unless it is a weak one.
    pub(super) fn verifying_key(&self) -> Result<Key, KeyFault> {
        let decoding = DecodingKey::from_jwk(&self.jwk).map_err(|_| KeyFault::NotSuchAKey)?;
        Key::public(None, self.algorithm, decoding)
    }
}

/// The key without everything that says what it is for, which is read in here. Some writers pad
/// base64url, which RFC 7515 section 2 does not, and which changes nothing.
fn only_key_members(members: &Map<String, Value>) -> Result<Jwk, KeyFault> {
    let mut only = Map::new();
    if members.contains_key("k") {
        return Err(KeyFault::SecretInKeySet);
    }
    for name in KEY_MEMBERS {
        if let Some(value) = members.get(name) {
            let text = value.as_str().ok_or(KeyFault::Unsupported)?;
            only.insert(name.to_owned(), text.trim_end_matches('=').into());
        }
    }
    serde_json::from_value(Value::Object(only)).map_err(|_| KeyFault::Unsupported)
}

/// RFC 7517 sections 4.2 and 4.3. Values are compared as they are: `SIG` is not `sig`.
fn is_for_verifying(members: &Map<String, Value>) -> bool {
    let used = match members.get("use") {
        None | Some(Value::Null) => true,
        Some(value) => value == "sig",
    };
    let operations = match members.get("key_ops") {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.iter().any(|operation| operation == "verify"),
        Some(_) => false,
    };
    used && operations
}

/// The key's `alg`, which must suit its type, or the one that its type suggests.
fn pinned_algorithm(
    key: &AlgorithmParameters,
    named: Option<&Value>,
) -> Result<Algorithm, KeyFault> {
    use Algorithm::{ES256, ES384, EdDsa, PS256, PS384, PS512, RS256, RS384, RS512};
    // The first is the default.
    let suitable: &[Algorithm] = match key {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[ES256],
            EllipticCurve::P384 => &[ES384],
            _ => &[],
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[EdDsa],
        AlgorithmParameters::OctetKey(_) => return Err(KeyFault::SecretInKeySet),
        _ => &[],
    };
    let chosen = match named {
        None | Some(Value::Null) => suitable.first().copied(),
        Some(named) => named.as_str().and_then(Algorithm::from_name),
    };
    chosen.filter(|algorithm| suitable.contains(algorithm)).ok_or(KeyFault::Unsupported)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The error for a refused file. Each of these files has `hush` or 271828 in it.
    fn refusal(content: &str) -> String {
        let error = keys("/keys/jwks", content.as_bytes()).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hush") && !shown.contains("271828"), "{shown}");
        error.to_string()
    }

    #[test]
    fn what_is_no_key_set_is_told_by_its_place_and_never_quoted() {
        let object = "it must be an object with one list `keys`";
        let syntax = "this is not JSON";
        let early = "the JSON ends too early";
        for (content, line, fault) in [
            (r#""hush""#, 1, object),
            (r#"["hush"]"#, 1, object),
            (r#"[{"k": "hush"}]"#, 1, object),
            ("271828", 1, object),
            ("\n{\"keys\": \"hush\"}", 2, object),
            ("{\"keys\":\n271828}", 2, object),
            (r#"{"keys": {"kty": "oct", "k": "hush"}}"#, 1, object),
            (r#"{"kty": "oct", "k": "hush"}"#, 1, object),
            (r#"{"hush": []}"#, 1, object),
            (r#"{"keys": [], "keys": ["hush"]}"#, 1, object),
            ("hush", 1, syntax),
            ("-----BEGIN PRIVATE KEY-----\nhush", 1, syntax),
            (r#"{"keys": [hush]}"#, 1, syntax),
            (r#"{"keys": ["\hush"]}"#, 1, syntax),
            ("{\"keys\": []}\nhush", 2, syntax),
            ("{\"keys\": [\n271828 271828]}", 2, syntax),
            (r#"{"keys": [{"kty": "oct", "k": "hush"#, 1, early),
            (r#"{"keys": [{"kty": "oct", "k": "hush"}"#, 1, early),
        ] {
            let error = refusal(content);
            let begin = format!("/keys/jwks: not a JWKS file: line {line}, column ");
            assert!(error.starts_with(&begin), "{content}: {error}");
            assert!(error.contains(fault), "{content}: {error}");
        }
    }

    #[test]
    fn what_is_no_key_is_never_quoted() {
        for key in [
            json!("hush"),
            json!(271_828),
            json!(["hush"]),
            json!({"hush": "hush"}),
            json!({"kty": "hush"}),
            json!({"kty": ["hush"]}),
            json!({"kty": "oct", "k": "hush"}),
            json!({"kty": "oct", "k": 271_828}),
            json!({"kty": "RSA", "n": "hush", "e": "AQAB", "d": "hush"}),
            json!({"kty": "RSA", "n": "hush!", "e": "AQAB"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "hush"}),
            json!({"kty": "EC", "crv": "hush", "x": "hush", "y": "hush"}),
            json!({"kty": "EC", "crv": "P-256", "x": "hush!", "y": "hush!"}),
            json!({"kty": "OKP", "crv": "Ed25519", "x": "hush!"}),
            json!({"kty": "EC", "kid": ["hush"]}),
        ] {
            let error = refusal(&json!({"keys": [key]}).to_string());
            assert!(error.contains("none of its 1 keys can be used"), "{key}: {error}");
        }
    }
}
