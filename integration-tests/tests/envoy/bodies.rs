//! Tests of requests with bodies, which Envoy may pass to Portcullis and always passes to the
//! upstream.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, token_route},
    token,
};
use serde_json::{Value, json};

use super::Gate;

async fn gate(buffer: Value) -> Gate {
    let config = Config::new([token_route("api", &["/api/*"])]);
    Gate::with(&config, |envoy| envoy.with("with_request_body", buffer)).await
}

fn post(body: impl Into<Vec<u8>>) -> Request {
    Request::post("/api/a", body).bearer(&token::good())
}

#[tokio::test]
async fn text_binary_and_partial_bodies_reach_the_upstream_whole() {
    for options in [
        json!({"max_request_bytes": 1024}),
        json!({"max_request_bytes": 1024, "pack_as_bytes": true}),
        json!({"max_request_bytes": 4, "allow_partial_message": true}),
    ] {
        let gate = gate(options).await;
        assert_eq!(gate.pass(post("hello world")).await.body, "hello world");
        gate.refuse(Request::post("/api/a", "hello"), 401).await;
    }
}

#[tokio::test]
async fn a_binary_body_is_decided_on_either_way() {
    for pack_as_bytes in [false, true] {
        let gate = gate(json!({"max_request_bytes": 64, "pack_as_bytes": pack_as_bytes})).await;
        gate.pass(post([0xff, 0xfe, 0x00])).await;
    }
}

#[tokio::test]
async fn a_body_beyond_envoys_limit_is_refused_by_envoy() {
    gate(json!({"max_request_bytes": 4})).await.refuse(post("hello"), 413).await;
}
