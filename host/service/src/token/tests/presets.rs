//! Tests of presets: the tokens of each issuer are accepted, and others that it signs are not.

use serde_json::{Value, json};

use super::{Files, IssuerPreset, Single, verdict_with};

/// The claims of an access token of each preset's issuer, of another token that it signs, and what is
/// said of that.
fn tokens_of_presets() -> Vec<(&'static str, Value, Value, &'static str)> {
    vec![
        (
            "keycloak",
            json!({ "jti": "onrtac:1", "typ": "Bearer", "azp": "app", "sid": "s", "scope": "openid" }),
            json!({ "jti": "onrtrt:1", "typ": "Refresh", "azp": "app", "sid": "s" }),
            "wrong_token_type",
        ),
        (
            "okta",
            json!({ "ver": 1, "jti": "AT.1", "cid": "app", "uid": "u", "scp": ["read"] }),
            json!({ "ver": 1, "jti": "ID.1", "idp": "i", "amr": ["pwd"], "nonce": "n" }),
            "missing_claim",
        ),
        (
            "entra",
            json!({ "jti": null, "uti": "u", "oid": "o", "tid": "t", "ver": "2.0", "scp": "read" }),
            json!({ "jti": null, "exp": null, "ver": "2.0" }),
            "missing_claim",
        ),
        (
            "auth0",
            json!({ "jti": null, "azp": "app", "scope": "openid", "aud": ["api", "userinfo"] }),
            json!({ "jti": null, "sub": null }),
            "missing_claim",
        ),
        (
            "cognito",
            json!({ "jti": "1", "token_use": "access", "client_id": "app", "username": "u" }),
            json!({ "jti": "1", "token_use": "id", "client_id": "app", "aud": "app" }),
            "wrong_token_type",
        ),
        (
            "google-iap",
            json!({ "jti": null, "sub": "accounts.google.com:1", "email": "u@id.test" }),
            json!({ "jti": null, "sub": null }),
            "missing_claim",
        ),
        (
            "cloudflare-access",
            json!({ "jti": null, "type": "app", "identity_nonce": "n", "aud": ["a"] }),
            json!({ "jti": null, "type": "org" }),
            "wrong_token_type",
        ),
        (
            "istio",
            json!({ "jti": null, "sub": "system:serviceaccount:default:app" }),
            json!({ "jti": null, "exp": null }),
            "missing_claim",
        ),
        (
            "spiffe",
            json!({ "jti": null, "sub": "spiffe://id.test/app", "aud": "api" }),
            json!({ "jti": null, "sub": "spiffe://id.test/app", "aud": null }),
            "missing_claim",
        ),
    ]
}

#[test]
fn presets_know_the_access_tokens_of_their_issuers() {
    let all = tokens_of_presets();
    let names: Vec<_> = all.iter().map(|(preset, ..)| *preset).collect();
    assert_eq!(names, IssuerPreset::ALL.map(IssuerPreset::name));
    for (preset, access, other, expected) in all {
        let settings = || json!({ "preset": preset });
        assert_eq!(verdict_with(settings(), access.clone()), "ok", "{preset}");
        assert_eq!(verdict_with(settings(), other), expected, "{preset}");
        // What is set wins over the preset.
        let own = json!({ "preset": preset, "required_claims": ["tenant"] });
        assert_eq!(verdict_with(own, access), "missing_claim", "{preset}");
    }
}

#[test]
fn presets_of_proxies_know_the_header_of_their_tokens() {
    for (preset, header) in [
        ("google-iap", "x-goog-iap-jwt-assertion"),
        ("cloudflare-access", "cf-access-jwt-assertion"),
        ("keycloak", "authorization"),
    ] {
        let files = Files::new();
        let single = Single::hmac(&files, json!({ "preset": preset }));
        let [place] = single.verifier.token_from("main") else { panic!("one place") };
        assert_eq!(place.header(), Some(header));
    }
}
