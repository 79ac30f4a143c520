//! Shared parts of the fuzz targets: a verifier with one key, and that key to sign with.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis::{
    token,
    token::{Algorithm, IssuerConfig, IssuerSet, KeyConfig, SecretFile, Verifier},
};
use portcullis_types::timestamp::Timestamp;

/// When everything takes place.
pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// The claims of a token that is good at [`NOW`].
pub const CLAIMS: &str = r#"{"sub":"u1","jti":"t1","exp":1700000600}"#;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A verifier of tokens that are signed with one secret.
pub struct OneKey {
    verifier: Verifier,
    issuers: IssuerSet,
}

/// The verifier of all targets. It remembers nothing, so that each run is like the first.
pub static ONE_KEY: LazyLock<OneKey> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the key");
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, SECRET).expect("a file for the key");
    let key = SecretFile {
        secret_file,
        algorithm: Algorithm::HS256,
        kid: None,
        allow_short_secret: false,
    };
    let issuer = IssuerConfig::new(vec![KeyConfig::Secret(key)]);
    let issuers = BTreeMap::from([("one".to_owned(), issuer)]);
    let tokens = token::TokensConfig { cache_capacity: 0, ..token::TokensConfig::default() };
    let (verifier, _) =
        token::build(&issuers, &tokens, Duration::from_secs(5)).expect("a verifier");
    let issuers = verifier.issuer_set(&["one".to_owned()]).expect("the issuer");
    OneKey { verifier, issuers }
});

impl OneKey {
    /// Verifies a token.
    pub fn verify(
        &self,
        token: &str,
    ) -> Result<std::sync::Arc<token::VerifiedToken>, token::VerifyError> {
        self.verifier.verify(token, &self.issuers, NOW)
    }
}

/// A token with this header and payload, signed with the key.
pub fn sign(header: &[u8], payload: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}
