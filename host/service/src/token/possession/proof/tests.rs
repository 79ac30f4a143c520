//! Tests of proofs with the examples of RFC 9449, and of what cannot be taken apart.

use proptest::prelude::*;
use serde_json::json;

use super::{super::binding::thumbprint, *};

/// RFC 9449 section 4.2, a proof for the token endpoint.
const OF_TOKEN_REQUEST: &str = concat!(
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoU",
    "klDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWcl",
    "UwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dS",
    "I6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-Fd",
    "WP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg",
);

/// RFC 9449 section 7.1, a proof for a protected resource.
const OF_RESOURCE_REQUEST: &str = concat!(
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoU",
    "klDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWcl",
    "UwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1Ij",
    "oiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXR",
    "oIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EO",
    "ptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA",
);

/// Section 7.1.
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
/// Section 6.1.
const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
const URI: &str = "https://resource.example.org/protectedresource";
const ISSUED_AT: i64 = 1_562_262_618;

/// What is asked about the proof of a resource request.
struct Asked {
    proofs: Vec<&'static str>,
    key: &'static str,
    token: &'static str,
    method: &'static str,
    uri: &'static str,
    secs: i64,
}

impl Default for Asked {
    fn default() -> Self {
        let proofs = vec![OF_RESOURCE_REQUEST];
        Self { proofs, key: JKT, token: TOKEN, method: "GET", uri: URI, secs: ISSUED_AT }
    }
}

fn proofs() -> Proofs {
    Proofs::new(&DpopConfig::default(), None).unwrap()
}

fn asked(proofs: &Proofs, asked: &Asked) -> &'static str {
    let is_target = |uri: &str| uri == asked.uri;
    let proven = Proven {
        key: &thumbprint(asked.key).unwrap(),
        token: asked.token,
        method: asked.method,
        is_target: &is_target,
    };
    match proofs.check(asked.proofs.iter().copied(), &proven, Timestamp::from_secs(asked.secs)) {
        Ok(()) => "ok",
        Err(NotProven::Fault(fault)) => {
            assert!(fault.detail().starts_with(fault.code()));
            fault.code()
        }
        Err(NotProven::NonceNeeded(_)) => "nonce_needed",
        Err(NotProven::Full) => "full",
    }
}

#[test]
fn the_examples_of_the_rfc_are_taken_apart() {
    for proof in [OF_TOKEN_REQUEST, OF_RESOURCE_REQUEST] {
        let proof = Proof::read(proof).unwrap();
        assert_eq!(proof.key.thumbprint(), thumbprint(JKT));
        assert_eq!(proof.check_signature(), Ok(()));
    }
    let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, TOKEN.as_bytes()));
    assert_eq!(ath, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
}

#[test]
fn the_example_of_a_resource_request_is_accepted_once() {
    let proofs = proofs();
    assert_eq!(asked(&proofs, &Asked::default()), "ok");
    assert_eq!(proofs.remembered(), 1);
    assert_eq!(asked(&proofs, &Asked::default()), "replayed");
    let later = Asked { secs: ISSUED_AT + 59, ..Asked::default() };
    assert_eq!(asked(&proofs, &later), "replayed");
}

#[test]
fn a_proof_is_for_one_request_one_token_and_one_key() {
    let other_key = "AAAAORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I0";
    for (bad, code) in [
        (Asked { method: "POST", ..Asked::default() }, "wrong_method"),
        (Asked { method: "get", ..Asked::default() }, "wrong_method"),
        (Asked { uri: "https://resource.example.org/", ..Asked::default() }, "wrong_uri"),
        (Asked { token: "Kz~8mXK1", ..Asked::default() }, "wrong_token"),
        (Asked { key: other_key, ..Asked::default() }, "wrong_proof_key"),
        (Asked { secs: ISSUED_AT - 61, ..Asked::default() }, "outside_window"),
        (Asked { secs: ISSUED_AT + 60, ..Asked::default() }, "outside_window"),
        (Asked { proofs: vec![], ..Asked::default() }, "no_proof"),
        (Asked { proofs: vec![""], ..Asked::default() }, "no_proof"),
        (Asked { proofs: vec![OF_RESOURCE_REQUEST; 2], ..Asked::default() }, "several_proofs"),
        (Asked { proofs: vec!["", OF_RESOURCE_REQUEST], ..Asked::default() }, "several_proofs"),
        (Asked { proofs: vec!["a,b"], ..Asked::default() }, "several_proofs"),
        // It is for another method, and has no `ath` at all.
        (Asked { proofs: vec![OF_TOKEN_REQUEST], ..Asked::default() }, "wrong_method"),
    ] {
        let proofs = proofs();
        assert_eq!(asked(&proofs, &bad), code);
        assert_eq!(proofs.remembered(), 0, "{code}");
    }
    let of_token_request = Asked {
        proofs: vec![OF_TOKEN_REQUEST],
        method: "POST",
        uri: "https://server.example.com/token",
        secs: 1_562_262_616,
        ..Asked::default()
    };
    assert_eq!(asked(&proofs(), &of_token_request), "malformed_proof");
    for secs in [ISSUED_AT - 60, ISSUED_AT + 59] {
        assert_eq!(asked(&proofs(), &Asked { secs, ..Asked::default() }), "ok", "{secs}");
    }
}

#[test]
fn settings_that_accept_nothing_or_too_much_are_refused() {
    for (settings, setting) in [
        (json!({"window": "500ms"}), "tokens.dpop.window"),
        (json!({"window": "11m"}), "tokens.dpop.window"),
        (json!({"remembered_proofs": 0}), "tokens.dpop.remembered_proofs"),
    ] {
        let config: DpopConfig = serde_json::from_value(settings).unwrap();
        let error = Proofs::new(&config, None).unwrap_err().to_string();
        assert!(error.contains(setting), "{error}");
    }
}

proptest! {
    #[test]
    fn no_change_of_a_proof_is_accepted(place in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
        let at = place.index(OF_RESOURCE_REQUEST.len());
        let mut changed = OF_RESOURCE_REQUEST.to_owned();
        changed.replace_range(at..=at, &byte);
        let read = Proof::read(&changed);
        let is_good = read.is_ok_and(|proof| proof.check_signature().is_ok());
        prop_assert_eq!(is_good, changed == OF_RESOURCE_REQUEST);
    }

    #[test]
    fn no_header_makes_it_panic(
        kty in "EC|OKP|RSA|oct|x",
        crv in "P-256|P-384|P-521|Ed25519|X25519|x",
        alg in "ES256|ES384|EdDSA|RS256|PS256|HS256|none",
        number in "[A-Za-z0-9_=\"-]{0,50}",
    ) {
        let jwk = json!({"kty": kty, "crv": crv, "x": number, "y": number, "n": number, "e": "AQAB"});
        let header = json!({"typ": "dpop+jwt", "alg": alg, "jwk": jwk}).to_string();
        let text = format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header));
        if let Ok(proof) = Proof::read(&text) {
            let _ = proof.key.thumbprint();
            prop_assert!(proof.check_signature().is_err());
        }
    }
}
