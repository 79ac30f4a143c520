//! Tests of fail-closed behaviour: without Portcullis, no request passes.

use portcullis_integration_tests::{
    client::Request,
    envoy,
    portcullis::{Config, public_route, token_route},
    token,
};
use serde_json::json;

use super::Gate;

fn routes() -> Config {
    Config::new([token_route("api", &["/api/*"]), public_route("public", &["/public"])])
}

fn answer_503(config: envoy::EnvoyConfig) -> envoy::EnvoyConfig {
    config.with("status_on_error", json!({"code": "ServiceUnavailable"}))
}

#[tokio::test]
async fn envoy_refuses_everything_while_portcullis_is_dead() {
    let mut gate = Gate::new(&routes()).await;
    let requests = [Request::get("/api/a").bearer(&token::good()), Request::get("/public")];
    for request in &requests {
        gate.pass(request.clone()).await;
    }
    gate.portcullis.kill();
    for request in requests {
        gate.refuse(request, 403).await;
    }
}

#[tokio::test]
async fn envoy_refuses_with_the_configured_status() {
    let mut gate = Gate::with(&routes(), answer_503).await;
    gate.pass(Request::get("/public")).await;
    gate.portcullis.kill();
    gate.refuse(Request::get("/public"), 503).await;
}

#[tokio::test]
async fn a_deny_stays_a_deny_if_envoy_fails_open() {
    let open = |config: envoy::EnvoyConfig| config.with("failure_mode_allow", json!(true));
    let gate = Gate::with(&routes(), open).await;
    gate.refuse(Request::get("/api/a"), 401).await;
    gate.refuse(Request::get("/nowhere"), 403).await;
    gate.refuse(Request::get("/api/%2e%2e/admin").bearer(&token::good()), 400).await;
    // Close to the longest headers that Envoy itself accepts.
    let long = "x".repeat(50_000);
    let response = gate.send(Request::get("/api/a").header("x-long", &long)).await;
    assert_ne!(response.status, 200, "{}", response.text());
}

#[tokio::test]
async fn an_oversized_check_is_denied_even_if_envoy_fails_open() {
    let open = |config: envoy::EnvoyConfig| {
        config
            .with("failure_mode_allow", json!(true))
            .with("with_request_body", json!({"max_request_bytes": 1 << 20}))
    };
    let gate = Gate::with(&routes(), open).await;
    let post = |size| Request::post("/api/a", vec![b'x'; size]).bearer(&token::good());
    gate.pass(post(1_000)).await;
    for size in [300_000, 1_000_000] {
        gate.refuse(post(size), 413).await;
    }
    gate.pass(post(1_000)).await;
}
