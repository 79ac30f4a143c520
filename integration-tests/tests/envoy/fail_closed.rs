//! Owns what happens without Portcullis: nothing passes.

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

fn answer_503(config: envoy::Config) -> envoy::Config {
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
async fn a_deny_stays_a_deny_where_envoy_fails_open() {
    let open = |config: envoy::Config| config.with("failure_mode_allow", json!(true));
    let gate = Gate::with(&routes(), open).await;
    gate.refuse(Request::get("/api/a"), 401).await;
    gate.refuse(Request::get("/nowhere"), 403).await;
    // A path that can be read in two ways, and headers that are far too long.
    gate.refuse(Request::get("/api/%2e%2e/admin").bearer(&token::good()), 400).await;
    let long = "x".repeat(50_000);
    let response = gate.send(Request::get("/api/a").header("x-long", &long)).await;
    assert_ne!(response.status, 200, "{}", response.text());
}
