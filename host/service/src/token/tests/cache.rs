//! Tests of remembered tokens: a token never gets another one's verdict.

use proptest::{prelude::*, test_runner::TestRunner};

use super::{super::memory::bytes_of, *};

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
    let all = claims(json!({ "nbf": NOW_SECS - 10, "iat": NOW_SECS - 10 }));
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
            // Remembered again each time, should it have been evicted.
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

/// Claims as Keycloak writes them, with this many roles.
fn keycloak(number: usize, roles: usize) -> Value {
    let roles: Vec<String> = (0..roles).map(|role| format!("r{role:02}")).collect();
    json!({
        "exp": NOW_SECS + 300, "iat": NOW_SECS, "auth_time": NOW_SECS - 1,
        "jti": format!("0f1c2b3a-4d5e-4f60-8a7b-{number:012x}"),
        "iss": "https://sso.shop.example/realms/shop",
        "aud": ["shop-api", "account"],
        "sub": format!("5f0c8a54-4c5b-4f0e-9f3a-{number:012x}"),
        "typ": "Bearer", "azp": "shop-web",
        "sid": format!("7c9e6679-7425-40de-944b-{number:012x}"),
        "acr": "1", "allowed-origins": ["https://www.shop.example"],
        "realm_access": { "roles": roles },
        "resource_access": {
            "account": { "roles": ["manage-account", "manage-account-links", "view-profile"] },
        },
        "scope": "openid profile email", "email_verified": true, "name": "Mary Example",
        "preferred_username": "mary", "given_name": "Mary", "family_name": "Example",
        "email": "mary@shop.example",
    })
}

#[test]
fn a_remembered_token_of_keycloak_takes_no_more_than_1200_bytes() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let header = json!({
        "typ": "JWT", "kid": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
    });
    for roles in [6, 40] {
        let token =
            Signer::hmac().token_with_header(Algorithm::HS256, &header, &keycloak(7, roles));
        assert!((1000..1400).contains(&token.len()), "{} bytes", token.len());
        let verified = single.verifier.verify(&token, &single.set, NOW).unwrap();
        let weight = bytes_of(&verified);
        assert!(weight <= 1200, "{} bytes of token weigh {weight}", token.len());
        println!("{roles} roles: {} bytes of token weigh {weight}", token.len());
    }
}

#[test]
fn expired_tokens_leave_and_good_ones_stay() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    for number in 0..100_i64 {
        let all = claims(json!({ "jti": number.to_string(), "exp": NOW_SECS + number }));
        assert_eq!(single.verdict(&Signer::hmac().token(Algorithm::HS256, &all)), "ok");
    }
    assert_eq!(single.verifier.cached_tokens(), 100);
    // Five seconds of leeway: those up to 45 are over.
    single.verifier.forget_expired(Timestamp::from_secs(NOW_SECS + 50));
    assert_eq!(single.verifier.cached_tokens(), 54);
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
    assert!(verifier.cached_tokens() <= 50, "{}", verifier.cached_tokens());
    for number in 0..50 {
        let all = claims(json!({ "jti": number.to_string(), "large": "x".repeat(8000) }));
        assert_eq!(verdict(&verifier, &set, &signer.token(Algorithm::HS256, &all)), "ok");
    }
    assert!(verifier.cached_bytes() <= 50 * 1200, "{}", verifier.cached_bytes());
}
