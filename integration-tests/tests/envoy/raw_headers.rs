//! Tests of Envoys with `encode_raw_headers`.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, token_route},
    token::{self, SUBJECT},
};
use serde_json::json;

use super::Gate;

#[tokio::test]
async fn raw_headers_are_read_like_other_headers() {
    let config = Config::new([token_route("api", &["/api/*"])])
        .with("cors.allowed_origins", json!(["https://app.test"]));
    let gate = Gate::with(&config, |envoy| envoy.with("encode_raw_headers", json!(true))).await;
    let token = token::good();

    let request = Request::get("/api/a").bearer(&token).header("X-User-Id", "spoofed");
    assert_eq!(gate.pass(request).await.all("x-user-id"), [SUBJECT]);
    let folded = Request::get("/api/a").bearer(&token).header("X_User-Id", "spoofed");
    assert_eq!(gate.pass(folded).await.folded("x-user-id").as_deref(), Some(SUBJECT));
    gate.refuse(Request::get("/api/a"), 401).await;
    gate.refuse(Request::get("/api/a").bearer(&token).bearer(&token), 401).await;
    gate.refuse(Request::preflight("/api/a"), 204).await;
    let two = Request::preflight("/api/a").header("Origin", "https://app.test");
    gate.refuse(two, 401).await;
    // Not UTF-8 in the protobuf sense, but legal in HTTP.
    gate.pass(Request::get("/api/a").bearer(&token).header("x-latin", "caf\u{e9}")).await;
}
