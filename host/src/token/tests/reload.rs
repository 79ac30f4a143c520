//! Keys that change while tokens are being verified.

use super::*;
use crate::drain;

fn jwks(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn token(signer: &Signer, kid: &str) -> String {
    signer.token_with_header(Algorithm::ES256, &json!({ "kid": kid }), &claims(json!({})))
}

#[test]
fn a_removed_key_verifies_nothing_any_more_not_even_remembered_tokens() {
    let (files, old, new) = (Files::new(), Signer::p256(), Signer::p256());
    let (old_jwk, new_jwk) = (old.jwk(json!({"kid": "old"})), new.jwk(json!({"kid": "new"})));
    let mut single =
        Single::new(json!([files.jwks("jwks", std::slice::from_ref(&old_jwk))]), json!({}));
    let (old, new) = (token(&old, "old"), token(&new, "new"));
    assert_eq!((single.verdict(&old), single.verdict(&new)), ("ok", "unknown_key"));

    files.replace("jwks", jwks(&[old_jwk, new_jwk.clone()]));
    single.reloader.reload_changed();
    assert_eq!((single.verdict(&old), single.verdict(&new)), ("ok", "ok"));

    files.replace("jwks", jwks(&[new_jwk]));
    single.reloader.reload_changed();
    assert_eq!((single.verdict(&old), single.verdict(&new)), ("unknown_key", "ok"));
    assert_eq!(single.verifier.key_generation(), 2);
    assert_eq!(single.verifier.reload_failures(), 0);
}

#[test]
fn a_changed_secret_takes_the_place_of_the_old_one() {
    let files = Files::new();
    let mut single = Single::hmac(&files, json!({}));
    let old = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
    assert_eq!(single.verdict(&old), "ok");
    files.write("secret", [b'y'; 33]);
    single.reloader.reload_changed();
    assert_eq!(single.verdict(&old), "bad_signature");
    let new = Signer::Hmac(vec![b'y'; 33]).token(Algorithm::HS256, &claims(json!({})));
    assert_eq!(single.verdict(&new), "ok");
}

#[test]
fn a_bad_file_keeps_the_old_keys_until_a_good_one_comes() {
    let (files, signer, other) = (Files::new(), Signer::p256(), Signer::p256());
    let jwk = signer.jwk(json!({"kid": "a"}));
    let mut single = Single::new(json!([files.jwks("jwks", &[jwk])]), json!({}));
    let good = token(&signer, "a");
    let twice = [other.jwk(json!({"kid": "a"})), other.jwk(json!({"kid": "a"}))];
    for (index, bad) in
        ["", "{\"keys\": [", "{\"keys\": []}", "not JSON", &jwks(&twice)].iter().enumerate()
    {
        files.replace("jwks", bad);
        single.reloader.reload_changed();
        assert_eq!(single.verdict(&good), "ok", "{bad}");
        // The same bad file is complained about once.
        single.reloader.reload_changed();
        assert_eq!(single.verifier.reload_failures(), index as u64 + 1);
    }
    std::fs::remove_file(files.path("jwks")).unwrap();
    single.reloader.reload_changed();
    assert_eq!((single.verdict(&good), single.verifier.key_generation()), ("ok", 0));

    files.replace("jwks", jwks(&[other.jwk(json!({"kid": "b"}))]));
    single.reloader.reload_changed();
    assert_eq!(single.verdict(&good), "unknown_key");
    assert_eq!(single.verdict(&token(&other, "b")), "ok");
}

#[test]
fn a_bad_file_does_not_keep_the_key_of_another_file_alive() {
    let (files, a, b) = (Files::new(), Signer::p256(), Signer::p256());
    let first = files.jwks("first", &[a.jwk(json!({"kid": "a"}))]);
    let second = files.jwks("second", &[b.jwk(json!({"kid": "b"}))]);
    let mut single = Single::new(json!([first, second]), json!({}));
    let (of_a, of_b) = (token(&a, "a"), token(&b, "b"));
    assert_eq!((single.verdict(&of_a), single.verdict(&of_b)), ("ok", "ok"));
    files.replace("first", "broken");
    single.reloader.reload_changed();
    files.replace("second", jwks(&[b.jwk(json!({"kid": "c"}))]));
    single.reloader.reload_changed();
    assert_eq!((single.verdict(&of_a), single.verdict(&of_b)), ("ok", "unknown_key"));
    assert_eq!(single.verdict(&token(&b, "c")), "ok");
    // An id that the other file has already.
    files.replace("second", jwks(&[b.jwk(json!({"kid": "a"}))]));
    single.reloader.reload_changed();
    assert_eq!((single.verdict(&of_a), single.verdict(&token(&b, "c"))), ("ok", "ok"));
    assert_eq!(single.verifier.reload_failures(), 2);
}

#[test]
fn unchanged_files_leave_what_is_remembered() {
    let files = Files::new();
    let mut single = Single::hmac(&files, json!({}));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
    assert_eq!(single.verdict(&token), "ok");
    single.reloader.reload_changed();
    assert_eq!((single.verifier.cached_tokens(), single.verifier.key_generation()), (1, 0));
}

#[tokio::test]
async fn the_task_follows_the_files_and_ends_with_the_drain() {
    let files = Files::new();
    let (drain, _dead) = drain::pair();
    let key = files.secret("secret", &[b'x'; 32]);
    let issuers = json!({ "main": { "keys": [key] } });
    let (verifier, reloader) = built(json!({ "reload_interval": "1ms", "issuers": issuers }));
    let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
    drain.spawn("keys", reloader.run(drain.clone()));
    files.replace("secret", [b'y'; 32]);
    let token = Signer::Hmac(vec![b'y'; 32]).token(Algorithm::HS256, &claims(json!({})));
    let replaced = async {
        while verdict(&verifier, &set, &token) != "ok" {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), replaced).await.unwrap();
    assert_eq!(drain.drain(std::time::Duration::from_secs(10)).await, 0);
}
