//! Remembered tokens: never another one's verdict.

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

#[test]
fn a_remembered_token_is_the_same_value() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
    let verify = || single.verifier.verify(&token, &single.set, NOW).unwrap();
    assert!(std::sync::Arc::ptr_eq(&verify(), &verify()));
    assert_eq!(single.verifier.cached_tokens(), 1);
}

#[test]
fn a_refused_token_is_not_remembered() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({ "exp": 1 })));
    assert_eq!(single.verdict(&token), "expired");
    assert_eq!(single.verifier.cached_tokens(), 0);
}

#[test]
fn a_remembered_token_expires_and_a_clock_that_steps_back_is_followed() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let all = claims(json!({ "nbf": NOW_SECS - 10 }));
    let token = Signer::hmac().token(Algorithm::HS256, &all);
    for (offset, expected) in [
        (0, "ok"),
        (64, "ok"),
        (65, "expired"),
        (120, "expired"),
        (0, "ok"),
        (-15, "ok"),
        (-16, "not_yet_valid"),
        (-120, "not_yet_valid"),
    ] {
        let now = Timestamp::from_secs(NOW_SECS + offset);
        let verified = single.verifier.verify(&token, &single.set, now);
        let verdict = verified.map_or_else(|error| error.code(), |_| "ok");
        assert_eq!(verdict, expected, "{offset}");
    }
}

#[test]
fn a_token_is_not_remembered_for_issuers_that_did_not_verify_it() {
    let files = Files::new();
    let (a, b) = (Signer::p256(), Signer::p256());
    let (verifier, _) = built(json!({ "issuers": {
        "a": { "keys": [files.pem("a", &a, Algorithm::ES256)] },
        "b": { "keys": [files.pem("b", &b, Algorithm::ES256)] },
    }}));
    let set = |name: &str| verifier.issuer_set(&[name.to_owned()]).unwrap();
    let token = a.token(Algorithm::ES256, &claims(json!({})));
    assert_eq!(verdict(&verifier, &set("a"), &token), "ok");
    assert_eq!(verdict(&verifier, &set("b"), &token), "bad_signature");
    assert_eq!(verdict(&verifier, &verifier.issuer_set(&[]).unwrap(), &token), "unknown_issuer");
    // Two routes with the same issuers share what is remembered.
    assert_eq!(verdict(&verifier, &set("a"), &token), "ok");
    assert_eq!(verifier.cached_tokens(), 1);
}

#[test]
fn a_set_of_another_verifier_accepts_nothing() {
    let files = Files::new();
    let (one, other) = (Single::hmac(&files, json!({})), Single::hmac(&files, json!({})));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
    assert_eq!(verdict(&one.verifier, &one.set, &token), "ok");
    assert_eq!(verdict(&one.verifier, &other.set, &token), "unknown_issuer");
}

#[test]
fn tokens_that_share_almost_everything_are_different_tokens() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({ "role": "user" })));
    assert_eq!(single.verdict(&token), "ok");
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let other = base64url(claims(json!({ "role": "root" })).to_string());
    let forged = Signer::Hmac(b"guess".to_vec());
    for token in [
        format!("{header}.{other}.{signature}"),
        format!("{message}.{}", base64url(forged.sign(Algorithm::HS256, message.as_bytes()))),
        forged.token(Algorithm::HS256, &claims(json!({ "role": "user" }))),
        format!("{header}.{payload}.{}", base64url(b"another signature")),
    ] {
        assert_eq!(single.verdict(&token), "bad_signature");
    }
}

#[test]
fn no_mutation_of_a_remembered_token_is_accepted() {
    const ALPHABET: &[u8] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ ,";
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
    let byte = || prop::sample::select(ALPHABET);
    let mutation = (0..4, any::<prop::sample::Index>(), any::<prop::sample::Index>(), byte());
    let strategy = prop::collection::vec(mutation, 1..4);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(20_000));
    runner
        .run(&strategy, |mutations| {
            // Remembered anew each time, should it have been evicted.
            prop_assert_eq!(single.verdict(&token), "ok");
            let mut mutated = token.clone().into_bytes();
            for (kind, at, other, byte) in mutations {
                let (at, other) = (at.index(mutated.len()), other.index(mutated.len()));
                match kind {
                    0 => mutated[at] = byte,
                    1 => mutated.insert(at, byte),
                    2 => mutated.swap(at, other),
                    _ => mutated.truncate(at.max(1)),
                }
            }
            let mutated = String::from_utf8(mutated).unwrap();
            prop_assert!(mutated == token || single.verdict(&mutated) != "ok", "{}", mutated);
            Ok(())
        })
        .unwrap();
}

#[test]
fn nothing_is_remembered_with_a_capacity_of_zero() {
    let files = Files::new();
    let key = files.secret("secret", &[b'x'; 32]);
    let issuers = json!({ "main": { "keys": [key] } });
    let (verifier, _) = built(json!({ "cache_capacity": 0, "issuers": issuers }));
    let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
    let token = Signer::Hmac(vec![b'x'; 32]).token(Algorithm::HS256, &claims(json!({})));
    assert_eq!(verdict(&verifier, &set, &token), "ok");
    assert_eq!(verdict(&verifier, &set, &token), "ok");
    assert_eq!(verifier.cached_tokens(), 0);
}

#[test]
fn the_capacity_bounds_what_is_remembered() {
    let files = Files::new();
    let key = files.secret("secret", &[b'x'; 32]);
    let issuers = json!({ "main": { "keys": [key] } });
    let (verifier, _) = built(json!({ "cache_capacity": 50, "issuers": issuers }));
    let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
    let signer = Signer::Hmac(vec![b'x'; 32]);
    for number in 0..500 {
        let all = claims(json!({ "jti": number.to_string() }));
        let token = signer.token(Algorithm::HS256, &all);
        assert_eq!(verdict(&verifier, &set, &token), "ok");
    }
    assert!(verifier.cached_tokens() <= 64, "{}", verifier.cached_tokens());
    for number in 0..50 {
        let all = claims(json!({ "jti": number.to_string(), "large": "x".repeat(8000) }));
        assert_eq!(verdict(&verifier, &set, &signer.token(Algorithm::HS256, &all)), "ok");
    }
    assert!(verifier.cached_tokens() <= 64, "{}", verifier.cached_tokens());
}
