//! Tests of CORS through a real Envoy: preflights end at Portcullis, and requests that only
//! resemble one need a token.

use portcullis_integration_tests::{
    client::{Request, Response},
    portcullis::{Config, public_route, token_route},
    token,
};
use serde_json::json;

use super::Gate;

const APP: &str = "https://app.test";

fn routes() -> Config {
    Config::new([token_route("api", &["/api/*"]), public_route("public", &["/public"])])
}

fn with_origin() -> Config {
    routes().with("cors.allowed_origins", json!([APP]))
}

/// `OPTIONS` with an origin and a requested method, unchanged.
fn asking(origin: &str, method: &str) -> Request {
    Request::new("OPTIONS", "/api/items/7?x=1")
        .header("Origin", origin)
        .header("Access-Control-Request-Method", method)
}

/// Requests of an anonymous client that are not plain preflights.
fn imitations() -> Vec<Request> {
    vec![
        Request::new("DELETE", "/api/items/7"),
        asking("x", "x").header("X-HTTP-Method-Override", "DELETE"),
        asking("", "").header("X-HTTP-Method-Override", "GET"),
        asking(APP, "GET").header("X-HTTP-Method-Override", "DELETE"),
        asking(APP, "GET").header("X_HTTP_Method_Override", "DELETE"),
        asking(APP, "GET").header("X-Rewrite-URL", "/admin"),
        asking(APP, "GET").header("Cookie", "session=1").body("hello"),
        asking(APP, "GET").body("hello"),
        asking(APP, "delete"),
        asking(APP, ""),
        asking("", "GET"),
        asking(APP, "GET").header("Origin", APP),
        asking(APP, "GET").header("Access-Control-Request-Method", "DELETE"),
    ]
}

fn shared_with(response: &Response) -> Vec<&str> {
    response.all("access-control-allow-origin")
}

#[tokio::test]
async fn a_preflight_is_answered_and_never_reaches_the_upstream() {
    let gate = Gate::new(&with_origin()).await;
    for path in ["/api/items/7?x=1", "/public"] {
        let answer = gate.refuse(Request::preflight(path), 204).await;
        assert_eq!(shared_with(&answer), [APP]);
        assert_eq!(answer.all("access-control-allow-credentials"), ["true"]);
        assert_eq!(answer.all("access-control-max-age"), ["600"]);
        assert_eq!(answer.all("vary"), ["origin"]);
        assert_eq!(answer.text(), "");
        let other = Request::new("OPTIONS", path)
            .header("Origin", "https://evil.test")
            .header("Access-Control-Request-Method", "GET");
        assert!(shared_with(&gate.refuse(other, 403).await).is_empty());
    }
    let denied = gate.refuse(Request::get("/api/a").header("Origin", APP), 401).await;
    assert_eq!(shared_with(&denied), [APP]);
    let origin = Request::get("/api/a").header("Origin", "https://evil.test");
    let denied = gate.refuse(origin, 401).await;
    assert_eq!((shared_with(&denied), denied.all("vary")), (vec![], vec!["origin"]));
}

#[tokio::test]
async fn without_origins_a_preflight_needs_a_token() {
    let gate = Gate::new(&routes()).await;
    gate.refuse(Request::preflight("/api/a"), 401).await;
    for imitation in imitations() {
        gate.refuse(imitation, 401).await;
    }
    gate.pass(Request::preflight("/api/a").bearer(&token::good())).await;
}

#[tokio::test]
async fn a_request_like_a_preflight_needs_a_token_in_every_mode() {
    for mode in ["answer", "forward"] {
        let gate = Gate::new(&with_origin().with("cors.preflight", mode)).await;
        for imitation in imitations() {
            gate.refuse(imitation, 401).await;
        }
    }
}

/// A preflight with a body of unknown length, also in Envoy's check.
fn with_chunked_body() -> Request {
    asking(APP, "GET").header("Transfer-Encoding", "chunked").body("5\r\nhello\r\n0\r\n\r\n")
}

#[tokio::test]
async fn a_chunked_body_of_a_preflight_does_not_reach_the_upstream() {
    Gate::new(&with_origin()).await.refuse(with_chunked_body(), 204).await;
    let body = json!({"max_request_bytes": 1024, "allow_partial_message": true});
    let forward = with_origin().with("cors.preflight", "forward");
    let gate = Gate::with(&forward, |envoy| envoy.with("with_request_body", body)).await;
    gate.refuse(with_chunked_body(), 401).await;
    gate.pass(asking(APP, "GET")).await;
}

#[tokio::test]
async fn a_forwarded_preflight_loses_the_clients_identity_headers() {
    let proxies = json!(["x-edge", "x-user-id"]);
    let config = routes().with("cors.preflight", "forward").with("cors.proxy_headers", proxies);
    let gate = Gate::new(&config).await;
    let preflight = Request::preflight("/api/a?x=1").header("X-User-Id", "root");
    let received = gate.pass(preflight.header("X-Edge", "1")).await;
    assert_eq!((received.method.as_str(), received.target.as_str()), ("OPTIONS", "/api/a?x=1"));
    assert!(received.all("x-user-id").is_empty());
    assert_eq!((received.all("origin"), received.all("x-edge")), (vec![APP], vec!["1"]));
}

#[tokio::test]
async fn a_forwarded_preflight_has_only_browser_and_proxy_headers() {
    let gate = Gate::new(&routes().with("cors.preflight", "forward")).await;
    for (name, value) in [
        ("X-Api-Key", "secret"),
        ("X-User-Id", "root"),
        ("X-Forwarded-User", "root"),
        ("Content-Type", "application/json"),
        ("If-Match", "*"),
        ("Sec-WebSocket-Protocol", "token"),
    ] {
        gate.refuse(Request::preflight("/api/a").header(name, value), 401).await;
    }
    gate.refuse(asking(APP, "*"), 401).await;
    let usual = Request::preflight("/api/a")
        .header("Access-Control-Request-Headers", "authorization,x-api-key")
        .header("Accept", "*/*")
        .header("User-Agent", "browser")
        .header("Referer", "https://app.test/")
        .header("Sec-Fetch-Mode", "cors")
        .header("X-Forwarded-For", "192.0.2.1")
        .header("Via", "1.1 proxy")
        .header("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    gate.pass(usual).await;
}

#[tokio::test]
async fn any_options_forwards_all_but_the_token_and_overrides() {
    let gate = Gate::new(&routes().with("cors.preflight", "any_options")).await;
    let request = asking("", "")
        .bearer("nonsense")
        .header("X-HTTP-Method-Override", "DELETE")
        .header("X_HTTP_Method_Override", "DELETE")
        .header("X-User-Id", "root")
        .body("hello");
    let received = gate.pass(request).await;
    assert_eq!(received.body, "hello");
    for name in ["authorization", "x-http-method-override", "x_http_method_override", "x-user-id"] {
        assert!(received.all(name).is_empty(), "{name}");
    }
}
