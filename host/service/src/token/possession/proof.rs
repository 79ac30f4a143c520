//! `DPoP` proof (RFC 9449 section 4): a JWT by which a client shows, for one request, that it has the key
//! that its token is bound to.

use std::{fmt, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_types::{json::JsonRef, timestamp::Timestamp};

use super::{
    super::{
        algorithm::Algorithm,
        claims,
        jwks::{self, EmbeddedKey},
        parse::{self, Jws},
        verify_error::{Shown, VerifyError},
    },
    binding::Thumbprint,
    config::{DpopConfig, PossessionError},
    nonce::Nonces,
    replay::{NotRemembered, ProofId, ReplayMemory},
};

/// The header of proofs.
pub(crate) const DPOP: &str = "dpop";

/// The algorithms of proofs, as a challenge lists them: all that are supported and asymmetric.
pub(crate) const ALGORITHMS: &str = "ES256 ES384 EdDSA PS256 PS384 PS512 RS256 RS384 RS512";

/// The type of proofs.
const TYPE: &str = "dpop+jwt";

/// The largest proof: several times what one with a large RSA key needs.
const MAX_BYTES: usize = 8 * 1024;

/// The longest `jti` of a proof, in bytes. It should have at least 12 of them that are random.
const MAX_ID_BYTES: usize = 256;

/// A proof, taken apart and not verified. `Debug` shows nothing of it.
pub struct Proof<'p> {
    jws: Jws<'p>,
    key: EmbeddedKey,
}

/// What a proof must be about.
pub(super) struct Proven<'a> {
    /// The key that the token is bound to.
    pub(super) key: &'a Thumbprint,
    /// The token, as it was sent.
    pub(super) token: &'a str,
    /// The method of the request.
    pub(super) method: &'a str,
    /// Whether a URI is that of the request.
    pub(super) is_target: &'a dyn Fn(&str) -> bool,
}

/// A proof is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// There is no `DPoP` header, or an empty one.
    #[error("the request has no DPoP header")]
    Missing,
    /// There are several proofs.
    #[error("the request has several DPoP headers; send one")]
    Several,
    /// The proof is not a JWT as described in RFC 9449 section 4.2.
    #[error("the proof is malformed: {0}")]
    Malformed(VerifyError),
    /// The `typ` of its header is not `dpop+jwt`.
    #[error("the proof is of another type than `dpop+jwt`")]
    WrongType,
    /// Its algorithm is one for shared secrets.
    #[error("the proof is not signed with a public key")]
    WrongAlgorithm,
    /// The `jwk` of its header is missing, is not a public key alone, not one for the algorithm, or weak.
    #[error("`jwk` in the header of the proof is not a usable public key")]
    UnusableKey,
    /// The token is bound to another key.
    #[error("the token is bound to another key than that of the proof")]
    WrongKey,
    /// `htm` is another method.
    #[error("the proof is for another method")]
    WrongMethod,
    /// `htu` is another URI.
    #[error("the proof is for another URI")]
    WrongUri(Shown),
    /// `ath` is that of another token.
    #[error("the proof is for another token")]
    WrongToken,
    /// `jti` is longer than 256 bytes.
    #[error("the id of the proof is too long")]
    LongId,
    /// `iat` is further away than the window.
    #[error("the proof was made too long ago, or in the future")]
    OutsideWindow,
    /// The signature does not match.
    #[error("the signature of the proof does not match")]
    BadSignature,
    /// It was used before, or may have been.
    #[error("the proof was used before")]
    Replayed,
}

/// Why a proof is not accepted, or what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotProven {
    /// It is a bad one.
    Fault(ProofFault),
    /// It needs this nonce.
    NonceNeeded(String),
    /// No more proofs can be remembered now.
    Full,
}

/// What checks proofs, and remembers them.
#[derive(Debug)]
pub(super) struct Proofs {
    window: Duration,
    memory: ReplayMemory,
    nonces: Option<Nonces>,
}

// === impl Proofs ===

impl Proofs {
    /// With nonces, if there are some.
    pub(super) fn new(
        config: &DpopConfig,
        nonces: Option<Nonces>,
    ) -> Result<Self, PossessionError> {
        let window = config.window.get();
        let wrong = |setting, problem| Err(PossessionError::Setting { setting, problem });
        if window < Duration::from_secs(1) || window > Duration::from_mins(10) {
            return wrong("dpop.window", "must be 1s to 10m, such as 1m");
        }
        if config.remembered_proofs == 0 {
            return wrong(
                "dpop.remembered_proofs",
                "is 0, so no proof would be accepted; raise it",
            );
        }
        let memory = ReplayMemory::new(config.remembered_proofs, window);
        Ok(Self { window, memory, nonces })
    }

    /// How many proofs are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.memory.len()
    }

    /// Checks a proof (RFC 9449 section 4.3), the signature after everything that costs less.
    pub(super) fn check<'p>(
        &self,
        headers: impl Iterator<Item = &'p str>,
        proven: &Proven<'_>,
        now: Timestamp,
    ) -> Result<(), NotProven> {
        let proof = Proof::read(only(headers)?)?;
        if proof.key.thumbprint() != Some(*proven.key) {
            return Err(ProofFault::WrongKey.into());
        }
        proof.check_request(proven)?;
        let issued_at = proof.issued_at()?;
        let ends = issued_at.plus(self.window);
        if now >= ends || issued_at > now.plus(self.window) {
            return Err(ProofFault::OutsideWindow.into());
        }
        let id = proof.id()?;
        if let Some(nonces) = &self.nonces {
            let nonce = claims::text(&proof.jws.claims, "nonce").map_err(ProofFault::Malformed)?;
            if !nonce.is_some_and(|nonce| nonces.accepts(nonce, now)) {
                return Err(NotProven::NonceNeeded(nonces.current(now)));
            }
        }
        proof.check_signature()?;
        match self.memory.remember(proof_id(proven.key, id, ends), now) {
            Ok(()) => Ok(()),
            Err(NotRemembered::Again | NotRemembered::Unknown) => Err(ProofFault::Replayed.into()),
            Err(NotRemembered::Full) => Err(NotProven::Full),
        }
    }
}

/// The one proof of a request. Envoy joins headers of one name with a comma, which no proof has.
fn only<'p>(mut headers: impl Iterator<Item = &'p str>) -> Result<&'p str, ProofFault> {
    match (headers.next(), headers.next()) {
        (None | Some(""), None) => Err(ProofFault::Missing),
        (Some(proof), None) if !proof.contains(',') => Ok(proof),
        _ => Err(ProofFault::Several),
    }
}

/// What is remembered of a proof. Ids are unique for a client.
fn proof_id(key: &Thumbprint, id: &str, ends: Timestamp) -> ProofId {
    let hash = digest(&SHA256, &[key.as_slice(), id.as_bytes()].concat());
    ProofId {
        // A thumbprint is a digest already.
        key: key.first_chunk().copied().map_or(0, u64::from_le_bytes),
        id: hash.as_ref().first_chunk().copied().map_or(0, u128::from_le_bytes),
        ends,
    }
}

// === impl Proof ===

impl<'p> Proof<'p> {
    /// Takes a proof apart, as strictly as a token. Nothing shows yet that it is genuine.
    ///
    /// # Errors
    /// When it is too large, is not a JWT of this type, or does not have a public key for its algorithm.
    pub fn read(text: &'p str) -> Result<Self, ProofFault> {
        let jws = parse::split(text, MAX_BYTES).map_err(ProofFault::Malformed)?;
        if jws.header.media_type.as_deref() != Some(TYPE) {
            return Err(ProofFault::WrongType);
        }
        let algorithm = jws.header.algorithm;
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(ProofFault::WrongAlgorithm);
        }
        let header = parse::header(&jws).map_err(ProofFault::Malformed)?;
        let Some(key @ JsonRef::Object(_)) = header.get("jwk") else {
            return Err(ProofFault::UnusableKey);
        };
        let key = jwks::embedded(&key.to_value(), algorithm);
        Ok(Self { jws, key: key.map_err(|_| ProofFault::UnusableKey)? })
    }

    /// Whether the proof is for this request and this token.
    fn check_request(&self, proven: &Proven<'_>) -> Result<(), ProofFault> {
        if self.text("htm")? != proven.method {
            return Err(ProofFault::WrongMethod);
        }
        let uri = self.text("htu")?;
        if !(proven.is_target)(uri) {
            // A query may hold a token, and what precedes an `@` a password.
            let shown = uri.split(['?', '#']).next().filter(|uri| !uri.contains('@'));
            return Err(ProofFault::WrongUri(Shown::new(shown.unwrap_or("(not shown)"))));
        }
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, proven.token.as_bytes()));
        if self.text("ath")? == hash { Ok(()) } else { Err(ProofFault::WrongToken) }
    }

    fn issued_at(&self) -> Result<Timestamp, ProofFault> {
        let time = claims::time(&self.jws.claims, "iat").map_err(ProofFault::Malformed)?;
        time.ok_or_else(|| missing("iat"))
    }

    fn id(&self) -> Result<&str, ProofFault> {
        let id = self.text("jti")?;
        if id.len() <= MAX_ID_BYTES { Ok(id) } else { Err(ProofFault::LongId) }
    }

    fn text(&self, claim: &'static str) -> Result<&str, ProofFault> {
        let text = claims::text(&self.jws.claims, claim).map_err(ProofFault::Malformed)?;
        text.ok_or_else(|| missing(claim))
    }

    fn check_signature(&self) -> Result<(), ProofFault> {
        let key = self.key.verifying_key().map_err(|_| ProofFault::UnusableKey)?;
        if key.verifies(&self.jws) { Ok(()) } else { Err(ProofFault::BadSignature) }
    }
}

fn missing(claim: &str) -> ProofFault {
    ProofFault::Malformed(VerifyError::MissingClaim(claim.into()))
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

// === impl ProofFault ===

impl ProofFault {
    /// The stable code for logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing => "no_proof",
            Self::Several => "several_proofs",
            Self::Malformed(_) => "malformed_proof",
            Self::WrongType => "wrong_proof_type",
            Self::WrongAlgorithm => "wrong_proof_algorithm",
            Self::UnusableKey => "unusable_proof_key",
            Self::WrongKey => "wrong_proof_key",
            Self::WrongMethod => "wrong_method",
            Self::WrongUri(_) => "wrong_uri",
            Self::WrongToken => "wrong_token",
            Self::LongId => "long_id",
            Self::OutsideWindow => "outside_window",
            Self::BadSignature => "bad_proof_signature",
            Self::Replayed => "replayed",
        }
    }

    /// The code and its subject, for the decision log.
    #[must_use]
    pub fn detail(&self) -> String {
        let code = self.code();
        match self {
            Self::Malformed(cause) => format!("{code}: {}", cause.detail()),
            Self::WrongUri(uri) => format!("{code}: {uri}"),
            _ => code.to_owned(),
        }
    }
}

impl From<ProofFault> for NotProven {
    fn from(fault: ProofFault) -> Self {
        Self::Fault(fault)
    }
}

#[cfg(test)]
mod tests;
