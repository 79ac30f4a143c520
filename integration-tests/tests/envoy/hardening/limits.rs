//! Tests of limits: the size of headers, the time to receive them, and the buffered part of a body.

use portcullis_integration_tests::{client::Request, envoy::EnvoyConfig, token};
use serde_json::{Value, json};

use super::{Gate, Scene, public_and_rest, shipped, without};

#[tokio::test]
async fn headers_that_envoy_accepts_always_fit_into_a_check() {
    let gate = Gate::with(&public_and_rest(), shipped).await;
    let with = |size: usize| Request::get("/public/a").header("x-long", &"x".repeat(size));
    gate.pass(with(22 << 10)).await;
    gate.refuse(with(25 << 10), 431).await;
}

#[tokio::test]
async fn without_envoys_limit_portcullis_refuses_an_oversized_check() {
    let gate = Gate::with(&public_and_rest(), without("max_request_headers_kb")).await;
    let path = format!("/public/{}", "x".repeat(40 << 10));
    let refused = gate.send(Request::get(&path)).await;
    assert!(matches!(refused.status, 400 | 413 | 414), "{}", refused.status);
}

#[tokio::test]
async fn unfinished_headers_time_out() {
    let slow = b"GET / HTTP/1.1\r\nHost: api.test\r\n";
    let with = |timeout: Value| {
        move |envoy| shipped(envoy).with_connection_manager("request_headers_timeout", timeout)
    };
    let on = Scene::new(with(json!("0.2s"))).await;
    let answer = on.answer_to(slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let off = Scene::new(with(Value::Null)).await;
    off.ignores(slow).await;
}

#[tokio::test]
async fn an_unfinished_body_times_out() {
    let slow = b"POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 10\r\n\r\nabc";
    let with = |timeout: Value| {
        move |envoy| shipped(envoy).with_connection_manager("stream_idle_timeout", timeout)
    };
    let on = Scene::new(with(json!("0.2s"))).await;
    let answer = on.answer_to(slow).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let off = Scene::new(with(json!("0s"))).await;
    off.ignores(slow).await;
}

fn buffering(buffer: Value) -> impl FnOnce(EnvoyConfig) -> EnvoyConfig {
    move |envoy| shipped(envoy).with("with_request_body", buffer)
}

#[tokio::test]
async fn a_body_is_checked_whole_or_refused_unless_partial_is_allowed() {
    let post = |body: &str| Request::post("/", body).bearer(&token::good());
    let unbuffered = Scene::new(shipped).await.see(post("hello world")).await;
    assert!(unbuffered.http().raw_body.is_empty() && unbuffered.http().body.is_empty());
    assert_eq!(unbuffered.received().body, "hello world");

    let whole = buffering(json!({"max_request_bytes": 8, "pack_as_bytes": true}));
    let whole = Scene::new(whole).await;
    whole.refuse_without_check(post("hello world"), 413).await;
    assert_eq!(whole.see(post("hello")).await.http().raw_body, b"hello");

    let part =
        json!({"max_request_bytes": 8, "pack_as_bytes": true, "allow_partial_message": true});
    let part = Scene::new(buffering(part)).await.see(post("hello world")).await;
    assert!(part.http().raw_body.len() < "hello world".len());
    assert_eq!(part.received().body, "hello world");
}
