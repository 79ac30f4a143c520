//! Tests of what an answer has besides yes and no: how denials are worded, what scripts of other
//! origins may read, whether the upstream sees the token, and how the service is doing.

use serde_json::{Map, Value, json};

use crate::{
    check::{Ask, Client, SECRET, claims, sign, token},
    process::{Folder, Service, component, eventually},
};

/// The origin whose scripts may read denials.
const SHOP: &str = "https://shop.test";

/// A service with one route that needs a token and nothing else, after `change`.
fn service(change: impl FnOnce(&mut Value)) -> Service {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([{"name": "api", "token": "required", "allow_without_policy": true}]);
    change(&mut config);
    Service::start(folder, &config)
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_of_an_allowed_origin_and_of_no_other_may_read_a_deny() {
    let service = service(|config| config["cors"] = json!({"allowed_origins": [SHOP]}));
    let client = Client::connect(service.addresses.grpc).await;
    let answer = client.ask(&Ask::get("/").header("origin", SHOP)).await;
    assert_eq!((answer.status, answer.body.as_str()), (401, "missing token"));
    let expected = json!({
        "access-control-allow-origin": SHOP,
        "access-control-allow-credentials": "true",
        "vary": "origin",
        "www-authenticate": "Bearer",
    });
    assert_eq!(json!(answer.response_headers), expected);
    for other in
        ["https://shop.test.evil.test", "https://shop.test:8443", "http://shop.test", "null", "*"]
    {
        let answer = client.ask(&Ask::get("/").header("origin", other)).await;
        assert_eq!(answer.status, 401, "{other}");
        // A cache must not give the one what the other got.
        let expected = json!({"vary": "origin", "www-authenticate": "Bearer"});
        assert_eq!(json!(answer.response_headers), expected, "{other}");
    }
    // What an upstream answers is for the upstream to share.
    let answer = client.ask(&Ask::get("/").header("origin", SHOP).bearer(&token("alice"))).await;
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(json!(answer.response_headers), json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policys_own_headers_stay_beside_those_for_scripts() {
    let folder = Folder::new();
    let own = json!({
        "access-control-allow-origin": "https://elsewhere.test",
        "vary": "accept-language",
        "x-own": "kept",
    });
    let settings = json!({"rules": [{"effect": {"deny": {"status": 404, "headers": own}}}]});
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    config["cors"] = json!({"allowed_origins": [SHOP]});
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    let answer = client.ask(&Ask::get("/").header("origin", "https://evil.test")).await;
    let mut expected = own.clone();
    expected["vary"] = json!("accept-language, origin");
    assert_eq!((answer.status, json!(answer.response_headers)), (404, expected));
    // The configuration has the last word on who may read it, and the answer now depends on both.
    let answer = client.ask(&Ask::get("/").header("origin", SHOP)).await;
    let expected = json!({
        "access-control-allow-origin": SHOP,
        "access-control-allow-credentials": "true",
        "vary": "accept-language, origin",
        "x-own": "kept",
    });
    assert_eq!((answer.status, json!(answer.response_headers)), (404, expected));
}

/// One deny for each of several reasons, under this configuration of their bodies: status and body
/// by the reason.
async fn denials(config: Value) -> Value {
    let folder = Folder::new();
    let mut all =
        folder.config_with_policy(&component("hostile_guest"), &json!({"attack": "panic"}));
    all["denials"] = config;
    all["routes"][0]["match"] = json!({"paths": ["/attack"]});
    let api = json!({
        "name": "api", "match": {"paths": ["/api"]}, "token": "required",
        "allow_without_policy": true,
    });
    all["routes"] = json!([all["routes"][0].take(), api]);
    let service = Service::start(folder, &all);
    let revoked = claims("mallory");
    service.revoke(revoked["jti"].as_str().unwrap());
    let client = Client::connect(service.addresses.grpc).await;
    let mut answers = Map::new();
    for ask in [
        Ask::get("/api"),
        Ask::get("/api").bearer("nonsense"),
        Ask::get("/api").bearer(&sign(&revoked, SECRET)),
        Ask::get("/attack"),
        Ask::get("/elsewhere"),
        Ask::get("/a/../b"),
        Ask::get("/api").host("api.test."),
        Ask::connection(""),
    ] {
        let answer = client.ask(&ask).await;
        assert!(!answer.allowed, "{ask:?}");
        answers.insert(answer.reason, json!([answer.status, answer.body]));
    }
    answers.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_short_and_in_lower_case_by_default() {
    let expected = json!({
        "missing_token": [401, "missing token"],
        "invalid_token": [401, "invalid token"],
        "token_revoked": [403, "token revoked"],
        "policy_failed": [500, "internal authorization error"],
        "no_route": [403, "access denied"],
        "ambiguous_path": [400, "ambiguous path"],
        "ambiguous_host": [400, "ambiguous host"],
        "malformed_request": [400, "malformed request"],
    });
    assert_eq!(denials(json!({})).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_eco2_find_the_words_that_they_compare() {
    let expected = json!({
        "missing_token": [401, "Missing Authorization header"],
        "invalid_token": [401, "Invalid token"],
        "token_revoked": [403, "Token is blacklisted"],
        "policy_failed": [500, "Internal Authorization Error"],
        "no_route": [403, "access denied"],
        "ambiguous_path": [400, "ambiguous path"],
        "ambiguous_host": [400, "ambiguous host"],
        "malformed_request": [400, "Malformed request"],
    });
    assert_eq!(denials(json!({"preset": "eco2"})).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_ones_own_win_over_the_preset() {
    let bodies = json!({"token_revoked": "{\"error\":\"logged out\"}", "no_route": ""});
    let answers = denials(json!({"preset": "eco2", "bodies": bodies})).await;
    assert_eq!(answers["token_revoked"], json!([403, "{\"error\":\"logged out\"}"]));
    assert_eq!(answers["no_route"], json!([403, ""]));
    assert_eq!(answers["invalid_token"], json!([401, "Invalid token"]));
}

#[test]
fn a_body_that_no_deny_would_have_is_refused() {
    // A slip of the pen, reasons of an allow, and one whose body is the policy's to write.
    for code in ["token_revokd", "allowed", "cors_preflight", "policy_denied"] {
        let folder = Folder::new();
        let mut config = folder.config();
        config["denials"] = json!({"bodies": {"missing_token": "log in", code: "logged out"}});
        let refused = folder.check_config(&config);
        refused.assert_refused(&["`denials.bodies`", &format!("`{code}`"), "token_revoked"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_carry_the_headers_that_are_configured_for_their_reason() {
    let challenge =
        "Bearer resource_metadata=\"https://api.test/.well-known/oauth-protected-resource\"";
    let headers = json!({
        "missing_token": {"www-authenticate": challenge, "content-type": "application/json"},
        "no_route": {"x-why": "no such place"},
    });
    let service = service(|config| {
        config["denials"] = json!({"headers": headers});
        config["routes"][0]["match"] = json!({"paths": ["/api"]});
    });
    let client = Client::connect(service.addresses.grpc).await;
    for (ask, status, expected) in [
        (Ask::get("/api"), 401, headers["missing_token"].clone()),
        (
            Ask::get("/api").bearer("nonsense"),
            401,
            json!({"www-authenticate": "Bearer error=\"invalid_token\""}),
        ),
        (Ask::get("/elsewhere"), 403, headers["no_route"].clone()),
    ] {
        let answer = client.ask(&ask).await;
        assert_eq!((answer.status, json!(answer.response_headers)), (status, expected), "{ask:?}");
    }
}

#[test]
fn a_header_that_no_deny_may_have_is_refused() {
    for (reason, name, value, why) in [
        ("token_revokd", "x-a", "b", "`token_revokd` is no reason"),
        ("policy_denied", "x-a", "b", "`policy_denied` is no reason"),
        ("cors_preflight", "x-a", "b", "`cors_preflight` is no reason"),
        ("missing_token", "content-length", "5", "`content-length` is not a permitted"),
        ("missing_token", "X-A", "b", "`X-A` is not a permitted"),
        ("missing_token", "x a", "b", "`x a` is not a permitted"),
        ("missing_token", ":status", "200", "`:status` is not a permitted"),
        ("missing_token", "x-a", "b\r\nc: d", "control character"),
        ("missing_token", "x-a", " ", "has no value"),
        ("missing_token", "access-control-allow-origin", "*", "section `cors`"),
    ] {
        let folder = Folder::new();
        let mut config = folder.config();
        config["denials"] = json!({"headers": {reason: {name: value}}});
        folder.check_config(&config).assert_refused(&["`denials.headers`", why]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_sees_the_token_unless_the_route_keeps_it() {
    let route = |name: &str| {
        json!({
            "name": name, "match": {"paths": [format!("/{name}")]}, "token": "required",
            "allow_without_policy": true,
        })
    };
    let mut routes = ["by-default", "forwarded", "kept", "kept-unread"].map(route);
    routes[1]["forward_token"] = json!(true);
    routes[2]["forward_token"] = json!(false);
    routes[3]["forward_token"] = json!(false);
    routes[3]["token"] = json!("ignored");
    let service = service(|config| config["routes"] = json!(routes));
    let client = Client::connect(service.addresses.grpc).await;
    for (path, removed) in [
        ("/by-default", &[] as &[&str]),
        ("/forwarded", &[]),
        ("/kept", &["authorization"]),
        ("/kept-unread", &["authorization"]),
    ] {
        let answer = client.ask(&Ask::get(path).bearer(&token("alice"))).await;
        assert!(answer.allowed, "{path}: {answer:?}");
        assert_eq!(answer.remove_request_headers, removed, "{path}");
        assert_eq!(json!(answer.set_request_headers), json!({}), "{path}");
    }
}

#[test]
fn health_and_readiness_have_two_names_each() {
    let service = service(|config| config["shutdown"] = json!({"grace": "10m"}));
    let get = |path: &str| service.admin("GET", path).unwrap();
    assert_eq!(get("/health"), (200, "ok\n".to_owned()));
    assert_eq!(get("/health"), get("/livez"));
    assert_eq!(get("/ready"), (200, "ready\n".to_owned()));
    assert_eq!(get("/ready"), get("/readyz"));
    service.signal("TERM");
    eventually("it is not ready any more", || (get("/ready").0 == 503).then_some(()));
    assert_eq!(get("/ready"), get("/readyz"));
    assert_eq!(get("/health"), (200, "ok\n".to_owned()));
}
