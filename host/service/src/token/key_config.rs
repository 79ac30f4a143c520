//! Settings of keys: the kinds of sources that an issuer's keys come from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{algorithm::Algorithm, token_text::is_key_id};
use crate::fetch::{FetchUrl, FetchUrlError};

/// Where keys come from: exactly one of `secret_file`, `pem_file`, `jwks_file`, `jwks_url` and
/// `discovery`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "KeyFields")]
#[schemars(!try_from, untagged, rename = "Key")]
pub enum KeyConfig {
    /// A shared secret.
    Secret(SecretFile),
    /// A public key.
    Pem(PemFile),
    /// A set of public keys in a file.
    Jwks(JwksFile),
    /// A set of public keys at a URL.
    Url(KeysUrl),
    /// A set of public keys at the URL that the issuer names.
    Discovered(DiscoveredKeys),
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

/// A set of public keys in JWKS format (RFC 7517), fetched from a URL and followed. Replicas are not
/// ready until it was fetched once. `tokens.fetch` says how often it is fetched.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeysUrl {
    /// The URL: `https`, or `http` for loopback. Redirects are followed within its origin only.
    #[schemars(with = "String")]
    pub jwks_url: FetchUrl,
    /// The certificates, in PEM format, that are trusted instead of those of the system.
    #[schemars(default)]
    pub ca_file: Option<PathBuf>,
    /// Permits `http` to other machines.
    #[schemars(default)]
    pub allow_http: bool,
}

/// A set of public keys that the metadata of the issuer lead to: `OpenID` Connect Discovery, or RFC
/// 8414. Needs the issuer's `issuer`, to which the path of the metadata is added, and which they must
/// repeat exactly.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct DiscoveredKeys {
    /// `true`.
    pub discovery: bool,
    /// The certificates, in PEM format, that are trusted instead of those of the system.
    #[schemars(default)]
    pub ca_file: Option<PathBuf>,
    /// Permits `http` to other machines, for `issuer` and the URL of the keys.
    #[schemars(default)]
    pub allow_http: bool,
}

/// What the kinds of key share in the file, so that errors can say what is missing or out of
/// place instead of "did not match any variant".
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFields {
    secret_file: Option<PathBuf>,
    pem_file: Option<PathBuf>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    discovery: Option<bool>,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    allow_short_secret: Option<bool>,
    ca_file: Option<PathBuf>,
    allow_http: Option<bool>,
}

/// A key's settings do not go together.
#[derive(Debug, thiserror::Error)]
enum ReadKeyConfigError {
    #[error(
        "give exactly one of `secret_file`, `pem_file`, `jwks_file`, `jwks_url` and `discovery: true`"
    )]
    NotOneSource,
    #[error("`algorithm` is missing; name the one algorithm that this key verifies, such as {0}")]
    NoAlgorithm(Algorithm),
    #[error("`jwks_url` {0}")]
    Url(FetchUrlError),
    #[error("`{0}` does not go with `{1}`; remove it")]
    OutOfPlace(&'static str, &'static str),
    #[error(
        "`kid` is empty, or has a blank at its beginning or end; write it as tokens have it, or \
         leave it out"
    )]
    KeyId,
}

// === impl KeyConfig ===

impl KeyConfig {
    /// Whether the keys are fetched from the issuer.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Discovered(_))
    }
}

impl TryFrom<KeyFields> for KeyConfig {
    type Error = ReadKeyConfigError;

    fn try_from(fields: KeyFields) -> Result<Self, Self::Error> {
        use ReadKeyConfigError::{KeyId, NotOneSource};
        if fields.kid.as_ref().is_some_and(|kid| !is_key_id(kid)) {
            return Err(KeyId);
        }
        let KeyFields { secret_file, pem_file, jwks_file, jwks_url, discovery, .. } = &fields;
        match (secret_file, pem_file, jwks_file, jwks_url, discovery) {
            (Some(_), None, None, None, None) => fields.secret(),
            (None, Some(_), None, None, None) => fields.pem(),
            (None, None, Some(_), None, None) => fields.jwks(),
            (None, None, None, Some(_), None) => fields.url(),
            (None, None, None, None, Some(true)) => fields.discovered(),
            _ => Err(NotOneSource),
        }
    }
}

// === impl KeyFields ===

impl KeyFields {
    /// Checks that nothing is given that is for other kinds than that of the key `kind`.
    fn check(&self, kind: &'static str, fitting: &[&str]) -> Result<(), ReadKeyConfigError> {
        let given = [
            ("algorithm", self.algorithm.is_some()),
            ("kid", self.kid.is_some()),
            ("allow_short_secret", self.allow_short_secret.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("allow_http", self.allow_http.is_some()),
        ];
        match given.into_iter().find(|(name, given)| *given && !fitting.contains(name)) {
            Some((name, _)) => Err(ReadKeyConfigError::OutOfPlace(name, kind)),
            None => Ok(()),
        }
    }

    fn secret(self) -> Result<KeyConfig, ReadKeyConfigError> {
        self.check("secret_file", &["algorithm", "kid", "allow_short_secret"])?;
        let needed = ReadKeyConfigError::NoAlgorithm(Algorithm::HS256);
        Ok(KeyConfig::Secret(SecretFile {
            secret_file: self.secret_file.unwrap_or_default(),
            algorithm: self.algorithm.ok_or(needed)?,
            kid: self.kid,
            allow_short_secret: self.allow_short_secret.unwrap_or_default(),
        }))
    }

    fn pem(self) -> Result<KeyConfig, ReadKeyConfigError> {
        self.check("pem_file", &["algorithm", "kid"])?;
        let needed = ReadKeyConfigError::NoAlgorithm(Algorithm::RS256);
        Ok(KeyConfig::Pem(PemFile {
            pem_file: self.pem_file.unwrap_or_default(),
            algorithm: self.algorithm.ok_or(needed)?,
            kid: self.kid,
        }))
    }

    fn jwks(self) -> Result<KeyConfig, ReadKeyConfigError> {
        self.check("jwks_file", &[])?;
        Ok(KeyConfig::Jwks(JwksFile { jwks_file: self.jwks_file.unwrap_or_default() }))
    }

    fn url(self) -> Result<KeyConfig, ReadKeyConfigError> {
        self.check("jwks_url", &["ca_file", "allow_http"])?;
        let allow_http = self.allow_http.unwrap_or_default();
        let url = FetchUrl::new(&self.jwks_url.unwrap_or_default(), allow_http);
        let jwks_url = url.map_err(ReadKeyConfigError::Url)?;
        if self.ca_file.is_some() && !jwks_url.is_encrypted() {
            return Err(ReadKeyConfigError::OutOfPlace("ca_file", "http://"));
        }
        Ok(KeyConfig::Url(KeysUrl { jwks_url, ca_file: self.ca_file, allow_http }))
    }

    fn discovered(self) -> Result<KeyConfig, ReadKeyConfigError> {
        self.check("discovery", &["ca_file", "allow_http"])?;
        let allow_http = self.allow_http.unwrap_or_default();
        let ca_file = self.ca_file;
        Ok(KeyConfig::Discovered(DiscoveredKeys { discovery: true, ca_file, allow_http }))
    }
}
