//! Owns reading JWK sets (RFC 7517): which of their keys can verify signatures, and with which
//! algorithm each.

use std::{path::Path, sync::Arc};

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    config::Algorithm,
    key::Key,
    key_fault::{KeyFault, LoadKeysError},
};

#[derive(Deserialize)]
struct JwkSet {
    /// Each is read by itself, so that one odd key does not spoil the others.
    keys: Vec<Value>,
}

/// Reads the keys of a JWK set. Those that cannot be used are left out with a warning.
///
/// # Errors
/// When the content is not a JWK set, or no key of it can be used.
pub(super) fn keys(path: &Path, content: &[u8]) -> Result<Vec<Arc<Key>>, LoadKeysError> {
    let set: JwkSet = serde_json::from_slice(content)
        .map_err(|source| LoadKeysError::NotKeySet { path: path.to_owned(), source })?;
    let count = set.keys.len();
    let mut keys = Vec::new();
    let mut first = String::new();
    for (index, value) in set.keys.into_iter().enumerate() {
        match key(value) {
            Ok(key) => keys.push(Arc::new(key)),
            Err(fault) => {
                tracing::warn!(file = %path.display(), index, %fault, "a key is left out");
                if first.is_empty() {
                    first = format!("; the one at index {index}: {fault}");
                }
            }
        }
    }
    if keys.is_empty() {
        return Err(LoadKeysError::NoUsableKey { path: path.to_owned(), count, first });
    }
    Ok(keys)
}

fn key(value: Value) -> Result<Key, KeyFault> {
    // A private key is a leaked key: whoever can read the file can sign.
    if value.get("d").is_some() {
        return Err(KeyFault::PrivateKey);
    }
    let jwk: Jwk = serde_json::from_value(value).map_err(|_| KeyFault::Unsupported)?;
    if !is_for_verifying(&jwk) {
        return Err(KeyFault::NotForVerifying);
    }
    let algorithm = pinned_algorithm(&jwk)?;
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| KeyFault::NotSuchAKey)?;
    Key::public(jwk.common.key_id, algorithm, decoding)
}

fn is_for_verifying(jwk: &Jwk) -> bool {
    let used = jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    let operations = jwk.common.key_operations.as_ref();
    used && operations.is_none_or(|list| list.contains(&KeyOperations::Verify))
}

/// The key's `alg`, which must suit its type, or the one that its type suggests.
fn pinned_algorithm(jwk: &Jwk) -> Result<Algorithm, KeyFault> {
    use Algorithm::{ES256, ES384, EdDsa, PS256, PS384, PS512, RS256, RS384, RS512};
    // The first is the default.
    let suitable: &[Algorithm] = match &jwk.algorithm {
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
    let chosen = match jwk.common.key_algorithm {
        // An algorithm that is not known to the library has the name `UNKNOWN_ALGORITHM`.
        Some(named) => Algorithm::from_name(&named.to_string()),
        None => suitable.first().copied(),
    };
    chosen.filter(|algorithm| suitable.contains(algorithm)).ok_or(KeyFault::Unsupported)
}
