//! Facts: how Envoy handles a missing answer or an error.

use envoy_types::ext_authz::v3::pb::{CheckResponse, HttpResponse};
use portcullis_integration_tests::{
    client::Request,
    envoy::{Envoy, EnvoyConfig},
    stub::Answer,
    upstream::Upstream,
};
use serde_json::json;
use tonic::{Code, Status};

use super::{Scene, denied, deny, response};

/// The header that Envoy adds to a request that passed because there was no answer.
const FAILURE_MODE_HEADER: &str = "x-envoy-auth-failure-mode-allowed";

fn internal_error() -> Answer {
    Answer::Fail(Status::new(Code::Internal, "a fault"))
}

fn fail_open(config: EnvoyConfig) -> EnvoyConfig {
    config
        .with("failure_mode_allow", json!(true))
        .with("failure_mode_allow_header_add", json!(true))
}

fn answer_503(config: EnvoyConfig) -> EnvoyConfig {
    config.with("status_on_error", json!({"code": "ServiceUnavailable"}))
}

fn error_response() -> CheckResponse {
    response(13, HttpResponse::ErrorResponse(denied(502, "broken", Vec::new())))
}

#[tokio::test]
async fn a_grpc_error_refuses_with_403_or_the_configured_status() {
    Scene::new(internal_error()).await.refuse(Request::get("/"), 403).await;
    Scene::with(internal_error(), answer_503).await.refuse(Request::get("/"), 503).await;
}

#[tokio::test]
async fn a_timeout_refuses_with_403_or_the_configured_status() {
    let impatient = |config: EnvoyConfig| config.with_timeout("0.1s");
    Scene::with(Answer::Silence, impatient).await.refuse(Request::get("/"), 403).await;
    let impatient = |config: EnvoyConfig| answer_503(config.with_timeout("0.1s"));
    Scene::with(Answer::Silence, impatient).await.refuse(Request::get("/"), 503).await;
}

#[tokio::test]
async fn an_unavailable_server_is_a_refusal() {
    let upstream = Upstream::start().await;
    // Nothing listens on port 1.
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let envoy = Envoy::start(&EnvoyConfig::grpc(&[nowhere], upstream.address())).await;
    assert_eq!(Request::get("/").send(envoy.http()).await.status, 403);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn failing_open_allows_errors_and_timeouts() {
    for answer in [internal_error(), Answer::Silence, error_response().into()] {
        let scene = Scene::with(answer, |config| fail_open(config).with_timeout("0.1s")).await;
        let received = scene.pass(Request::get("/")).await;
        assert_eq!(received.all(FAILURE_MODE_HEADER), ["true"]);
    }
}

#[tokio::test]
async fn failing_open_does_not_open_a_denied_response_of_500() {
    let scene = Scene::with(deny(500, "internal", Vec::new()), fail_open).await;
    let refused = scene.refuse(Request::get("/"), 500).await;
    assert_eq!(refused.text(), "internal");
}

#[tokio::test]
async fn an_error_response_refuses_with_its_own_status() {
    Scene::new(error_response()).await.refuse(Request::get("/"), 502).await;
}
