//! Tests of claims: what a token must have, beyond its signature.

use std::collections::BTreeMap;

use portcullis_types::duration::HumanDuration;

use super::*;

#[test]
fn each_required_claim_is_required() {
    for name in ["exp", "sub", "jti"] {
        assert_eq!(verdict_with(json!({}), json!({ name: null })), "missing_claim", "{name}");
    }
    for name in ["iat", "nbf", "iss", "aud"] {
        assert_eq!(verdict_with(json!({}), json!({ name: null })), "ok", "{name}");
    }
    let settings = || json!({ "issuer": "https://id", "audiences": ["api"] });
    let all = json!({ "iss": "https://id", "aud": "api" });
    assert_eq!(verdict_with(settings(), all), "ok");
    assert_eq!(verdict_with(settings(), json!({ "aud": "api" })), "missing_claim");
    assert_eq!(verdict_with(settings(), json!({ "iss": "https://id" })), "missing_claim");
}

#[test]
fn what_is_required_can_be_chosen() {
    let settings = || json!({ "required_claims": ["tenant"] });
    let only = |tenant: Value| json!({ "exp": null, "sub": null, "jti": null, "tenant": tenant });
    assert_eq!(verdict_with(settings(), only(json!("a"))), "ok");
    assert_eq!(verdict_with(settings(), only(json!(false))), "ok");
    assert_eq!(verdict_with(settings(), only(json!(null))), "missing_claim");
    let files = Files::new();
    let token = Signer::hmac().token(Algorithm::HS256, &json!({ "tenant": null }));
    assert_eq!(Single::hmac(&files, settings()).verdict(&token), "missing_claim");
}

#[test]
fn the_token_of_the_opa_example_is_accepted_where_only_its_claims_are_required() {
    let files = Files::new();
    let path = files.write("secret", "secret");
    let key = json!({ "secret_file": path, "algorithm": "HS256", "allow_short_secret": true });
    let claims = json!({ "role": "guest", "path": "L3BlbmFwaS8", "nbf": 1, "exp": NOW_SECS + 1 });
    let token = Signer::Hmac(b"secret".to_vec()).token(Algorithm::HS256, &claims);
    let single = Single::new(json!([key]), json!({ "required_claims": ["exp"] }));
    let verified = single.verifier.verify(&token, &single.set, NOW).unwrap();
    assert_eq!((verified.subject(), verified.token_id()), (None, None));
}

/// Values that are wrong for the claim, as JSON text.
fn wrong_values(name: &str) -> Vec<&'static str> {
    let mut wrong = vec!["true", "{}", "{\"a\":1}", "1e400", "-1e400", "[1]", "[null]"];
    match name {
        "exp" | "nbf" | "iat" => wrong.extend([
            "\"never\"",
            "\"1700000060\"",
            "\"99999999999999999999\"",
            "\"\"",
            "[]",
            "-1",
            "-0.1",
            "1e300",
            "99999999999999999999",
            "1700000060000",
            "1.7e12",
            "253402300800",
            "\"2026-11-28T00:00:00Z\"",
            "[1700000060]",
        ]),
        "aud" => wrong.extend(["1", "1.5", "-1", "[\"api\", 1]", "[[\"api\"]]"]),
        _ => wrong.extend(["1", "1.5", "-1", "\"\"", "\" \"", "\"\\t\"", "[]", "[\"u1\"]"]),
    }
    if ["sub", "jti", "sid"].contains(&name) {
        wrong.extend(["\" u1\"", "\"u1 \"", "\"u1\\t\"", "\"\\nu1\"", "\"\\u00a0u1\""]);
    }
    wrong
}

#[test]
fn a_registered_claim_of_a_wrong_type_is_refused_even_where_it_is_not_required() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({ "required_claims": [] }));
    for name in ["exp", "nbf", "iat", "sub", "jti", "iss", "aud", "sid"] {
        for wrong in wrong_values(name) {
            let claims = format!("{{\"{name}\":{wrong}}}");
            let token = Signer::hmac().token_of(Algorithm::HS256, "{\"alg\":\"HS256\"}", &claims);
            let verdict = single.verdict(&token);
            assert!(["malformed", "malformed_claim"].contains(&verdict), "{claims}: {verdict}");
        }
    }
}

/// What the decision log says about a well signed token with these claims, or `ok`.
fn detail_with(settings: Value, claims: &str) -> String {
    let files = Files::new();
    let token = Signer::hmac().token_of(Algorithm::HS256, "{\"alg\":\"HS256\"}", claims);
    let single = Single::hmac(&files, settings);
    let verified = single.verifier.verify(&token, &single.set, NOW);
    verified.map_or_else(|error| error.detail(), |_| "ok".to_owned())
}

#[test]
fn the_reason_names_the_claim() {
    let exp = NOW_SECS + 60;
    for (claims, expected) in [
        (format!("{{\"jti\":\"t\",\"sub\":1234,\"exp\":{exp}}}"), "malformed_claim: sub"),
        (format!("{{\"sub\":\"u\",\"jti\":1234,\"exp\":{exp}}}"), "malformed_claim: jti"),
        (format!("{{\"sub\":\"u\",\"exp\":{exp}}}"), "missing_claim: jti"),
        (format!("{{\"sub\":\"u\",\"jti\":null,\"exp\":{exp}}}"), "missing_claim: jti"),
        ("{\"sub\":\"u\",\"jti\":\"t\",\"exp\":\"1795869605\"}".to_owned(), "malformed_claim: exp"),
        ("{\"sub\":\"u\",\"jti\":\"t\",\"exp\":null}".to_owned(), "missing_claim: exp"),
        ("{\"sub\":\"u\",\"jti\":\"t\"}".to_owned(), "missing_claim: exp"),
        (format!("{{\"sub\":\"u\",\"jti\":\"t\",\"exp\":{exp}000}}"), "malformed_claim: exp"),
        (
            format!("{{\"sub\":\"u\",\"jti\":\"t\",\"exp\":{exp},\"nbf\":1e12}}"),
            "malformed_claim: nbf",
        ),
    ] {
        assert_eq!(detail_with(json!({}), &claims), expected, "{claims}");
    }
    let good = format!("{{\"sub\":\"u\",\"jti\":\"t\",\"exp\":{exp},\"aud\":null}}");
    assert_eq!(detail_with(json!({ "audiences": ["api"] }), &good), "missing_claim: aud");
    let scope = detail_with(json!({ "required_scopes": ["write"] }), &good);
    assert_eq!(scope, "missing_scope: write");
}

#[test]
fn a_null_claim_is_an_absent_one() {
    let exp = NOW_SECS + 60;
    for name in ["nbf", "iat", "sid", "scope", "scp", "aud", "iss", "cnf", "events"] {
        let claims = format!("{{\"sub\":\"u\",\"jti\":\"t\",\"exp\":{exp},\"{name}\":null}}");
        assert_eq!(detail_with(json!({}), &claims), "ok", "{claims}");
    }
}

#[test]
fn only_an_access_token_of_the_issuer_is_accepted() {
    let files = Files::new();
    let verdict = |settings: Value, header: Value, more: Value| {
        let token = Signer::hmac().token_with_header(Algorithm::HS256, &header, &claims(more));
        Single::hmac(&files, settings).verdict(&token)
    };
    for (typ, expected) in [
        (json!("at+jwt"), "ok"),
        (json!("application/AT+JWT"), "ok"),
        (json!("JWT"), "ok"),
        (json!("jwt"), "ok"),
        (json!(null), "ok"),
        (json!("logout+jwt"), "wrong_header_type"),
        (json!("application/logout+jwt"), "wrong_header_type"),
        (json!("LOGOUT+JWT"), "wrong_header_type"),
        (json!("dpop+jwt"), "wrong_header_type"),
        (json!("secevent+jwt"), "wrong_header_type"),
        (json!("token-introspection+jwt"), "wrong_header_type"),
        (json!("kb+jwt"), "wrong_header_type"),
        (json!(""), "wrong_header_type"),
        (json!("absent"), "wrong_header_type"),
        (json!(7), "malformed"),
    ] {
        assert_eq!(verdict(json!({}), json!({ "typ": typ }), json!({})), expected, "{typ}");
    }
    assert_eq!(verdict(json!({}), json!({}), json!({})), "ok");
    // An ID token, where access tokens have their own type.
    let only = || json!({ "header_types": ["at+jwt"] });
    for header in [json!({}), json!({ "typ": "JWT" })] {
        assert_eq!(verdict(only(), header, json!({ "nonce": "n" })), "wrong_header_type");
    }
    assert_eq!(verdict(only(), json!({ "typ": "at+jwt" }), json!({})), "ok");
    let own = json!({ "header_types": ["access"] });
    assert_eq!(verdict(own, json!({ "typ": "Access" }), json!({})), "ok");
    let logout = json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} } });
    for events in [logout, json!({ "events": [] }), json!({ "events": "x" })] {
        assert_eq!(verdict(json!({}), json!({ "typ": "JWT" }), events), "wrong_token_type");
    }
}

#[test]
fn a_token_that_is_bound_to_a_key_is_no_bearer_token() {
    for cnf in [json!({ "jkt": "thumbprint" }), json!({ "x5t#S256": "hash" }), json!({})] {
        let with = |settings| verdict_with(settings, json!({ "cnf": cnf }));
        assert_eq!(with(json!({})), "sender_constrained", "{cnf}");
        assert_eq!(with(json!({ "accept_sender_constrained": true })), "ok", "{cnf}");
    }
}

#[test]
fn the_largest_token_is_a_setting() {
    let files = Files::new();
    let key = files.secret("secret", &[b'x'; 32]);
    let signer = Signer::Hmac(vec![b'x'; 32]);
    let groups: Vec<String> = (0..1250).map(|n| format!("group-{n}")).collect();
    let token = signer.token(Algorithm::HS256, &claims(json!({ "groups": groups })));
    assert!(token.len() > 16 * 1024, "{}", token.len());
    for (settings, expected) in [
        (json!({}), "too_large"),
        (json!({ "max_bytes": token.len() }), "ok"),
        (json!({ "max_bytes": token.len() - 1 }), "too_large"),
        (json!({ "max_bytes": token.len() - 1, "cache_capacity": 0 }), "too_large"),
    ] {
        let mut config = settings.clone();
        config["issuers"] = json!({ "main": { "keys": [key] } });
        let (verifier, _) = built(config);
        let set = verifier.issuer_set(&["main".to_owned()]).unwrap();
        assert_eq!(verdict(&verifier, &set, &token), expected, "{settings}");
    }
    for max_bytes in [0, 1, 255, 64 * 1024 + 1] {
        let error = build_error(json!({ "max_bytes": max_bytes }));
        assert!(error.starts_with("tokens.max_bytes: must be 256 to 65536"), "{error}");
    }
}

#[test]
fn an_issuer_without_audiences_is_warned_of() {
    let files = Files::new();
    let key = files.secret("secret", &[b'x'; 32]);
    let config = json!({ "issuers": {
        "open": { "keys": [key] }, "strict": { "keys": [key], "audiences": ["api"] },
    }});
    let warnings = warnings(&serde_json::from_value(config["issuers"].clone()).unwrap());
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.starts_with("issuers.open.audiences: is empty"), "{warning}");
    assert!(warning.contains("ID tokens"), "{warning}");
}

#[test]
fn a_claim_that_occurs_twice_is_refused() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({ "required_claims": [] }));
    for name in ["exp", "nbf", "iat", "sub", "jti", "iss", "aud", "scope", "tenant"] {
        let value = if ["exp", "nbf", "iat"].contains(&name) { "1700000000" } else { "\"a\"" };
        let claims = format!("{{\"{name}\":{value},\"{name}\":{value}}}");
        let token = Signer::hmac().token_of(Algorithm::HS256, "{\"alg\":\"HS256\"}", &claims);
        assert_eq!(single.verdict(&token), "malformed", "{claims}");
    }
    let nested = r#"{"realm_access":{"roles":["user"],"roles":["admin"]}}"#;
    let token = Signer::hmac().token_of(Algorithm::HS256, "{\"alg\":\"HS256\"}", nested);
    assert_eq!(single.verdict(&token), "malformed");
}

proptest::proptest! {
    #[test]
    fn a_date_is_never_misread(text in "-?[0-9]{1,25}(\\.[0-9]{1,10})?([eE][+-]?[0-9]{1,3})?") {
        let files = Files::new();
        let single = Single::hmac(&files, json!({ "required_claims": ["exp"] }));
        let claims = format!("{{\"exp\":{text}}}");
        let token = Signer::hmac().token_of(Algorithm::HS256, "{\"alg\":\"HS256\"}", &claims);
        let expected = text.parse::<f64>().unwrap();
        if single.verdict(&token) == "ok" {
            // Five seconds of leeway, and what a float may lose.
            #[expect(clippy::cast_precision_loss, reason = "a time of this century fits")]
            let now = NOW_SECS as f64;
            proptest::prop_assert!(expected > now - 5.01, "{text}");
        }
    }
}

#[test]
fn times_are_checked_with_the_issuers_leeway() {
    let at = |settings: Value, more: Value| verdict_with(settings, more);
    assert_eq!(at(json!({}), json!({ "exp": NOW_SECS - 4 })), "ok");
    assert_eq!(at(json!({}), json!({ "exp": NOW_SECS - 5 })), "expired");
    assert_eq!(at(json!({}), json!({ "nbf": NOW_SECS + 5 })), "ok");
    assert_eq!(at(json!({}), json!({ "nbf": NOW_SECS + 6 })), "not_yet_valid");
    assert_eq!(at(json!({ "leeway": "0s" }), json!({ "exp": NOW_SECS })), "expired");
    assert_eq!(at(json!({ "leeway": "1m" }), json!({ "exp": NOW_SECS - 59 })), "ok");
    // A token from further ahead would be out of reach of a cut-off that is made now.
    assert_eq!(at(json!({}), json!({ "iat": NOW_SECS + 5 })), "ok");
    assert_eq!(at(json!({}), json!({ "iat": NOW_SECS + 6 })), "issued_in_future");
    assert_eq!(at(json!({ "leeway": "0s" }), json!({ "iat": NOW_SECS + 5 })), "ok");
    assert_eq!(at(json!({ "leeway": "1m" }), json!({ "iat": NOW_SECS + 60 })), "ok");
    assert_eq!(at(json!({ "leeway": "1m" }), json!({ "iat": NOW_SECS + 61 })), "issued_in_future");
    assert_eq!(at(json!({}), json!({ "iat": NOW_SECS * 1000 })), "malformed_claim");
}

#[test]
fn the_audience_must_be_one_of_the_configured_ones() {
    let settings = || json!({ "audiences": ["api", "web"] });
    for (audience, expected) in [
        (json!("api"), "ok"),
        (json!(["other", "web"]), "ok"),
        (json!("other"), "wrong_audience"),
        (json!("API"), "wrong_audience"),
        (json!("api web"), "wrong_audience"),
        (json!([]), "wrong_audience"),
    ] {
        let verdict = verdict_with(settings(), json!({ "aud": audience }));
        assert_eq!(verdict, expected, "{audience}");
    }
    assert_eq!(verdict_with(json!({}), json!({ "aud": "any" })), "ok");
}

#[test]
fn every_required_scope_must_be_there() {
    let settings = || json!({ "required_scopes": ["read", "write"] });
    for (scope, expected) in [
        (json!("write read admin"), "ok"),
        (json!(["read", "write"]), "ok"),
        (json!("read"), "missing_scope"),
        (json!("readwrite"), "missing_scope"),
        (json!("read,write"), "missing_scope"),
        (json!(null), "missing_scope"),
    ] {
        assert_eq!(verdict_with(settings(), json!({ "scope": scope })), expected, "{scope}");
    }
}

#[test]
fn a_refresh_token_is_no_access_token() {
    let settings = || json!({ "token_type": { "one_of": ["access"] } });
    for (kind, expected) in [
        (json!("access"), "ok"),
        (json!("refresh"), "wrong_token_type"),
        (json!(["access"]), "wrong_token_type"),
        (json!(null), "wrong_token_type"),
    ] {
        assert_eq!(verdict_with(settings(), json!({ "type": kind })), expected, "{kind}");
    }
    let keycloak = json!({ "token_type": { "claim": "typ", "one_of": ["Bearer"] } });
    assert_eq!(verdict_with(keycloak, json!({ "typ": "Bearer" })), "ok");
}

#[test]
fn the_issuer_must_be_exactly_the_configured_one() {
    for iss in ["https://id/", "https://ID", " https://id", "https://id.evil"] {
        let verdict = verdict_with(json!({ "issuer": "https://id" }), json!({ "iss": iss }));
        assert_eq!(verdict, "unknown_issuer", "{iss}");
    }
    assert_eq!(verdict_with(json!({}), json!({ "iss": "any" })), "ok");
}

#[test]
fn a_verified_token_says_what_revocation_needs() {
    let files = Files::new();
    let single = Single::hmac(&files, json!({ "leeway": "7s" }));
    let token = Signer::hmac().token(Algorithm::HS256, &claims(json!({ "sid": "s1" })));
    let verified = single.verifier.verify(&token, &single.set, NOW).unwrap();
    assert_eq!(verified.issuer_name(), "main");
    assert_eq!(verified.session_id(), Some("s1"));
    assert_eq!(verified.issued_at(), Some(NOW));
    assert_eq!(verified.expires_at(), Some(Timestamp::from_secs(NOW_SECS + 60)));
    assert_eq!(verified.leeway(), Duration::from_secs(7));
    assert_eq!(verified.token_id(), portcullis_types::token_id::TokenId::new("t1").ok().as_ref());
}

#[test]
fn settings_that_make_no_sense_name_their_place() {
    let files = Files::new();
    let key = files.secret("secret", &[b'x'; 32]);
    for (settings, message) in [
        (json!({ "keys": [] }), "issuers.main.keys: is empty"),
        (json!({ "issuer": "" }), "issuers.main.issuer: has a blank value"),
        (json!({ "audiences": ["api", " "] }), "issuers.main.audiences: has a blank value"),
        (json!({ "required_claims": [""] }), "issuers.main.required_claims: has a blank"),
        (json!({ "required_scopes": [""] }), "issuers.main.required_scopes: has a blank"),
        (json!({ "header_types": [] }), "issuers.main.header_types: is empty"),
        (json!({ "header_types": ["JWT", " "] }), "issuers.main.header_types: has a blank"),
        (json!({ "header_types": ["DPoP+jwt"] }), "issuers.main.header_types: names"),
        (json!({ "header_types": ["at+jwt "] }), "header_types: has a value with a blank"),
        (
            json!({ "header_types": ["none"] }),
            "header_types: names what is no type; write `absent`",
        ),
        (json!({ "header_types": ["JWT", "*"] }), "header_types: names what is no type"),
        (json!({ "header_types": ["application/"] }), "header_types: names what is no media type"),
        (json!({ "header_types": ["at jwt"] }), "header_types: names what is no media type"),
        (json!({ "header_types": ["a/b/c"] }), "header_types: names what is no media type"),
        (json!({ "issuer": "https://id " }), "issuers.main.issuer: has a value with a blank"),
        (json!({ "audiences": ["\tapi"] }), "audiences: has a value with a blank"),
        (json!({ "audiences": ["a\u{0}b"] }), "audiences: has a value with a control character"),
        (json!({ "required_claims": ["sub "] }), "required_claims: has a value with a blank"),
        (json!({ "required_scopes": ["a b"] }), "required_scopes: has a blank within a scope"),
        (json!({ "required_scopes": ["a\u{a0}b"] }), "required_scopes: has a blank within a scope"),
        (json!({ "token_type": { "one_of": ["access "] } }), "one_of: has a value with a blank"),
        (json!({ "token_type": { "claim": " type", "one_of": ["a"] } }), "claim: has a value with"),
        (json!({ "leeway": "100d" }), "issuers.main.leeway: is longer than 1h"),
        (json!({ "leeway": "61m" }), "issuers.main.leeway: is longer than 1h"),
        (json!({ "token_type": { "one_of": [] } }), "issuers.main.token_type.one_of: is empty"),
        (json!({ "token_type": { "claim": "", "one_of": ["a"] } }), "token_type.claim: has a"),
    ] {
        let mut issuer = json!({ "keys": [key] });
        issuer.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let error = build_error(json!({ "issuers": { "main": issuer } }));
        assert!(error.contains(message), "{error}");
    }
    let key_reload_interval = HumanDuration::from_millis(0);
    let tokens = TokensConfig { key_reload_interval, ..TokensConfig::default() };
    let error = build(&BTreeMap::new(), &tokens, Duration::ZERO).unwrap_err().to_string();
    assert!(error.starts_with("tokens.key_reload_interval: "), "{error}");
}
