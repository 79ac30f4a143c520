//! Memory of the token cache: resident memory of a process that has verified many different tokens,
//! each once, with the default configuration.
//!
//! The tokens resemble those of Keycloak. They are signed with a shared secret, because signing so
//! many with RSA would take minutes.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;

use crate::{
    load::{LoadError, Target},
    proc::Memory,
    request::Check,
    revocations::{FIRST_VALID, token_id},
    token::{AUDIENCE, ISSUER},
};

/// The result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    /// The number of tokens that the process has verified.
    pub(crate) tokens: u64,
    /// The size of each.
    pub(crate) token_bytes: usize,
    /// Memory before the first.
    pub(crate) before: Memory,
    /// Memory after the last.
    pub(crate) after: Memory,
}

/// Sends each token once, and reads the memory before and after.
pub(crate) fn measure(target: &Target, secret: &str, tokens: u64) -> Result<Remembered, LoadError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let before = Memory::read(target.pid)?;
    let mut token_bytes = 0;
    target.ask_each((0..tokens).map(|n| {
        let subject = token_id(FIRST_VALID + 2 * n);
        let token = keycloak(&key, &subject, &token_id(FIRST_VALID + 2 * n + 1));
        token_bytes = token.len();
        Check::new(&token, subject)
    }))?;
    Ok(Remembered { tokens, token_bytes, before, after: Memory::read(target.pid)? })
}

/// A token of about 1.2 KB.
fn keycloak(key: &hmac::Key, subject: &str, token_id: &str) -> String {
    let now = Timestamp::now();
    let kid = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid});
    let claims = json!({
        "exp": (now + 24.hours()).as_second(), "iat": now.as_second(), "auth_time": now.as_second(),
        "jti": token_id, "iss": ISSUER, "aud": [AUDIENCE, "account"], "sub": subject,
        "typ": "Bearer", "azp": "shop-web", "sid": subject, "acr": "1",
        "allowed-origins": ["https://www.shop.example"],
        "realm_access": {
            "roles": ["default-roles-shop", "offline_access", "uma_authorization", "customer"],
        },
        "resource_access": {
            "account": {"roles": ["manage-account", "manage-account-links", "view-profile"]},
        },
        "scope": "openid email profile orders:read orders:write", "email_verified": true,
        "name": "Mary Example", "preferred_username": "mary", "given_name": "Mary",
        "family_name": "Example", "email": "mary@shop.example",
        "type": "access", "provider": "google",
    });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(key, message.as_bytes()));
    format!("{message}.{signature}")
}
