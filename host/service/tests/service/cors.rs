//! CORS of the running service: which preflights it answers, passes on or refuses, and for whom.

use serde_json::{Value, json};

use crate::{
    check::{Answer, Ask, Client, token},
    process::{Folder, Service},
};

const SHOP: &str = "https://shop.test";

/// A service whose routes tell methods apart, and all need a token.
fn service(cors: &Value) -> Service {
    let folder = Folder::new();
    let mut config = folder.config();
    let route = |name: &str, matches: Value| {
        json!({
            "name": name, "match": matches, "token": "required", "allow_without_policy": true,
            "identity_headers": {"x-user-id": ["sub"]},
        })
    };
    config["routes"] = json!([
        route("writes", json!({"paths": ["/api/*"], "methods": ["PUT", "DELETE"]})),
        route("reads", json!({"paths": ["/api/*"], "methods": ["GET", "HEAD"]})),
        route("options", json!({"paths": ["/api/*"], "methods": ["OPTIONS"]})),
    ]);
    config["cors"] = cors.clone();
    Service::start(folder, &config)
}

fn preflight(origin: &str, method: &str) -> Ask {
    Ask::get("/api/items/7?x=1")
        .method("OPTIONS")
        .header("origin", origin)
        .header("access-control-request-method", method)
}

/// `OPTIONS` requests that look like preflights and that no browser sends.
fn imitations() -> Vec<Ask> {
    let good = || preflight(SHOP, "PUT");
    vec![
        Ask::get("/api/items/7").method("OPTIONS"),
        Ask::get("/api/items/7").method("OPTIONS").header("origin", SHOP),
        preflight("", ""),
        preflight("x", "x"),
        preflight(SHOP, ""),
        preflight(SHOP, "put"),
        preflight("", "PUT"),
        preflight(&format!("{SHOP},{SHOP}"), "PUT"),
        preflight("https://shop.test/", "PUT"),
        good().header("access-control-request-headers", ""),
        good().header("x-http-method-override", "DELETE"),
        good().header("x_http_method_override", "DELETE"),
        good().header("x-original-url", "/admin"),
        good().header("x-rewrite-url", "/admin"),
        good().header("cookie", "session=1"),
        good().header("content-length", "5"),
        good().header("content-type", "application/json"),
        good().header("expect", "100-continue"),
        preflight(SHOP, "*"),
        good().header("transfer-encoding", "chunked"),
        good().body("hello"),
        good().raw_body(b"hello"),
        good().raw_header("origin", SHOP),
    ]
}

fn outcome(answer: &Answer) -> (i32, &str) {
    (answer.status, answer.reason.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_of_an_allowed_origin_is_answered_here() {
    let service = service(&json!({"allowed_origins": ["https://other.test", SHOP]}));
    let client = Client::connect(service.addresses.grpc).await;
    let ask = preflight(SHOP, "PUT").header("access-control-request-headers", "authorization");
    let answer = client.ask(&ask).await;
    assert_eq!((answer.allowed, outcome(&answer)), (false, (204, "cors_preflight")));
    assert_eq!(answer.body, "");
    let expected = json!({
        "access-control-allow-origin": SHOP,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": "600",
        "vary": "origin",
    });
    assert_eq!(json!(answer.response_headers), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_of_another_origin_is_refused() {
    let service = service(&json!({"allowed_origins": [SHOP]}));
    let client = Client::connect(service.addresses.grpc).await;
    for origin in [
        "null",
        "http://shop.test",
        "https://shop.test:8443",
        "https://shop.test.",
        "https://shop.test.evil.test",
        "https://evil-shop.test",
    ] {
        let answer = client.ask(&preflight(origin, "PUT")).await;
        assert_eq!(outcome(&answer), (403, "origin_not_allowed"), "{origin}");
        assert_eq!(json!(answer.response_headers), json!({"vary": "origin"}), "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_route_of_a_preflight_is_that_of_the_method_it_asks_for() {
    for mode in ["answer", "forward"] {
        let service = service(&json!({"preflight": mode, "allowed_origins": [SHOP]}));
        let client = Client::connect(service.addresses.grpc).await;
        for (method, is_found) in [("PUT", true), ("HEAD", true), ("POST", false)] {
            let answer = client.ask(&preflight(SHOP, method)).await;
            let expected = match (mode, is_found) {
                ("answer", true) => (false, 204, "cors_preflight"),
                ("answer", false) => (false, 403, "no_route"),
                (_, true) => (true, 0, ""),
                // A request like any other, for which the third route wants a token.
                (_, false) => (false, 401, "missing_token"),
            };
            let found = (answer.allowed, answer.status, answer.reason.as_str());
            assert_eq!(found, expected, "{mode} {method}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_browser_sends_needs_a_token() {
    for mode in ["answer", "forward", "strict"] {
        let service = service(&json!({"preflight": mode, "allowed_origins": [SHOP]}));
        let client = Client::connect(service.addresses.grpc).await;
        for ask in imitations() {
            let answer = client.ask(&ask).await;
            assert_eq!(outcome(&answer), (401, "missing_token"), "{mode}: {ask:?}");
        }
        let answer = client.ask(&preflight(SHOP, "PUT").bearer("nonsense")).await;
        assert_eq!(outcome(&answer), (401, "invalid_token"), "{mode}");
        let answer = client.ask(&preflight(SHOP, "PUT").bearer(&token("alice"))).await;
        assert!(answer.allowed, "{mode}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_allowed_origins_options_is_a_method_like_any_other() {
    for cors in [json!({}), json!({"preflight": "deny"})] {
        let service = service(&cors);
        let client = Client::connect(service.addresses.grpc).await;
        let answer = client.ask(&preflight(SHOP, "PUT")).await;
        assert_eq!(outcome(&answer), (401, "missing_token"), "{cors}");
        assert_eq!(json!(answer.response_headers), json!({"www-authenticate": "Bearer"}), "{cors}");
        let answer = client.ask(&preflight(SHOP, "PUT").bearer(&token("alice"))).await;
        assert!(answer.allowed, "{cors}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_that_is_passed_on_has_no_identity() {
    let service = service(&json!({"preflight": "forward", "proxy_headers": ["x-edge"]}));
    let client = Client::connect(service.addresses.grpc).await;
    for name in ["x-api-key", "x-user-id", "x-forwarded-user", "if-match", "x-edges"] {
        let answer = client.ask(&preflight(SHOP, "PUT").header(name, "a")).await;
        assert_eq!(outcome(&answer), (401, "missing_token"), "{name}");
    }
    let usual = preflight(SHOP, "PUT").header("x-edge", "1").header("x-forwarded-for", "192.0.2.1");
    let answer = client.ask(&usual).await;
    assert!(answer.allowed, "{answer:?}");
    assert_eq!(json!(answer.set_request_headers), json!({}));
    for name in ["authorization", "x-user-id"] {
        assert!(answer.remove_request_headers.iter().any(|removed| removed == name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_options_passes_on_every_options_without_what_makes_another_request_of_it() {
    let service = service(&json!({"preflight": "any_options"}));
    let client = Client::connect(service.addresses.grpc).await;
    for ask in imitations() {
        let ask = ask.header("x_http-Method_override", "DELETE").bearer("nonsense");
        let answer = client.ask(&ask).await;
        assert!(answer.allowed, "{ask:?}: {answer:?}");
        for name in ["authorization", "x-user-id", "x_http-method_override"] {
            assert!(answer.remove_request_headers.iter().any(|removed| removed == name), "{name}");
        }
    }
    let answer = client.ask(&Ask::get("/elsewhere").method("OPTIONS")).await;
    assert_eq!(outcome(&answer), (403, "no_route"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_is_configured() {
    let service = service(&json!({
        "allowed_origins": [SHOP],
        "allowed_methods": ["GET", "QUERY"],
        "allowed_headers": [],
        "allow_credentials": false,
        "exposed_headers": ["WWW-Authenticate", "retry-after"],
        "max_age": "2h",
    }));
    let client = Client::connect(service.addresses.grpc).await;
    let answer = client.ask(&preflight(SHOP, "PUT")).await;
    let expected = json!({
        "access-control-allow-origin": SHOP,
        "access-control-allow-methods": "GET, QUERY",
        "access-control-expose-headers": "www-authenticate, retry-after",
        "access-control-max-age": "7200",
        "vary": "origin",
    });
    assert_eq!(json!(answer.response_headers), expected);
    let answer = client.ask(&Ask::get("/api/a").header("origin", SHOP)).await;
    let expected = json!({
        "access-control-allow-origin": SHOP,
        "access-control-expose-headers": "www-authenticate, retry-after",
        "vary": "origin",
        "www-authenticate": "Bearer",
    });
    assert_eq!((answer.status, json!(answer.response_headers)), (401, expected));
}

#[test]
fn settings_that_would_never_apply_are_refused_with_their_key() {
    for (cors, parts) in [
        (json!({"allowed_origins": ["*"]}), ["`cors.allowed_origins`", "list every origin"]),
        (
            json!({"allowed_origins": ["https://Shop.test/"]}),
            ["`cors.allowed_origins`", "write `https://shop.test`"],
        ),
        (json!({"preflight": "answer"}), ["`cors.preflight`", "or write `deny`"]),
        (json!({"allowed_headers": ["x-a"]}), ["`cors.allowed_headers`", "none are listed"]),
        (
            json!({"preflight": "forward", "max_age": "1m"}),
            ["`cors.max_age`", "`cors.preflight: answer`"],
        ),
        (json!({"proxy_headers": ["x-a"]}), ["`cors.proxy_headers`", "`cors.preflight: forward`"]),
        (
            json!({"preflight": "forward", "proxy_headers": ["Content-Type"]}),
            ["`cors.proxy_headers", "no preflight has it"],
        ),
    ] {
        let folder = Folder::new();
        let mut config = folder.config();
        config["cors"] = cors;
        folder.check_config(&config).assert_refused(&parts);
    }
}
