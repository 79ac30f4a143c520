//! Keys of one issuer: each with the one algorithm that it verifies, and which of them a token may be
//! verified with.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, Jwk},
};

use super::{
    algorithm::Algorithm,
    key_fault::KeyFault,
    parse::Jws,
    strength,
    verify_error::{Shown, VerifyError},
};

/// How many keys are tried for one token. Each costs a signature check, also for a forged token.
pub(super) const MAX_CANDIDATES: usize = 8;

/// A key, and the one algorithm that it verifies. The algorithm never comes from a token.
pub(super) struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
    /// A digest of the key itself, by which copies of one key are known.
    digest: [u8; 32],
}

/// The keys of one issuer, each once.
#[derive(Debug, Default, PartialEq)]
pub(super) struct KeySet(Vec<Arc<Key>>);

// === impl Key ===

impl Key {
    /// A shared secret, whose strength the caller has checked.
    pub(super) fn secret(kid: Option<String>, algorithm: Algorithm, secret: &[u8]) -> Self {
        let decoding = DecodingKey::from_secret(secret);
        Self { kid, algorithm, decoding, digest: digest_of(&[secret]) }
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
                let digest = digest_of(&[&exponent, &modulus]);
                return Ok(Self { kid, algorithm, decoding, digest });
            }
        }
        let digest = digest_of(&[point()?]);
        Ok(Self { kid, algorithm, decoding, digest })
    }

    /// Whether the signature of a token is one of this key.
    pub(super) fn verifies(&self, jws: &Jws<'_>) -> bool {
        let message = jws.signing_input.as_bytes();
        let algorithm = self.algorithm.jose();
        // A key that cannot be used at all has not verified anything.
        jsonwebtoken::crypto::verify(jws.signature, message, &self.decoding, algorithm)
            .unwrap_or(false)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.kid == other.kid && self.digest == other.digest
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The digest stays out as well: a secret that people can remember could be found by it.
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

fn digest_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, &parts.concat()).as_ref());
    hash
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
    /// Collects keys. Copies of one key are one. Different keys may have the same id: of different
    /// types (RFC 7517 section 4.5), and while they are being replaced.
    pub(super) fn new(keys: impl IntoIterator<Item = Arc<Key>>) -> Self {
        let mut unique: Vec<Arc<Key>> = Vec::new();
        for key in keys {
            if !unique.contains(&key) {
                unique.push(key);
            }
        }
        Self(unique)
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no token can be verified.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a token's signature with the keys that can be meant, each with its own algorithm.
    ///
    /// If the token names a key, those are the keys of that id, or else the keys that have no id. If
    /// it names none, any key can be meant.
    pub(super) fn verify(&self, jws: &Jws<'_>) -> Result<(), VerifyError> {
        let kid = jws.header.kid.as_deref();
        let named = kid.filter(|kid| self.0.iter().any(|key| key.kid.as_deref() == Some(kid)));
        let can_be_meant = |key: &&Arc<Key>| match (named, kid) {
            (Some(named), _) => key.kid.as_deref() == Some(named),
            (None, Some(_)) => key.kid.is_none(),
            (None, None) => true,
        };
        let meant = || self.0.iter().filter(can_be_meant);
        if meant().next().is_none() {
            return Err(VerifyError::UnknownKey(Shown::or_absent(kid)));
        }
        let candidates = || meant().filter(|key| key.algorithm == jws.header.algorithm);
        match candidates().count() {
            0 => Err(VerifyError::WrongAlgorithm),
            1..=MAX_CANDIDATES if candidates().any(|key| key.verifies(jws)) => Ok(()),
            1..=MAX_CANDIDATES => Err(VerifyError::BadSignature),
            _ => Err(VerifyError::TooManyKeys(MAX_CANDIDATES)),
        }
    }
}
