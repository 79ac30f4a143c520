//! Fuzz target of `Authorization` headers, one a line. Only one token is genuine, and nothing that
//! differs from it passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use portcullis::token::Credential;
use portcullis_fuzz::{CLAIMS, ONE_KEY, sign};
use portcullis_types::attributes::{Headers, HttpAttributes};

/// The token of `seeds/authorization_header/valid`.
static GENUINE: LazyLock<String> = LazyLock::new(|| {
    let genuine = sign(br#"{"alg":"HS256"}"#, CLAIMS.as_bytes());
    assert!(ONE_KEY.verify(&genuine).is_ok(), "or nothing would be tested");
    genuine
});

fuzz_target!(|text: &str| {
    let genuine = &*GENUINE;
    let headers = text.split('\n').map(|line| ("authorization".to_owned(), line.to_owned()));
    let http = HttpAttributes { headers: Headers::new(headers), ..HttpAttributes::default() };
    let Ok(token) = Credential::default().token(&http) else { return };
    assert_eq!(ONE_KEY.verify(token).is_ok(), token == genuine);
});
