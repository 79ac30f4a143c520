//! Owns an issuer's keys: each with the one algorithm that it verifies, and which of them a token
//! may be verified with.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, Jwk},
};

use super::{
    config::Algorithm, key_fault::KeyFault, parse::Jws, strength, verify_error::VerifyError,
};

/// A key, and the one algorithm that it verifies. The algorithm never comes from a token.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// The keys of one issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Arc<Key>>);

/// Two keys of one issuer have the same id, so that a token could mean either.
#[derive(Debug, thiserror::Error)]
#[error("two keys have the `kid` `{0}`; rename or remove one")]
pub struct DuplicateKidError(String);

// === impl Key ===

impl Key {
    /// A shared secret, whose strength the caller has checked.
    pub(super) fn secret(kid: Option<String>, algorithm: Algorithm, secret: &[u8]) -> Self {
        Self { kid, algorithm, decoding: DecodingKey::from_secret(secret) }
    }

    /// A public key, unless it is not one for `algorithm` or a weak one.
    pub(super) fn public(
        kid: Option<String>,
        algorithm: Algorithm,
        decoding: DecodingKey,
    ) -> Result<Self, KeyFault> {
        let point = || decoding.try_get_as_bytes().map_err(|_| KeyFault::NotSuchAKey);
        match algorithm {
            Algorithm::ES256 => strength::check_p256(point()?)?,
            Algorithm::ES384 => strength::check_p384(point()?)?,
            Algorithm::EdDsa => strength::check_ed25519(point()?)?,
            _ => {
                let (modulus, exponent) = rsa_numbers(&decoding)?;
                strength::check_rsa(&modulus, &exponent)?;
                // Some issuers send leading zeros, which the library would refuse.
                let decoding = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
                return Ok(Self { kid, algorithm, decoding });
            }
        }
        Ok(Self { kid, algorithm, decoding })
    }

    fn verifies(&self, jws: &Jws<'_>) -> bool {
        let message = jws.signing_input.as_bytes();
        let algorithm = self.algorithm.jose();
        // A key that cannot be used at all has not verified anything.
        jsonwebtoken::crypto::verify(jws.signature, message, &self.decoding, algorithm)
            .unwrap_or(false)
    }
}

/// Modulus and exponent of an RSA key, big-endian without leading zeros.
fn rsa_numbers(decoding: &DecodingKey) -> Result<(Vec<u8>, Vec<u8>), KeyFault> {
    let jwk = Jwk::from_decoding_key(decoding, None).map_err(|_| KeyFault::NotSuchAKey)?;
    let AlgorithmParameters::RSA(numbers) = jwk.algorithm else {
        return Err(KeyFault::NotSuchAKey);
    };
    let number = |text: &str| {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyFault::NotSuchAKey)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        bytes.drain(..zeros);
        Ok(bytes)
    };
    Ok((number(&numbers.n)?, number(&numbers.e)?))
}

// === impl KeySet ===

impl KeySet {
    /// Collects keys, no two of which may have the same id.
    pub(super) fn new(keys: Vec<Arc<Key>>) -> Result<Self, DuplicateKidError> {
        let mut kids: Vec<&str> = keys.iter().filter_map(|key| key.kid.as_deref()).collect();
        kids.sort_unstable();
        if let Some((kid, _)) = kids.iter().zip(kids.iter().skip(1)).find(|(one, next)| one == next)
        {
            return Err(DuplicateKidError((*kid).to_owned()));
        }
        Ok(Self(keys))
    }

    /// Verifies a token's signature.
    ///
    /// A token that names one of the keys is verified with that key and no other. A token that
    /// names none of them can only be verified with keys that have no id. A token without a key id
    /// can be verified with those, or else with the only key for its algorithm.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), VerifyError> {
        if let Some(named) = jws.kid.as_deref().and_then(|kid| self.named(kid)) {
            if named.algorithm != jws.algorithm {
                return Err(VerifyError::WrongAlgorithm);
            }
            return check(named.verifies(jws));
        }
        let is_eligible = |key: &&Arc<Key>| jws.kid.is_none() || key.kid.is_none();
        let eligible = || self.0.iter().filter(is_eligible);
        if eligible().next().is_none() {
            return Err(VerifyError::UnknownKey);
        }
        let matching = || eligible().filter(|key| key.algorithm == jws.algorithm);
        let mut unnamed = matching().filter(|key| key.kid.is_none()).peekable();
        if unnamed.peek().is_some() {
            return check(unnamed.any(|key| key.verifies(jws)));
        }
        let mut named = matching();
        match (named.next(), named.next()) {
            (None, _) => Err(VerifyError::WrongAlgorithm),
            (Some(only), None) => check(only.verifies(jws)),
            (Some(_), Some(_)) => Err(VerifyError::UnknownKey),
        }
    }

    fn named(&self, kid: &str) -> Option<&Arc<Key>> {
        self.0.iter().find(|key| key.kid.as_deref() == Some(kid))
    }
}

fn check(verified: bool) -> Result<(), VerifyError> {
    if verified { Ok(()) } else { Err(VerifyError::BadSignature) }
}
