//! Key files: reading keys from them, and refusing what was put there by mistake.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::DecodingKey;
use portcullis_runtime::file_watch::FileWatch;
use portcullis_types::secret::{Secret, ShownPath};
use serde_json::Value;

use super::{
    algorithm::Algorithm,
    jwks,
    key::Key,
    key_config::{PemFile, SecretFile},
    key_fault::{KeyFault, LoadKeysError},
    key_source::KeySource,
};

/// No key file is larger than this.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file with keys.
#[derive(Debug)]
pub(super) struct KeyFile {
    path: PathBuf,
    format: KeyFormat,
    watch: FileWatch,
}

/// What a key file holds, and which keys are made of it.
#[derive(Debug)]
pub(super) enum KeyFormat {
    Secret(SecretFile),
    Pem(PemFile),
    Jwks,
}

// === impl KeyFile ===

impl KeyFile {
    /// Watches the file from now on. It is not read yet, so no change is missed.
    pub(super) fn new(path: &Path, format: KeyFormat) -> Self {
        Self { path: path.to_owned(), format, watch: FileWatch::new(path) }
    }

    fn read(&self) -> Result<Vec<u8>, LoadKeysError> {
        let mut bytes = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes))
            .map_err(|source| LoadKeysError::Unreadable { origin: self.origin(), source })?;
        Ok(bytes)
    }
}

impl KeySource for KeyFile {
    fn origin(&self) -> String {
        ShownPath::of(&self.path).to_string()
    }

    fn load(&mut self) -> Result<Vec<Arc<Key>>, LoadKeysError> {
        let key = match &self.format {
            KeyFormat::Secret(config) => secret_key(config, &Secret::read(&self.path)?),
            KeyFormat::Pem(config) => public_key(config, &self.read()?),
            KeyFormat::Jwks => return jwks::keys(&self.origin(), &self.read()?),
        };
        key.map(|key| vec![Arc::new(key)])
            .map_err(|fault| LoadKeysError::Unusable { origin: self.origin(), fault })
    }

    fn has_changed(&mut self) -> bool {
        self.watch.has_changed()
    }

    fn needs_retry(&self, has_failed: bool) -> bool {
        // A file that is gone has not changed, and cannot be read.
        has_failed || self.path.metadata().is_err()
    }
}

fn secret_key(config: &SecretFile, secret: &Secret) -> Result<Key, KeyFault> {
    let algorithm = config.algorithm;
    let needed = match algorithm {
        Algorithm::HS256 => 32,
        Algorithm::HS384 => 48,
        Algorithm::HS512 => 64,
        _ => return Err(KeyFault::NotSecretAlgorithm(algorithm)),
    };
    let bytes = secret.expose();
    if is_public_key(bytes) {
        return Err(KeyFault::PublicKeyAsSecret);
    }
    if bytes.len() < needed && !config.allow_short_secret {
        return Err(KeyFault::ShortSecret { algorithm, found: bytes.len(), needed });
    }
    Ok(Key::secret(config.kid.clone(), algorithm, bytes))
}

fn public_key(config: &PemFile, pem: &[u8]) -> Result<Key, KeyFault> {
    const BEGIN: &str = "-----BEGIN ";
    let text = std::str::from_utf8(pem).map_err(|_| KeyFault::NotOnePublicKey)?;
    let mut labels =
        text.split(BEGIN).skip(1).map(|block| block.split("-----").next().unwrap_or_default());
    if labels.clone().any(|label| label.contains("PRIVATE KEY")) {
        return Err(KeyFault::PrivateKey);
    }
    let (Some("PUBLIC KEY" | "RSA PUBLIC KEY"), None) = (labels.next(), labels.next()) else {
        return Err(KeyFault::NotOnePublicKey);
    };
    let algorithm = config.algorithm;
    let decoding = match algorithm {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return Err(KeyFault::NotPublicKeyAlgorithm(algorithm));
        }
        Algorithm::ES256 | Algorithm::ES384 => DecodingKey::from_ec_pem(pem),
        Algorithm::EdDsa => DecodingKey::from_ed_pem(pem),
        _ => DecodingKey::from_rsa_pem(pem),
    };
    Key::public(config.kid.clone(), algorithm, decoding.map_err(|_| KeyFault::NotSuchAKey)?)
}

/// Whether a secret is a public key in one of its usual forms. Public keys are known to all, so
/// any party could sign with such a secret.
fn is_public_key(secret: &[u8]) -> bool {
    if is_der_key(secret) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(secret) else {
        return false;
    };
    if text.contains("-----BEGIN ") {
        return true;
    }
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        return object.contains_key("kty") || object.contains_key("keys");
    }
    // The inside of a PEM file.
    let compact: String = text.split_whitespace().collect();
    [STANDARD.decode(&compact), URL_SAFE_NO_PAD.decode(&compact)]
        .iter()
        .flatten()
        .any(|bytes| is_der_key(bytes))
}

/// Whether the bytes are one DER sequence that begins like a key: with a sequence, as in
/// `SubjectPublicKeyInfo`, or with an integer, as in `RSAPublicKey` and private keys.
fn is_der_key(bytes: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const INTEGER: u8 = 0x02;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    match der_content(SEQUENCE, bytes) {
        Some((content, [])) => match content.first() {
            Some(&INTEGER) => true,
            Some(&SEQUENCE) => der_content(SEQUENCE, content)
                .is_some_and(|(algorithm, _)| algorithm.first() == Some(&OBJECT_IDENTIFIER)),
            _ => false,
        },
        _ => false,
    }
}

/// Splits the element with this tag off the front: its content, and what follows it.
fn der_content(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let length_bytes = usize::from(short.saturating_sub(0x80));
    if length_bytes == 0 {
        return rest.split_at_checked(usize::from(short));
    }
    let (length, rest) = rest.split_at_checked(length_bytes)?;
    let length = length.iter().try_fold(0_usize, |length, byte| {
        length.checked_mul(256)?.checked_add(usize::from(*byte))
    })?;
    rest.split_at_checked(length)
}
