//! Fuzz target of `Authorization` headers, one a line. Only one token is genuine, and nothing that
//! differs from it passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis::token;
use portcullis_fuzz::{CLAIMS, ONE_KEY, sign};

/// The token of `seeds/authorization_header/valid`.
static GENUINE: LazyLock<String> = LazyLock::new(|| {
    let genuine = sign(br#"{"alg":"HS256"}"#, CLAIMS.as_bytes());
    assert!(ONE_KEY.verify(&genuine).is_ok(), "or nothing would be tested");
    genuine
});

fuzz_target!(|text: &str| {
    let genuine = &*GENUINE;
    let Ok(token) = token::bearer(text.split('\n')) else { return };
    assert_eq!(ONE_KEY.verify(token).is_ok(), token == genuine);
});
