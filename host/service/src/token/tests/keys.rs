//! Tests of keys: which ones are taken, and what each verifies.

use super::{super::key::MAX_CANDIDATES, *};

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
    // Either key can be meant.
    assert_eq!((verdict(&a, json!({})), verdict(&b, json!({}))), ("ok", "ok"));
    assert_eq!(verdict(&a, json!({"kid": null})), "ok");
    assert_eq!(verdict(&Signer::p256(), json!({})), "bad_signature");
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
    assert_eq!(verdict(&named, json!({})), "ok");
    assert_eq!(verdict(&named, json!({"kid": "whatever"})), "bad_signature");
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
    let path = files.write("jwks", "{\"keys\": ");
    assert!(key_error(json!({ "jwks_file": path })).contains("not a JWKS file"));
}

#[test]
fn a_set_without_keys_verifies_nothing() {
    let files = Files::new();
    let signer = Signer::p256();
    let for_encryption = signer.jwk(json!({"use": "enc"}));
    for keys in [&[][..], &[for_encryption]] {
        let single = Single::new(json!([files.jwks("jwks", keys)]), json!({}));
        let token = signer.token(Algorithm::ES256, &claims(json!({})));
        assert_eq!(single.verdict(&token), "unknown_key", "{keys:?}");
    }
}

#[test]
fn one_key_id_may_stand_for_keys_of_several_types_and_algorithms() {
    let files = Files::new();
    let (rsa, ec, ed) = (Signer::rsa(), Signer::p256(), Signer::ed25519());
    let keys = [
        rsa.jwk(json!({"kid": "a", "alg": "RS256"})),
        rsa.jwk(json!({"kid": "a", "alg": "PS256"})),
        ec.jwk(json!({"kid": "a"})),
        ed.jwk(json!({"kid": "b"})),
    ];
    let single = Single::new(json!([files.jwks("jwks", &keys)]), json!({}));
    let verdict = |signer: &Signer, algorithm, header: Value| {
        single.verdict(&signer.token_with_header(algorithm, &header, &claims(json!({}))))
    };
    for (signer, algorithm, expected) in [
        (rsa, Algorithm::RS256, "ok"),
        (rsa, Algorithm::PS256, "ok"),
        (&ec, Algorithm::ES256, "ok"),
        (rsa, Algorithm::RS384, "wrong_algorithm"),
        (&ed, Algorithm::EdDsa, "wrong_algorithm"),
        (&Signer::p256(), Algorithm::ES256, "bad_signature"),
    ] {
        assert_eq!(verdict(signer, algorithm, json!({"kid": "a"})), expected, "{algorithm}");
    }
    // Signed for one of the algorithms, and saying another of them.
    let header = json!({"kid": "a", "alg": "PS256"});
    assert_eq!(verdict(rsa, Algorithm::RS256, header), "bad_signature");
}

#[test]
fn different_keys_of_one_id_are_both_tried_and_copies_are_one_key() {
    let files = Files::new();
    let signers: Vec<_> = (0..MAX_CANDIDATES).map(|_| Signer::p256()).collect();
    let jwk = |signer: &Signer| signer.jwk(json!({"kid": "same"}));
    let header = json!({"kid": "same"});
    let token =
        |signer: &Signer| signer.token_with_header(Algorithm::ES256, &header, &claims(json!({})));
    let [one, other] = [&signers[0], &signers[1]];
    let files_of = |name: &str, keys: &[Value]| files.jwks(name, keys);
    let single =
        Single::new(json!([files_of("a", &[jwk(one)]), files_of("b", &[jwk(other)])]), json!({}));
    assert_eq!((single.verdict(&token(one)), single.verdict(&token(other))), ("ok", "ok"));
    assert_eq!(single.verdict(&token(&Signer::p256())), "bad_signature");
    // As many copies as there may be keys, beside as many keys as there may be.
    let mut keys: Vec<_> = signers.iter().map(jwk).collect();
    keys.extend(signers.iter().map(jwk));
    let single = Single::new(json!([files_of("c", &keys)]), json!({}));
    assert!(signers.iter().all(|signer| single.verdict(&token(signer)) == "ok"));
}

#[test]
fn no_token_makes_more_keys_be_tried_than_the_bound() {
    let files = Files::new();
    let signers: Vec<_> = (0..=MAX_CANDIDATES).map(|_| Signer::p256()).collect();
    let jwks = |name: &str, kid: &dyn Fn(usize) -> Value| {
        let keys: Vec<_> =
            signers.iter().enumerate().map(|(n, signer)| signer.jwk(kid(n))).collect();
        Single::new(json!([files.jwks(name, &keys)]), json!({}))
    };
    let token =
        |header: &Value| signers[0].token_with_header(Algorithm::ES256, header, &claims(json!({})));
    // Whichever key it was signed with, too many could be meant.
    let named = jwks("named", &|n| json!({"kid": n.to_string()}));
    assert_eq!(named.verdict(&token(&json!({}))), "unknown_key");
    assert_eq!(named.verdict(&token(&json!({"kid": "0"}))), "ok");
    let same = jwks("same", &|_| json!({"kid": "same"}));
    assert_eq!(same.verdict(&token(&json!({"kid": "same"}))), "unknown_key");
    let unnamed = jwks("unnamed", &|_| json!({}));
    assert_eq!(unnamed.verdict(&token(&json!({"kid": "any"}))), "unknown_key");
}

#[test]
fn ed25519_is_another_name_for_eddsa() {
    let files = Files::new();
    let signer = Signer::ed25519();
    let pem = json!({ "pem_file": files.write("pem", signer.pem()), "algorithm": "Ed25519" });
    for key in [
        files.jwks("named", &[signer.jwk(json!({"alg": "Ed25519"}))]),
        files.jwks("unnamed", &[signer.jwk(json!({}))]),
        files.pem("pem", &signer, Algorithm::EdDsa),
        pem,
    ] {
        let single = Single::new(json!([key]), json!({}));
        for alg in ["EdDSA", "Ed25519"] {
            let header = json!({ "alg": alg });
            let token = signer.token_with_header(Algorithm::EdDsa, &header, &claims(json!({})));
            assert_eq!(single.verdict(&token), "ok", "{alg} {key}");
        }
        for alg in ["ed25519", "Ed448", "EDDSA"] {
            let header = json!({ "alg": alg });
            let token = signer.token_with_header(Algorithm::EdDsa, &header, &claims(json!({})));
            assert_eq!(single.verdict(&token), "unsupported_algorithm", "{alg}");
        }
    }
}

#[test]
fn odd_but_unambiguous_jwks_files_are_read() {
    let files = Files::new();
    let signer = Signer::p256();
    let jwk = signer.jwk(json!({}));
    let padded = ["x", "y"].map(|name| format!("{}=", jwk[name].as_str().unwrap()));
    let nulls = json!({"kid": null, "use": null, "key_ops": null, "alg": null});
    // Members that say nothing about the key itself may be anything.
    let odd = json!({"x5c": "not a list", "x5u": 1, "iat": "now"});
    let token = signer.token(Algorithm::ES256, &claims(json!({})));
    for (name, content) in [
        ("BOM", format!("\u{feff}{}", json!({ "keys": [jwk] }))),
        (
            "padding",
            json!({ "keys": [signer.jwk(json!({"x": padded[0], "y": padded[1]}))] }).to_string(),
        ),
        ("nulls", json!({ "keys": [signer.jwk(nulls)] }).to_string()),
        ("odd", json!({ "keys": [signer.jwk(odd)] }).to_string()),
    ] {
        let path = files.write("jwks", content);
        let single = Single::new(json!([{ "jwks_file": path }]), json!({}));
        assert_eq!(single.verdict(&token), "ok", "{name}");
    }
}

#[test]
fn a_key_whose_id_or_use_cannot_be_read_is_left_out_and_named() {
    let files = Files::new();
    let (good, odd) = (Signer::p256(), Signer::p256());
    for more in [json!({"kid": 7}), json!({"kid": ["a"]}), json!({"use": "SIG"}), json!({"n": 1})] {
        let keys = [odd.jwk(more.clone()), good.jwk(json!({"kid": "good"}))];
        let single = Single::new(json!([files.jwks("jwks", &keys)]), json!({}));
        let token = |signer: &Signer| signer.token(Algorithm::ES256, &claims(json!({})));
        assert_eq!(single.verdict(&token(&good)), "ok", "{more}");
        assert_eq!(single.verdict(&token(&odd)), "bad_signature", "{more}");
    }
    let error = key_error(files.jwks("jwks", &[odd.jwk(json!({"kid": 7}))]));
    assert!(error.contains("at index 0: its `kid` is not a string"), "{error}");
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
