//! Tests with forged tokens, made to be accepted without being genuine.

use super::*;

/// A token with an arbitrary header, payload and signature.
fn raw(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let message = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
    format!("{message}.{}", base64url(signature))
}

#[test]
fn an_unsigned_token_is_refused_in_every_spelling() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    let good = Signer::hmac().token(Algorithm::HS256, &claims(json!({})));
    let signature = good.rsplit('.').next().unwrap();
    for alg in ["none", "None", "NONE", "nOnE", "none ", " none", "", "null", "HS256none"] {
        let header = json!({ "alg": alg });
        let unsigned = raw(&header, &claims(json!({})), b"");
        assert_ne!(single.verdict(&unsigned), "ok", "{alg:?}");
        assert_ne!(single.verdict(unsigned.trim_end_matches('.')), "ok", "{alg:?}");
        let signed = format!("{unsigned}{signature}");
        assert_eq!(single.verdict(&signed), "unsupported_algorithm", "{alg:?}");
    }
    let (message, _) = good.rsplit_once('.').unwrap();
    for stripped in [message.to_owned(), format!("{message}."), format!("{message}.AA")] {
        assert_ne!(single.verdict(&stripped), "ok", "{stripped}");
    }
}

#[test]
fn a_public_key_does_not_verify_as_a_secret() {
    let files = Files::new();
    for (signer, algorithm) in [
        (Signer::rsa(), Algorithm::RS256),
        (&Signer::p256(), Algorithm::ES256),
        (&Signer::ed25519(), Algorithm::EdDsa),
    ] {
        let (pem, jwk) = (signer.pem(), signer.jwk(json!({})));
        let keys =
            [files.pem("pem", signer, algorithm), files.jwks("jwks", std::slice::from_ref(&jwk))];
        let mut secrets = vec![
            pem.clone().into_bytes(),
            pem.trim_end().as_bytes().to_vec(),
            format!(" {pem}").into_bytes(),
            format!("{pem}\n").into_bytes(),
            pem.replace('\n', "\r\n").into_bytes(),
            signer.der(),
            jwk.to_string().into_bytes(),
            Vec::new(),
        ];
        match signer {
            Signer::Rsa(key) => secrets.push(key.public_key().as_ref().to_vec()),
            Signer::P256(key) => secrets.push(key.public_key().as_ref().to_vec()),
            Signer::Ed25519(key) => secrets.push(key.public_key().as_ref().to_vec()),
            _ => {}
        }
        for key in keys {
            let single = Single::new(json!([key]), json!({}));
            for secret in &secrets {
                for forged in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                    let token = Signer::Hmac(secret.clone()).token(forged, &claims(json!({})));
                    assert_eq!(single.verdict(&token), "wrong_algorithm", "{algorithm} {forged}");
                }
            }
        }
    }
}

#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let files = Files::new();
    let rsa: Vec<Algorithm> = Algorithm::ALL[3..9].to_vec();
    for pinned in &rsa {
        let single = Single::new(json!([files.pem("pem", Signer::rsa(), *pinned)]), json!({}));
        for used in &rsa {
            let token = Signer::rsa().token(*used, &claims(json!({})));
            let expected = if used == pinned { "ok" } else { "wrong_algorithm" };
            assert_eq!(single.verdict(&token), expected, "{used} with a key for {pinned}");
            // Signed as the key demands, but saying otherwise, and the other way round.
            if used != pinned {
                let header = json!({ "alg": used });
                let token = Signer::rsa().token_with_header(*pinned, &header, &claims(json!({})));
                assert_eq!(single.verdict(&token), "wrong_algorithm");
                let header = json!({ "alg": pinned });
                let token = Signer::rsa().token_with_header(*used, &header, &claims(json!({})));
                assert_eq!(single.verdict(&token), "bad_signature");
            }
        }
    }
}

#[test]
fn hostile_key_ids_find_no_key() {
    let files = Files::new();
    let signer = Signer::p256();
    let jwks = files.jwks("jwks", &[signer.jwk(json!({"kid": "a"}))]);
    let single = Single::new(json!([jwks]), json!({}));
    let path = files.path("jwks").display().to_string();
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        &path,
        "jwks",
        "' OR '1'='1",
        "a\u{0}",
        "a' --",
        "*",
        "a;ls",
        "%61",
        "http://evil/jwks",
        "",
        " a",
        "\u{430}",
        &"k".repeat(8000),
    ] {
        let header = json!({ "kid": kid });
        let token = signer.token_with_header(Algorithm::ES256, &header, &claims(json!({})));
        assert_eq!(single.verdict(&token), "unknown_key", "{kid:?}");
        // With an empty secret, as if the path had been read.
        let token = Signer::Hmac(Vec::new()).token_with_header(
            Algorithm::HS256,
            &header,
            &claims(json!({})),
        );
        assert_ne!(single.verdict(&token), "ok", "{kid:?}");
    }
    let header = json!({ "kid": "k".repeat(1024 * 1024) });
    let token = signer.token_with_header(Algorithm::ES256, &header, &claims(json!({})));
    assert_eq!(single.verdict(&token), "too_large");
}

#[test]
fn a_key_that_comes_with_the_token_is_not_used() {
    let files = Files::new();
    let (ours, theirs) = (Signer::p256(), Signer::p256());
    let single = Single::new(json!([files.pem("pem", &ours, Algorithm::ES256)]), json!({}));
    let canary = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys", canary.local_addr().unwrap());
    for header in [
        json!({ "jwk": theirs.jwk(json!({})) }),
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({ "x5c": [STANDARD.encode(theirs.der())] }),
        json!({ "x5t": "AA", "kid": url }),
    ] {
        let forged = theirs.token_with_header(Algorithm::ES256, &header, &claims(json!({})));
        assert_eq!(single.verdict(&forged), "bad_signature", "{header}");
        let genuine = ours.token_with_header(Algorithm::ES256, &header, &claims(json!({})));
        assert_eq!(single.verdict(&genuine), "ok", "{header}");
    }
    let connection = canary.accept().unwrap_err();
    assert_eq!(connection.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_header_that_changes_the_meaning_is_refused_even_if_it_is_signed() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({}));
    for header in [
        json!({ "crit": ["exp"] }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "b64": false }),
        json!({ "zip": "DEF" }),
        json!({ "enc": "A128GCM" }),
    ] {
        let token = Signer::hmac().token_with_header(Algorithm::HS256, &header, &claims(json!({})));
        assert_eq!(single.verdict(&token), "unsupported_header", "{header}");
    }
    let encrypted = format!("{}.AA.AA.AA.AA", base64url(r#"{"alg":"dir","enc":"A128GCM"}"#));
    assert_eq!(single.verdict(&encrypted), "malformed");
}

/// Two issuers that use the same key id.
struct TwoIssuers {
    _files: Files,
    verifier: Verifier,
    a: Signer,
    b: Signer,
}

impl TwoIssuers {
    fn new() -> Self {
        let (files, a, b) = (Files::new(), Signer::p256(), Signer::p256());
        let issuer = |name: &str, signer: &Signer| {
            let keys = [files.jwks(name, &[signer.jwk(json!({"kid": "same"}))])];
            json!({ "issuer": format!("https://{name}"), "keys": keys })
        };
        let issuers = json!({ "a": issuer("a", &a), "b": issuer("b", &b) });
        let (verifier, _) = built(json!({ "issuers": issuers }));
        Self { verifier, a, b, _files: files }
    }

    fn verdict(&self, names: &[&str], signer: &Signer, claims: &Value) -> &'static str {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let set = self.verifier.issuer_set(&names).unwrap();
        let header = json!({ "kid": "same" });
        let token = signer.token_with_header(Algorithm::ES256, &header, claims);
        verdict(&self.verifier, &set, &token)
    }
}

#[test]
fn one_issuer_cannot_sign_for_another_that_uses_the_same_key_id() {
    let issuers = TwoIssuers::new();
    let (from_a, from_b) =
        (claims(json!({ "iss": "https://a" })), claims(json!({ "iss": "https://b" })));
    let both = ["a", "b"];
    assert_eq!(issuers.verdict(&both, &issuers.a, &from_a), "ok");
    assert_eq!(issuers.verdict(&both, &issuers.b, &from_b), "ok");
    assert_eq!(issuers.verdict(&both, &issuers.a, &from_b), "bad_signature");
    assert_eq!(issuers.verdict(&both, &issuers.b, &from_a), "bad_signature");
    let from_unknown = claims(json!({ "iss": "https://c" }));
    assert_eq!(issuers.verdict(&both, &issuers.a, &from_unknown), "unknown_issuer");
    assert_eq!(issuers.verdict(&both, &issuers.a, &claims(json!({}))), "missing_claim");
}

#[test]
fn a_route_accepts_its_own_issuers_only() {
    let issuers = TwoIssuers::new();
    let from_a = claims(json!({ "iss": "https://a" }));
    assert_eq!(issuers.verdict(&["a"], &issuers.a, &from_a), "ok");
    assert_eq!(issuers.verdict(&["b"], &issuers.a, &from_a), "unknown_issuer");
    assert_eq!(issuers.verdict(&[], &issuers.a, &from_a), "unknown_issuer");
    assert_eq!(issuers.verdict(&[], &issuers.a, &claims(json!({}))), "unknown_issuer");
}

#[test]
fn an_issuer_without_a_name_stands_in_for_no_named_one() {
    let files = Files::new();
    let (named, other) = (Signer::p256(), Signer::p256());
    let (verifier, _) = built(json!({ "issuers": {
        "named": { "issuer": "https://n", "keys": [files.pem("n", &named, Algorithm::ES256)] },
        "other": { "keys": [files.pem("o", &other, Algorithm::ES256)] },
    }}));
    let set = verifier.issuer_set(&["named".to_owned(), "other".to_owned()]).unwrap();
    let verdict = |signer: &Signer, more: Value| {
        verdict(&verifier, &set, &signer.token(Algorithm::ES256, &claims(more)))
    };
    assert_eq!(verdict(&named, json!({ "iss": "https://n" })), "ok");
    assert_eq!(verdict(&other, json!({ "iss": "https://n" })), "bad_signature");
    assert_eq!(verdict(&other, json!({ "iss": "https://x" })), "ok");
    assert_eq!(verdict(&other, json!({})), "ok");
    assert_eq!(verdict(&named, json!({})), "bad_signature");
}

#[test]
fn issuers_that_cannot_be_told_apart_are_not_accepted_together() {
    let files = Files::new();
    let key = files.secret("secret", &[b'x'; 32]);
    let (verifier, _) = built(json!({ "issuers": {
        "a": { "issuer": "https://n", "keys": [key] },
        "b": { "issuer": "https://n", "keys": [key] },
        "c": { "keys": [key] },
        "d": { "keys": [key] },
    }}));
    let error = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        verifier.issuer_set(&names).unwrap_err().to_string()
    };
    assert!(error(&["a", "b"]).contains("`a` and `b` cannot be told apart"));
    assert!(error(&["a", "d", "c"]).contains("`c` and `d` cannot be told apart"));
    assert_eq!(error(&["e"]), "there is no issuer `e`; the configured ones are: a, b, c, d");
    verifier.issuer_set(&["c".to_owned(), "a".to_owned(), "c".to_owned()]).unwrap();
}

#[test]
fn no_error_repeats_what_the_token_says() {
    let files = Files::new();
    let settings = json!({ "issuer": "https://id", "audiences": ["api"] });
    let single = Single::hmac(&files, settings);
    let iss = json!({ "iss": "https://id" });
    let canary = "c4n4ry";
    let with = |more: Value| {
        let mut all = claims(iss.clone());
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Signer::hmac().token(Algorithm::HS256, &all)
    };
    let kid = json!({ "kid": canary, "crit": [canary], "alg": canary });
    for token in [
        with(json!({ "iss": canary })),
        with(json!({ "aud": canary })),
        with(json!({ "exp": canary })),
        with(json!({ "sub": [canary] })),
        Signer::hmac().token_with_header(Algorithm::HS256, &kid, &claims(iss.clone())),
        format!("{canary}.{canary}.{canary}"),
    ] {
        let error = single.verifier.verify(&token, &single.set, NOW).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(canary), "{error}");
        // What the log names are the issuer and the key, which people have to look for.
        assert_eq!(error.detail().contains(canary), error.code() == "unknown_issuer", "{error}");
    }
}
