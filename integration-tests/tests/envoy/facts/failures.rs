//! Owns what Envoy does when it gets no answer, or one that says "error".

use envoy_types::ext_authz::v3::pb::{CheckResponse, HttpResponse};
use portcullis_integration_tests::{
    client::Request,
    envoy::{Config, Envoy},
    stub::Answer,
    upstream::Upstream,
};
use serde_json::json;
use tonic::{Code, Status};

use super::{Scene, denied, deny, response};

/// What Envoy adds to a request that passed because it got no answer.
const FAILURE_MODE_HEADER: &str = "x-envoy-auth-failure-mode-allowed";

fn internal_error() -> Answer {
    Answer::Fail(Status::new(Code::Internal, "a fault"))
}

fn fail_open(config: Config) -> Config {
    config
        .with("failure_mode_allow", json!(true))
        .with("failure_mode_allow_header_add", json!(true))
}

fn answer_503(config: Config) -> Config {
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
async fn silence_refuses_with_403_or_the_configured_status() {
    let impatient = |config: Config| config.with_timeout("0.1s");
    Scene::with(Answer::Silence, impatient).await.refuse(Request::get("/"), 403).await;
    let impatient = |config: Config| answer_503(config.with_timeout("0.1s"));
    Scene::with(Answer::Silence, impatient).await.refuse(Request::get("/"), 503).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_refuses() {
    let upstream = Upstream::start().await;
    // Port 1 is nobody's.
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let envoy = Envoy::start(&Config::grpc(&[nowhere], upstream.address())).await;
    assert_eq!(Request::get("/").send(envoy.http()).await.status, 403);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn failing_open_lets_errors_and_silence_through() {
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
