//! Tests of tokens through Envoy: which are accepted and which are refused.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, token_route},
    token::{self, Claims},
};

use serde_json::{Value, json};

use super::Gate;

async fn gate() -> Gate {
    Gate::new(&Config::new([token_route("api", &["/api/*"])])).await
}

fn with(token: &str) -> Request {
    Request::get("/api/a").bearer(token)
}

#[tokio::test]
async fn a_good_token_passes_under_either_algorithm() {
    let gate = gate().await;
    for token in [Claims::default().hs256(), Claims::default().rs256()] {
        gate.pass(with(&token)).await;
        // Again, because it may be cached.
        gate.pass(with(&token)).await;
    }
}

#[tokio::test]
async fn an_access_token_of_any_common_form_passes() {
    let gate = gate().await;
    for kind in ["at+jwt", "application/at+jwt", "JWT"] {
        gate.pass(with(&Claims::default().hs256_of_type(kind))).await;
    }
    let mut claims = Claims::default();
    for name in ["nbf", "iat", "sid", "scope"] {
        claims = claims.with(name, Value::Null);
    }
    gate.pass(with(&claims.hs256())).await;
}

#[tokio::test]
async fn without_a_token_there_is_a_401_with_a_challenge() {
    let refused = gate().await.refuse(Request::get("/api/a"), 401).await;
    assert_eq!(refused.text(), "missing token");
    assert_eq!(refused.all("www-authenticate"), ["Bearer"]);
}

#[tokio::test]
async fn a_bad_token_gets_a_401_without_the_cause() {
    let gate = gate().await;
    let good = token::good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let cases = [
        (
            "signed with another key",
            Claims::default().forged(b"another secret of the same length!!"),
        ),
        ("expired", Claims::default().expired().hs256()),
        ("not yet valid", Claims::default().with("nbf", 9_999_999_999_i64).hs256()),
        ("of another issuer", Claims::default().with("iss", "https://evil.test").hs256()),
        ("for another audience", Claims::default().with("aud", "other").hs256()),
        ("without token id", Claims::default().without("jti").hs256()),
        ("without subject", Claims::default().without("sub").hs256()),
        ("without expiry", Claims::default().without("exp").hs256()),
        ("with an expiry in milliseconds", Claims::default().with("exp", 4e12).hs256()),
        ("whose subject ends in a blank", Claims::default().with("sub", "alice ").hs256()),
        ("that is a logout token", Claims::default().hs256_of_type("logout+jwt")),
        ("that is a proof of possession", Claims::default().hs256_of_type("dpop+jwt")),
        ("with security events", Claims::default().with("events", json!({"e": {}})).hs256()),
        ("bound to a key", Claims::default().with("cnf", json!({"jkt": "x"})).hs256()),
        ("without signature", format!("{signed}.")),
        ("with another's signature", format!("{}.{signature}", "e30.e30")),
        ("no token at all", "nonsense".to_owned()),
    ];
    for (what, token) in cases {
        let refused = gate.refuse(with(&token), 401).await;
        assert_eq!(refused.text(), "invalid token", "a token {what}");
        assert_eq!(refused.all("www-authenticate"), ["Bearer error=\"invalid_token\""], "{what}");
    }
}

#[tokio::test]
async fn an_ambiguous_authorization_header_is_refused() {
    let gate = gate().await;
    let (token, api) = (token::good(), Request::get("/api/a"));
    gate.refuse(with(&token).bearer(&token), 401).await;
    gate.refuse(api.clone().bearer(&format!("{token},{token}")), 401).await;
    gate.refuse(api.clone().header("Authorization", &token), 401).await;
    gate.refuse(api.clone().header("Authorization", &format!("Basic {token}")), 401).await;
    // Schemes are case-insensitive: RFC 9110 section 11.1.
    gate.pass(api.header("authorization", &format!("bearer {token}"))).await;
}
