//! Fuzz target of what requests with bound tokens show: the first line is a header
//! `x-forwarded-client-cert`, the second the header of a proof and the third its payload, both as JSON; the
//! rest is a whole proof.
#![no_main]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use libfuzzer_sys::fuzz_target;
use portcullis::token::{Proof, forwarded_certificate};

/// Which no header of a client has in front of its own.
const PROXYS: &str = "Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;URI=";

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(4, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (header, proof_header, payload, proof) = (line(), line(), line(), line());

    // One header has one number of elements.
    let read = (1..=3).filter(|elements| forwarded_certificate(header, *elements).is_ok()).count();
    assert!(read <= 1);
    // Whatever a client has for an identity in its certificate, the hash is the one of its certificate.
    if let Ok(hash) = forwarded_certificate(&format!("{PROXYS}{header}"), 1) {
        assert_eq!(hash[..2], [0x46, 0x8e]);
    }

    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let made = format!("{}.{}.{}", encode(proof_header), encode(payload), encode("signature"));
    for proof in [made.as_str(), proof] {
        match Proof::read(proof) {
            Ok(read) => drop(format!("{read:?}")),
            Err(fault) => assert!(fault.detail().starts_with(fault.code())),
        }
    }
});
