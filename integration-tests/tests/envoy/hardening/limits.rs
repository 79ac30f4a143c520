//! Tests of limits: how large headers may be, how long they may take, and how much of a body is buffered.

use portcullis_integration_tests::{client::Request, envoy::Config, token};
use serde_json::{Value, json};

use super::{Gate, Scene, public_and_rest, shipped, without};

#[tokio::test]
async fn headers_that_envoy_takes_are_never_too_large_for_the_question() {
    let gate = Gate::with(&public_and_rest(), shipped).await;
    let with = |size: usize| Request::get("/public/a").header("x-long", &"x".repeat(size));
    gate.pass(with(22 << 10)).await;
    gate.refuse(with(25 << 10), 431).await;
}

#[tokio::test]
async fn without_a_limit_of_envoy_portcullis_refuses_a_question_that_is_too_large() {
    let gate = Gate::with(&public_and_rest(), without("max_request_headers_kb")).await;
    let path = format!("/public/{}", "x".repeat(40 << 10));
    let refused = gate.send(Request::get(&path)).await;
    assert!(matches!(refused.status, 400 | 413 | 414), "{}", refused.status);
}

#[tokio::test]
async fn headers_that_do_not_end_are_given_up() {
    let slow = b"GET / HTTP/1.1\r\nHost: api.test\r\n";
    let with = |timeout: Value| {
        move |envoy| shipped(envoy).with_connection_manager("request_headers_timeout", timeout)
    };
    let on = Scene::new(with(json!("0.2s"))).await;
    let answer = on.answer_to(slow).await.unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let off = Scene::new(with(Value::Null)).await;
    assert_eq!(off.answer_to(slow).await, None);
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up() {
    let slow = b"POST / HTTP/1.1\r\nHost: api.test\r\nContent-Length: 10\r\n\r\nabc";
    let with = |timeout: Value| {
        move |envoy| shipped(envoy).with_connection_manager("stream_idle_timeout", timeout)
    };
    let on = Scene::new(with(json!("0.2s"))).await;
    let answer = on.answer_to(slow).await.unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let off = Scene::new(with(json!("0s"))).await;
    assert_eq!(off.answer_to(slow).await, None);
}

fn buffering(buffer: Value) -> impl FnOnce(Config) -> Config {
    move |envoy| shipped(envoy).with("with_request_body", buffer)
}

#[tokio::test]
async fn a_body_is_asked_about_whole_or_refused_unless_a_part_is_enough() {
    let post = |body: &str| Request::post("/", body).bearer(&token::good());
    let unbuffered = Scene::new(shipped).await.see(post("hello world")).await;
    assert!(unbuffered.http().raw_body.is_empty() && unbuffered.http().body.is_empty());
    assert_eq!(unbuffered.received().body, "hello world");

    let whole = buffering(json!({"max_request_bytes": 8, "pack_as_bytes": true}));
    let whole = Scene::new(whole).await;
    whole.refuse_unasked(post("hello world"), 413).await;
    assert_eq!(whole.see(post("hello")).await.http().raw_body, b"hello");

    let part =
        json!({"max_request_bytes": 8, "pack_as_bytes": true, "allow_partial_message": true});
    let part = Scene::new(buffering(part)).await.see(post("hello world")).await;
    assert!(part.http().raw_body.len() < "hello world".len());
    assert_eq!(part.received().body, "hello world");
}
