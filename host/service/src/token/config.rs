//! Settings of token verification: which issuers there are, and how each one's tokens are checked.

use std::{fmt, path::PathBuf};

use portcullis_types::duration::{HumanDuration, longer_than_zero};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{credential::Credential, token_text::is_key_id};

/// How tokens of all issuers are verified.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokensConfig {
    /// How many verified tokens are remembered, so that a token that comes again costs no signature
    /// check. Expiry and revocation are checked each time all the same. At most 1,200 bytes each are
    /// taken: a larger token counts as several, and 100,000 take at most 120 MB. Expired tokens
    /// are dropped. 0 remembers none.
    pub cache_capacity: usize,
    /// The largest token that is read, in bytes; 256 to 65,536. Tokens with hundreds of groups need
    /// more than the default. Envoy's `max_request_headers_kb` limits all headers together, and
    /// `grpc.max_message_bytes` the whole request.
    pub max_bytes: usize,
    /// How often key files are checked for changes, and those that could not be read or used are
    /// retried.
    #[serde(deserialize_with = "longer_than_zero")]
    pub key_reload_interval: HumanDuration,
}

/// One issuer: its keys, and what its tokens must look like.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Issuer")]
pub struct IssuerConfig {
    /// What the token's `iss` must be, exactly. Without it, `iss` is not checked.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The token's `aud` must name one of these. Empty: `aud` is not checked, so that a token of
    /// this issuer for any other service is accepted too, an ID token for instance; there is a
    /// warning at start.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Where the keys come from. Only these keys can verify this issuer's tokens.
    pub keys: Vec<KeyConfig>,
    /// Where its tokens are in a request, if a route does not say it with its own `token_from`. By
    /// default `[{header: authorization}]`, with the scheme `Bearer`.
    #[serde(default)]
    pub token_from: Vec<Credential>,
    /// How far the issuer's clock may be off, at most 1h: a token is still good this long after
    /// `exp`, and already good this long before `nbf`. Its `iat` may be as far ahead, or by
    /// `blacklist.skew` if that is more.
    #[serde(default = "default_leeway")]
    pub leeway: HumanDuration,
    /// The claims that a token must have. A token without `jti` cannot be revoked one by one, and
    /// a token without `exp` is good forever, so leave those out only if you must.
    #[serde(default = "default_required_claims")]
    pub required_claims: Vec<String>,
    /// The scopes that a token must have, all of them, in `scope` or `scp`.
    #[serde(default)]
    pub required_scopes: Vec<String>,
    /// The types that the header of an access token may name (`typ`), `absent` standing for none.
    /// Letter case and a leading `application/` do not matter. With `[at+jwt]` alone, ID tokens are
    /// refused too (RFC 9068), if the issuer writes that type. `logout+jwt`, `secevent+jwt` and
    /// `dpop+jwt` are refused always, and so are tokens with a claim `events`.
    #[serde(default = "default_header_types")]
    pub header_types: Vec<String>,
    /// Distinguishes access tokens from other tokens of the same issuer, such as refresh tokens, by
    /// a claim.
    #[serde(default)]
    pub token_type: Option<TokenTypeConfig>,
    /// Accepts tokens that are bound to a key of their client (claim `cnf`, as with `DPoP` or mTLS)
    /// although they are sent as bearer tokens. Only right where something before Portcullis checks
    /// the proof: otherwise a stolen token is as good as its owner's.
    #[serde(default)]
    pub accept_sender_constrained: bool,
}

/// A claim that says what a token is for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TokenType")]
pub struct TokenTypeConfig {
    /// The claim's name.
    #[serde(default = "default_token_type_claim")]
    pub claim: String,
    /// The values with which a token is accepted.
    pub one_of: Vec<String>,
}

/// Where keys come from: exactly one of `secret_file`, `pem_file` and `jwks_file`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "KeyFields")]
#[schemars(!try_from, untagged, rename = "Key")]
pub enum KeyConfig {
    /// A shared secret.
    Secret(SecretFile),
    /// A public key.
    Pem(PemFile),
    /// A set of public keys.
    Jwks(JwksFile),
}

/// A shared secret for HS256, HS384 or HS512.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SecretFile {
    /// The file whose bytes are the secret, without the line break at its end.
    pub secret_file: PathBuf,
    /// The one algorithm that this key verifies.
    pub algorithm: Algorithm,
    /// The key's id, if tokens name it.
    #[schemars(default)]
    pub kid: Option<String>,
    /// Accepts a secret that is shorter than the algorithm's hash, and so easier to guess than the
    /// signature is to forge (RFC 7518 section 3.2).
    #[schemars(default)]
    pub allow_short_secret: bool,
}

/// A public key in PEM format.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct PemFile {
    /// The file, holding one `PUBLIC KEY` or `RSA PUBLIC KEY`.
    pub pem_file: PathBuf,
    /// The one algorithm that this key verifies.
    pub algorithm: Algorithm,
    /// The key's id, if tokens name it.
    #[schemars(default)]
    pub kid: Option<String>,
}

/// A set of public keys in JWKS format (RFC 7517).
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct JwksFile {
    /// The file. Each of its keys verifies the algorithm that its `alg` names; without one, RSA
    /// keys verify RS256, P-256 keys ES256, P-384 keys ES384, and Ed25519 keys `EdDSA`. Keys that
    /// cannot be used are left out with a warning. An empty set means that there are no keys.
    pub jwks_file: PathBuf,
}

portcullis_types::listed_enum! {
    /// A signature algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1). `Ed25519` (RFC 9864) is
    /// another name for `EdDSA`.
    #[derive(
        Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
    )]
    #[expect(missing_docs, reason = "the names are those of the RFCs")]
    pub enum Algorithm: name {
        HS256 = "HS256",
        HS384 = "HS384",
        HS512 = "HS512",
        RS256 = "RS256",
        RS384 = "RS384",
        RS512 = "RS512",
        PS256 = "PS256",
        PS384 = "PS384",
        PS512 = "PS512",
        ES256 = "ES256",
        ES384 = "ES384",
        #[serde(rename = "EdDSA", alias = "Ed25519")]
        EdDsa = "EdDSA",
    }
}

/// What the three kinds of key share in the file, so that errors can say what is missing or out of
/// place instead of "did not match any variant".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFields {
    secret_file: Option<PathBuf>,
    pem_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    allow_short_secret: Option<bool>,
}

/// A key's settings do not go together.
#[derive(Debug, thiserror::Error)]
enum ReadKeyConfigError {
    #[error("give exactly one of `secret_file`, `pem_file` and `jwks_file`")]
    NotOneSource,
    #[error("`algorithm` is missing; name the one algorithm that this key verifies, such as {0}")]
    NoAlgorithm(Algorithm),
    #[error("`{0}` does not go with `{1}`; remove it")]
    OutOfPlace(&'static str, &'static str),
    #[error(
        "`kid` is empty, or has a blank at its beginning or end; write it as tokens have it, or \
         leave it out"
    )]
    KeyId,
}

fn default_leeway() -> HumanDuration {
    HumanDuration::from_millis(5000)
}

fn default_required_claims() -> Vec<String> {
    ["exp", "sub", "jti"].map(str::to_owned).into()
}

fn default_header_types() -> Vec<String> {
    ["at+jwt", "JWT", "absent"].map(str::to_owned).into()
}

fn default_token_type_claim() -> String {
    "type".to_owned()
}

impl Default for TokensConfig {
    fn default() -> Self {
        Self {
            cache_capacity: 100_000,
            max_bytes: 16 * 1024,
            key_reload_interval: HumanDuration::from_millis(1_000),
        }
    }
}

// === impl IssuerConfig ===

impl IssuerConfig {
    /// An issuer with these keys and the default for everything else.
    #[must_use]
    pub fn new(keys: Vec<KeyConfig>) -> Self {
        Self {
            issuer: None,
            audiences: Vec::new(),
            keys,
            token_from: Vec::new(),
            leeway: default_leeway(),
            required_claims: default_required_claims(),
            required_scopes: Vec::new(),
            header_types: default_header_types(),
            token_type: None,
            accept_sender_constrained: false,
        }
    }
}

// === impl KeyConfig ===

impl TryFrom<KeyFields> for KeyConfig {
    type Error = ReadKeyConfigError;

    fn try_from(fields: KeyFields) -> Result<Self, Self::Error> {
        use ReadKeyConfigError::{KeyId, NoAlgorithm, NotOneSource, OutOfPlace};
        let KeyFields { algorithm, kid, allow_short_secret, .. } = fields;
        if kid.as_ref().is_some_and(|kid| !is_key_id(kid)) {
            return Err(KeyId);
        }
        match (fields.secret_file, fields.pem_file, fields.jwks_file) {
            (Some(secret_file), None, None) => Ok(Self::Secret(SecretFile {
                secret_file,
                algorithm: algorithm.ok_or(NoAlgorithm(Algorithm::HS256))?,
                kid,
                allow_short_secret: allow_short_secret.unwrap_or_default(),
            })),
            (None, Some(pem_file), None) => {
                if allow_short_secret.is_some() {
                    return Err(OutOfPlace("allow_short_secret", "pem_file"));
                }
                let algorithm = algorithm.ok_or(NoAlgorithm(Algorithm::RS256))?;
                Ok(Self::Pem(PemFile { pem_file, algorithm, kid }))
            }
            (None, None, Some(jwks_file)) => {
                let misplaced = [
                    ("algorithm", algorithm.is_some()),
                    ("kid", kid.is_some()),
                    ("allow_short_secret", allow_short_secret.is_some()),
                ];
                match misplaced.into_iter().find(|(_, given)| *given) {
                    Some((name, _)) => Err(OutOfPlace(name, "jwks_file")),
                    None => Ok(Self::Jwks(JwksFile { jwks_file })),
                }
            }
            _ => Err(NotOneSource),
        }
    }
}

// === impl Algorithm ===

impl Algorithm {
    /// The algorithm of that name. Names are case-sensitive (RFC 7515 section 4.1.1), and `none`
    /// is none of them.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::EdDsa),
            name => Self::ALL.into_iter().find(|algorithm| algorithm.name() == name),
        }
    }

    pub(super) const fn jose(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::HS256 => jsonwebtoken::Algorithm::HS256,
            Self::HS384 => jsonwebtoken::Algorithm::HS384,
            Self::HS512 => jsonwebtoken::Algorithm::HS512,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
            Self::RS384 => jsonwebtoken::Algorithm::RS384,
            Self::RS512 => jsonwebtoken::Algorithm::RS512,
            Self::PS256 => jsonwebtoken::Algorithm::PS256,
            Self::PS384 => jsonwebtoken::Algorithm::PS384,
            Self::PS512 => jsonwebtoken::Algorithm::PS512,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::ES384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
