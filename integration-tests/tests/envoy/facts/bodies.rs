//! Facts: how much of a request's body Envoy passes on.

use portcullis_integration_tests::{client::Request, envoy::EnvoyConfig};
use serde_json::{Value, json};

use super::{Scene, allow_with};

/// The header that marks a truncated body for the authorization server.
const PARTIAL: &str = "x-envoy-auth-partial-body";

async fn scene(buffer: Value) -> Scene {
    let configure = |config: EnvoyConfig| config.with("with_request_body", buffer);
    Scene::with(allow_with(Vec::new()), configure).await
}

#[tokio::test]
async fn without_configuration_no_body_is_passed() {
    let scene = Scene::new(allow_with(Vec::new())).await;
    assert_eq!(scene.pass(Request::post("/", "hello")).await.body, "hello");
    let http = scene.stub.http();
    assert_eq!((http.body.as_str(), http.raw_body.len()), ("", 0));
}

#[tokio::test]
async fn a_body_is_passed_as_text() {
    let scene = scene(json!({"max_request_bytes": 16})).await;
    assert_eq!(scene.pass(Request::post("/", "hello")).await.body, "hello");
    let http = scene.stub.http();
    assert_eq!((http.body.as_str(), http.raw_body.len()), ("hello", 0));
    assert_eq!(http.headers.get(PARTIAL).map(String::as_str), Some("false"));
}

#[tokio::test]
async fn a_body_is_passed_as_bytes_if_configured() {
    let scene = scene(json!({"max_request_bytes": 16, "pack_as_bytes": true})).await;
    scene.pass(Request::post("/", [0xff, 0x00])).await;
    let http = scene.stub.http();
    assert_eq!((http.body.as_str(), http.raw_body.as_slice()), ("", [0xff, 0x00].as_slice()));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_truncated_and_marked_if_configured() {
    let scene = scene(json!({"max_request_bytes": 4, "allow_partial_message": true})).await;
    assert_eq!(scene.pass(Request::post("/", "hello")).await.body, "hello");
    let http = scene.stub.http();
    assert_eq!(http.body, "hell");
    assert_eq!(http.headers[PARTIAL], "true");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_even_when_failing_open() {
    let scene = Scene::with(allow_with(Vec::new()), |config| {
        config
            .with("with_request_body", json!({"max_request_bytes": 4}))
            .with("failure_mode_allow", json!(true))
    })
    .await;
    scene.refuse(Request::post("/", "hello"), 413).await;
    assert!(scene.stub.asked().is_empty());
}
