//! Fuzz target of JWKS files. Whatever the file holds, a token that is signed with a secret is not
//! accepted.
#![no_main]

use std::{collections::BTreeMap, path::PathBuf, sync::LazyLock, time::Duration};

use libfuzzer_sys::fuzz_target;
use portcullis::{
    token,
    token::{IssuerConfig, JwksFile, KeyConfig},
};
use portcullis_fuzz::{CLAIMS, NOW, sign};

/// Where the file is written; on a file system in memory, if the system has one.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for the file");
    folder.keep().join("jwks.json")
});

static TOKENS: LazyLock<[String; 2]> = LazyLock::new(|| {
    let with = |header: &str| sign(header.as_bytes(), CLAIMS.as_bytes());
    [with(r#"{"alg":"HS256"}"#), with(r#"{"alg":"HS256","kid":"a"}"#)]
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("the file can be written");
    let key = KeyConfig::Jwks(JwksFile { jwks_file: FILE.clone() });
    let issuers = BTreeMap::from([("one".to_owned(), IssuerConfig::new(vec![key]))]);
    let tokens = token::TokensConfig { cache_capacity: 0, ..token::TokensConfig::default() };
    match token::build(&issuers, &tokens, Duration::from_secs(5)) {
        Ok((verifier, _)) => {
            let issuers = verifier.issuer_set(&["one".to_owned()]).expect("the issuer");
            for token in &*TOKENS {
                assert!(verifier.verify(token, &issuers, NOW).is_err());
            }
        }
        Err(error) => drop(error.to_string()),
    }
});
