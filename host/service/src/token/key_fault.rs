//! Reasons why a key, or a source of keys, is not used.

use portcullis_types::secret::ReadSecretError;
use serde_json::error::Category;

use super::algorithm::Algorithm;

/// A source of keys cannot be used. `origin` is its name: the path of a file.
#[derive(Debug, thiserror::Error)]
pub enum LoadKeysError {
    /// The secret file cannot be read.
    #[error(transparent)]
    Secret(#[from] ReadSecretError),
    /// The file cannot be read.
    #[error("{origin}: cannot read the key file: {source}; check the path and the permissions")]
    Unreadable {
        /// The name of the source.
        origin: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The content is not a key set.
    #[error("{origin}: not a JWKS file: {fault}")]
    NotKeySet {
        /// The name of the source.
        origin: String,
        /// What is wrong with its JSON.
        fault: JsonFault,
    },
    /// The source's key cannot be used.
    #[error("{origin}: {fault}")]
    Unusable {
        /// The name of the source.
        origin: String,
        /// What is wrong with it.
        fault: KeyFault,
    },
    /// The source holds more keys than any issuer needs.
    #[error("{origin}: {count} keys are more than the {MAX_KEYS} that are read; remove old ones")]
    TooMany {
        /// The name of the source.
        origin: String,
        /// How many keys it holds.
        count: usize,
    },
    /// The keys could not be fetched.
    #[error("{origin}: cannot fetch the keys: {cause}")]
    NotFetched {
        /// The name of the source.
        origin: String,
        /// What is wrong.
        cause: String,
    },
    /// The keys could not be fetched for so long that they are no longer used.
    #[error(
        "{origin}: the keys are older than `tokens.fetch.max_stale` and no longer used, so tokens of \
         this issuer are denied; {cause}"
    )]
    TooOld {
        /// The name of the source.
        origin: String,
        /// What is wrong.
        cause: String,
    },
    /// None of the source's keys can be used.
    #[error("{origin}: none of its {count} keys can be used{first}")]
    NoUsableKey {
        /// The name of the source.
        origin: String,
        /// How many keys it holds.
        count: usize,
        /// What is wrong with the first one.
        first: String,
    },
}

/// What is wrong with the JSON of a key file, and where. The parser's own message is not kept: it may
/// quote the file, which may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {fault}")]
pub struct JsonFault {
    line: usize,
    column: usize,
    fault: &'static str,
}

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The secret can be guessed.
    #[error(
        "the secret has {found} bytes, but {algorithm} needs {needed} (RFC 7518 section 3.2); use \
         a longer one, or set `allow_short_secret: true` and accept that it can be guessed"
    )]
    ShortSecret {
        /// The algorithm.
        algorithm: Algorithm,
        /// How many bytes the secret has.
        found: usize,
        /// How many it needs.
        needed: usize,
    },
    /// A public key, which is no secret, was given as one.
    #[error(
        "this is a key pair or public key, not a shared secret; name it as `pem_file` or \
         `jwks_file`, with the algorithm that it is for"
    )]
    PublicKeyAsSecret,
    /// The algorithm does not work with shared secrets.
    #[error("`secret_file` goes with HS256, HS384 or HS512, not with {0}")]
    NotSecretAlgorithm(Algorithm),
    /// The algorithm does not work with public keys.
    #[error("`pem_file` goes with an RS, PS, ES or EdDSA algorithm, not with {0}")]
    NotPublicKeyAlgorithm(Algorithm),
    /// The file is not exactly one public key.
    #[error(
        "it must hold exactly one `PUBLIC KEY` or `RSA PUBLIC KEY` in PEM format; take it out of \
         a certificate with `openssl x509 -pubkey -noout`"
    )]
    NotOnePublicKey,
    /// A private key was given where a public one does.
    #[error(
        "it holds a private key, which must stay with the issuer; export the public key, for \
         example with `openssl pkey -pubout`"
    )]
    PrivateKey,
    /// The key is not one of the algorithm's kind, or not a valid one.
    #[error("it is not a valid key for its algorithm")]
    NotSuchAKey,
    /// The RSA key is too short to be safe or too long to be verified.
    #[error("the RSA key has {bits} bits; use one of 2048 to 8192")]
    RsaSize {
        /// Its size.
        bits: usize,
    },
    /// The RSA key's numbers cannot be those of a sound key.
    #[error("the RSA key's modulus or exponent is not that of a sound key; make another one")]
    RsaNumbers,
    /// The RSA key was made by a chip whose keys can be factored.
    #[error("the RSA key can be factored (ROCA, CVE-2017-15361); make another one")]
    Roca,
    /// Any party can sign with this key.
    #[error("the Ed25519 key is a point of small order; make another one")]
    SmallOrder,
    /// A shared secret in a file of public keys.
    #[error("it is a shared secret (`oct`), which does not belong into a JWKS file")]
    SecretInKeySet,
    /// The key is for encryption.
    #[error("its `use` or `key_ops` is not for verifying signatures")]
    NotForVerifying,
    /// The key's id is not a text, so no token could name it.
    #[error("its `kid` is not a string; write it in quotes")]
    KidNotText,
    /// The key is of a kind that is not supported.
    #[error("its type, curve or algorithm is not supported")]
    Unsupported,
}

/// How many keys a source may hold.
pub(super) const MAX_KEYS: usize = 100;

// === impl LoadKeysError ===

impl LoadKeysError {
    /// Whether the keys that were read from the source before are no longer used.
    pub(super) const fn ends_keys(&self) -> bool {
        matches!(self, Self::TooOld { .. })
    }
}

// === impl JsonFault ===

impl From<&serde_json::Error> for JsonFault {
    fn from(error: &serde_json::Error) -> Self {
        let fault = match error.classify() {
            Category::Data => {
                "it must be an object with one list `keys`; write it as {\"keys\": [..]}"
            }
            Category::Eof => {
                "the JSON ends too early; write all of it, and replace the file by renaming"
            }
            Category::Syntax | Category::Io => {
                "this is not JSON; correct it, or name a PEM file as `pem_file`"
            }
        };
        Self { line: error.line(), column: error.column(), fault }
    }
}
