//! Fuzz target of token claims: the first line is the header of a token, the rest its payload; the
//! signature is genuine. What is accepted has the claims that an issuer requires by default.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{NOW, ONE_KEY, sign};

/// The default of `issuers.NAME.leeway`.
const LEEWAY: Duration = Duration::from_secs(5);

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (header, payload) = bytes.split_at(end);
    match ONE_KEY.verify(&sign(header, payload.get(1..).unwrap_or_default())) {
        Ok(token) => {
            assert!(token.subject().is_some());
            assert!(token.token_id().is_some());
            assert!(token.expires_at().is_some_and(|at| at.plus(LEEWAY) > NOW));
        }
        Err(error) => drop(error.to_string()),
    }
});
