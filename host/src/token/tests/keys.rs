//! Which keys are taken, and what they verify.

use super::*;

#[test]
fn every_algorithm_verifies_with_its_key() {
    let files = Files::new();
    for algorithm in Algorithm::ALL {
        let signer = match algorithm.name() {
            "ES256" => &Signer::p256(),
            "ES384" => &Signer::p384(),
            "EdDSA" => &Signer::ed25519(),
            name if name.starts_with("HS") => &Signer::hmac(),
            _ => Signer::rsa(),
        };
        let token = signer.token(algorithm, &claims(json!({})));
        let mut keys = Vec::new();
        if let Signer::Hmac(secret) = signer {
            let path = files.write("secret", secret);
            keys.push(json!({ "secret_file": path, "algorithm": algorithm }));
        } else {
            keys.push(files.pem("pem", signer, algorithm));
            keys.push(files.jwks("jwks", &[signer.jwk(json!({ "alg": algorithm }))]));
        }
        for key in keys {
            let single = Single::new(json!([key]), json!({}));
            assert_eq!(single.verdict(&token), "ok", "{algorithm} {key}");
            let mut forged = token.clone();
            let last = forged.pop().unwrap();
            forged.push(if last == 'A' { 'Q' } else { 'A' });
            assert_ne!(single.verdict(&forged), "ok", "{algorithm} {key}");
        }
    }
}

#[test]
fn a_key_without_algorithm_gets_the_one_of_its_type() {
    let files = Files::new();
    for (signer, algorithm, other) in [
        (Signer::rsa(), Algorithm::RS256, Algorithm::PS256),
        (&Signer::p256(), Algorithm::ES256, Algorithm::ES384),
        (&Signer::p384(), Algorithm::ES384, Algorithm::ES256),
        (&Signer::ed25519(), Algorithm::EdDsa, Algorithm::RS256),
    ] {
        let single = Single::new(json!([files.jwks("jwks", &[signer.jwk(json!({}))])]), json!({}));
        assert_eq!(single.verdict(&signer.token(algorithm, &claims(json!({})))), "ok");
        let header = json!({ "alg": other });
        let token = signer.token_with_header(other, &header, &claims(json!({})));
        assert_eq!(single.verdict(&token), "wrong_algorithm", "{other}");
    }
}

#[test]
fn an_rsa_key_in_pkcs1_format_is_taken() {
    let files = Files::new();
    let Signer::Rsa(key) = Signer::rsa() else { unreachable!() };
    let path = files.write("pem", pem("RSA PUBLIC KEY", key.public_key().as_ref()));
    let single = Single::new(json!([{ "pem_file": path, "algorithm": "PS384" }]), json!({}));
    let token = Signer::rsa().token(Algorithm::PS384, &claims(json!({})));
    assert_eq!(single.verdict(&token), "ok");
}

#[test]
fn leading_zeros_of_an_rsa_modulus_do_not_matter() {
    let files = Files::new();
    let Signer::Rsa(key) = Signer::rsa() else { unreachable!() };
    let mut modulus = vec![0];
    modulus.extend(RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key()).n);
    let jwk = Signer::rsa().jwk(json!({ "n": base64url(modulus) }));
    let single = Single::new(json!([files.jwks("jwks", &[jwk])]), json!({}));
    let token = Signer::rsa().token(Algorithm::RS256, &claims(json!({})));
    assert_eq!(single.verdict(&token), "ok");
}

#[test]
fn a_key_id_selects_its_key_and_no_other() {
    let files = Files::new();
    let (a, b) = (Signer::p256(), Signer::p256());
    let jwks = files.jwks("jwks", &[a.jwk(json!({"kid": "a"})), b.jwk(json!({"kid": "b"}))]);
    let single = Single::new(json!([jwks]), json!({}));
    let verdict = |signer: &Signer, header: Value| {
        single.verdict(&signer.token_with_header(Algorithm::ES256, &header, &claims(json!({}))))
    };
    assert_eq!(verdict(&a, json!({"kid": "a"})), "ok");
    assert_eq!(verdict(&b, json!({"kid": "b"})), "ok");
    assert_eq!(verdict(&b, json!({"kid": "a"})), "bad_signature");
    assert_eq!(verdict(&a, json!({"kid": "A"})), "unknown_key");
    assert_eq!(verdict(&a, json!({"kid": ""})), "unknown_key");
    // Either key could be meant.
    assert_eq!(verdict(&a, json!({})), "unknown_key");
}

#[test]
fn a_token_without_key_id_is_verified_with_the_only_key_for_its_algorithm() {
    let files = Files::new();
    let (ec, ed) = (Signer::p256(), Signer::ed25519());
    let jwks = files.jwks("jwks", &[ec.jwk(json!({"kid": "ec"})), ed.jwk(json!({"kid": "ed"}))]);
    let single = Single::new(json!([jwks]), json!({}));
    assert_eq!(single.verdict(&ec.token(Algorithm::ES256, &claims(json!({})))), "ok");
    assert_eq!(single.verdict(&ed.token(Algorithm::EdDsa, &claims(json!({})))), "ok");
    let rsa = Signer::rsa().token(Algorithm::RS256, &claims(json!({})));
    assert_eq!(single.verdict(&rsa), "wrong_algorithm");
}

#[test]
fn keys_without_id_verify_tokens_whatever_key_they_name() {
    let files = Files::new();
    let (old, new, named) = (Signer::p256(), Signer::p256(), Signer::p256());
    let single = Single::new(
        json!([
            files.pem("old", &old, Algorithm::ES256),
            files.pem("new", &new, Algorithm::ES256),
            files.jwks("jwks", &[named.jwk(json!({"kid": "named"}))]),
        ]),
        json!({}),
    );
    let verdict = |signer: &Signer, header: Value| {
        single.verdict(&signer.token_with_header(Algorithm::ES256, &header, &claims(json!({}))))
    };
    for signer in [&old, &new] {
        assert_eq!(verdict(signer, json!({})), "ok");
        assert_eq!(verdict(signer, json!({"kid": "whatever"})), "ok");
        assert_eq!(verdict(signer, json!({"kid": "named"})), "bad_signature");
    }
    assert_eq!(verdict(&named, json!({"kid": "named"})), "ok");
    assert_eq!(verdict(&named, json!({})), "bad_signature");
}

#[test]
fn unusable_keys_of_a_set_are_never_selected() {
    let files = Files::new();
    let (good, ed) = (Signer::p256(), Signer::ed25519());
    let weak = |n: &[u8], e: &[u8]| json!({ "kty": "RSA", "n": base64url(n), "e": base64url(e) });
    let with_kid = |mut jwk: Value, kid: &str| {
        jwk["kid"] = json!(kid);
        jwk
    };
    let Signer::Rsa(rsa) = Signer::rsa() else { unreachable!() };
    let modulus = RsaPublicKeyComponents::<Vec<u8>>::from(rsa.public_key()).n;
    let keys = [
        with_kid(weak(&[0xff; 128], &[1, 0, 1]), "1024 bits"),
        with_kid(weak(&modulus, &[1]), "e=1"),
        with_kid(weak(&modulus, &[2]), "e=2"),
        Signer::hmac().jwk(json!({"kid": "oct"})),
        Signer::hmac().jwk(json!({"kid": "oct with alg", "alg": "HS256"})),
        Signer::rsa().jwk(json!({"kid": "for encryption", "use": "enc"})),
        Signer::rsa().jwk(json!({"kid": "for signing", "key_ops": ["sign"]})),
        Signer::rsa().jwk(json!({"kid": "other family", "alg": "HS256"})),
        Signer::rsa().jwk(json!({"kid": "other curve", "alg": "ES256"})),
        Signer::rsa().jwk(json!({"kid": "unknown alg", "alg": "XX1"})),
        Signer::rsa().jwk(json!({"kid": "RSA-OAEP", "alg": "RSA-OAEP"})),
        Signer::rsa().jwk(json!({"kid": "private", "d": "AQAB"})),
        ed.jwk(json!({"kid": "small order", "x": base64url([0; 32])})),
        ed.jwk(json!({"kid": "X25519", "crv": "X25519"})),
        good.jwk(json!({"kid": "off the curve", "x": base64url([1; 32])})),
        json!({"kid": "no type"}),
        json!("not an object"),
        json!(null),
        good.jwk(json!({"kid": "good", "use": "sig", "key_ops": ["verify"], "unknown": 1})),
    ];
    let kids: Vec<&str> = keys.iter().filter_map(|key| key.get("kid")?.as_str()).collect();
    let single = Single::new(json!([files.jwks("jwks", &keys)]), json!({}));
    for (signer, algorithm) in [
        (Signer::rsa(), Algorithm::RS256),
        (&Signer::hmac(), Algorithm::HS256),
        (&ed, Algorithm::EdDsa),
        (&good, Algorithm::ES256),
    ] {
        for kid in &kids {
            let header = json!({ "kid": kid });
            let token = signer.token_with_header(algorithm, &header, &claims(json!({})));
            let is_good = *kid == "good" && algorithm == Algorithm::ES256;
            assert_eq!(single.verdict(&token) == "ok", is_good, "{algorithm} {kid}");
        }
    }
}

#[test]
fn a_set_without_a_usable_key_is_refused() {
    let files = Files::new();
    let error = key_error(files.jwks("jwks", &[Signer::hmac().jwk(json!({}))]));
    assert!(error.starts_with("issuers.main.keys: /"), "{error}");
    assert!(error.contains("none of its 1 keys can be used; the one at index 0"), "{error}");
    assert!(key_error(files.jwks("jwks", &[])).contains("none of its 0 keys"));
    let path = files.write("jwks", "{\"keys\": ");
    assert!(key_error(json!({ "jwks_file": path })).contains("not a JWKS file"));
}

#[test]
fn one_key_id_for_two_keys_is_refused() {
    let files = Files::new();
    let key = |name: &str| files.jwks(name, &[Signer::p256().jwk(json!({"kid": "same"}))]);
    let twice = [Signer::p256(), Signer::p256()].map(|it| it.jwk(json!({"kid": "same"})));
    for keys in [json!([files.jwks("both", &twice)]), json!([key("one"), key("other")])] {
        let error = build_error(json!({ "issuers": { "main": { "keys": keys } } }));
        assert!(error.contains("two keys have the `kid` `same`"), "{error}");
    }
}

#[test]
fn a_short_secret_needs_to_be_allowed() {
    let files = Files::new();
    let path = files.write("secret", "secret\n");
    for (algorithm, needed) in [("HS256", 32), ("HS384", 48), ("HS512", 64)] {
        let error = key_error(json!({ "secret_file": path, "algorithm": algorithm }));
        let message = format!("has 6 bytes, but {algorithm} needs {needed}");
        assert!(error.contains(&message), "{error}");
    }
    let key = json!({ "secret_file": path, "algorithm": "HS256", "allow_short_secret": true });
    let token = Signer::Hmac(b"secret".to_vec()).token(Algorithm::HS256, &claims(json!({})));
    assert_eq!(Single::new(json!([key]), json!({})).verdict(&token), "ok");
}

#[test]
fn a_public_key_is_not_taken_for_a_secret() {
    let files = Files::new();
    for signer in [Signer::rsa(), &Signer::p384(), &Signer::ed25519()] {
        let (pem, der, jwk) = (signer.pem(), signer.der(), signer.jwk(json!({})));
        let lines: Vec<&str> = pem.lines().collect();
        let body = lines[1..lines.len() - 1].join("\n");
        for secret in [
            pem.as_bytes(),
            format!(" \n{pem}").as_bytes(),
            pem.trim_end().as_bytes(),
            &der,
            body.as_bytes(),
            base64url(&der).as_bytes(),
            jwk.to_string().as_bytes(),
            json!({ "keys": [jwk] }).to_string().as_bytes(),
        ] {
            let mut key = files.secret("secret", secret);
            key["allow_short_secret"] = json!(true);
            let error = key_error(key);
            assert!(error.contains("not a shared secret"), "{error}");
        }
    }
    let Signer::Rsa(key) = Signer::rsa() else { unreachable!() };
    let error = key_error(files.secret("secret", key.public_key().as_ref()));
    assert!(error.contains("not a shared secret"), "{error}");
}

#[test]
fn random_secrets_are_not_taken_for_public_keys() {
    let files = Files::new();
    for secret in [
        STANDARD.encode([0x30; 48]).into_bytes(),
        vec![0x30; 64],
        b"{\"a\": \"a secret that looks like JSON\"}".to_vec(),
        vec![0xff; 64],
        // The second byte is the length of the rest.
        [&b"0>"[..], &[b'x'; 62]].concat(),
    ] {
        built(json!({ "issuers": { "main": { "keys": [files.secret("secret", &secret)] } } }));
    }
}

#[test]
fn a_pem_file_that_is_not_one_public_key_says_what_to_do() {
    let files = Files::new();
    let (rsa, ec) = (Signer::rsa(), Signer::p256());
    let error = |content: &str, algorithm: &str| {
        let path = files.write("pem", content);
        key_error(json!({ "pem_file": path, "algorithm": algorithm }))
    };
    let twice = format!("{}{}", rsa.pem(), ec.pem());
    for (content, algorithm, message) in [
        (&pem("PRIVATE KEY", &[1]), "RS256", "openssl pkey -pubout"),
        (&pem("RSA PRIVATE KEY", &[1]), "RS256", "openssl pkey -pubout"),
        (&pem("CERTIFICATE", &[1]), "RS256", "openssl x509 -pubkey"),
        (&String::new(), "RS256", "exactly one `PUBLIC KEY`"),
        (&twice, "RS256", "exactly one `PUBLIC KEY`"),
        (&pem("PUBLIC KEY", &[1]), "RS256", "not a valid key for its algorithm"),
        (&pem("RSA PUBLIC KEY", &[0x30, 0]), "RS256", "not a valid key for its algorithm"),
        (&rsa.pem(), "ES256", "not a valid key for its algorithm"),
        (&ec.pem(), "PS256", "not a valid key for its algorithm"),
        (&ec.pem(), "ES384", "not a valid key for its algorithm"),
        (&ec.pem(), "EdDSA", "not a valid key for its algorithm"),
        (&rsa.pem(), "HS256", "not with HS256"),
    ] {
        let error = error(content, algorithm);
        assert!(error.contains(message), "{algorithm}: {error}");
    }
    let key = json!({ "secret_file": files.write("s", "s"), "algorithm": "RS256" });
    assert!(key_error(key).contains("not with RS256"));
}

#[test]
fn a_missing_file_is_named() {
    for key in [
        json!({ "secret_file": "/nonexistent/key", "algorithm": "HS256" }),
        json!({ "pem_file": "/nonexistent/key", "algorithm": "RS256" }),
        json!({ "jwks_file": "/nonexistent/key" }),
    ] {
        let error = key_error(key);
        assert!(error.contains("/nonexistent/key: cannot read"), "{error}");
    }
}
