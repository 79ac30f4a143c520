//! Tests of policies behind Envoy: rules in place of Istio's sample server decide as in the task
//! "External Authorization" of Istio's documentation.

#![expect(clippy::expect_used, reason = "a panic is how a test reports")]

use std::path::Path;

use portcullis_integration_tests::{client::Request, envoy, places, portcullis::Config};
use serde_json::{Value, json};

use super::Gate;

const RESULT: &str = "x-ext-authz-check-result";
const OVERRIDE: &str = "x-ext-authz-additional-header-override";
const CHECKED: &str = "x-ext-authz-check-received";
/// The value of `OVERRIDE` in the sample.
const OVERRIDDEN: &str = "grpc-additional-header-override-value";
const REFUSED: &str =
    "denied by ext_authz for not found header `x-ext-authz: allow` in the request";

/// The settings that the example ships.
fn settings() -> Value {
    let file = "../policy-component/rules/examples/istio-sample.yaml";
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))
        .expect("the example is there");
    serde_saphyr::from_str::<Value>(&text).expect("the example is YAML")["settings"].take()
}

/// The sample as a component, evaluated for every check of Envoy.
fn sample() -> Config {
    let route = |name: &str, matches: &Value| {
        json!({
            "name": name, "match": matches, "token": "ignored", "policy": "rules",
            "settings": settings(),
            // Long enough for a machine that is busy with other tests.
            "deadline": "1s",
        })
    };
    Config::new([route("http", &json!({"paths": ["*"]})), route("tcp", &json!({"tcp": true}))])
        .with(
            "policies.rules.file",
            places::component("portcullis_rules").to_str().expect("the path is text"),
        )
}

/// The task's `AuthorizationPolicy` checks `/headers` alone.
fn about_headers(envoy: envoy::EnvoyConfig) -> envoy::EnvoyConfig {
    envoy.only_for_paths(&json!(["/headers"]), &json!(["/ip"]))
}

fn get(path: &str) -> Request {
    Request::get(path).host("httpbin.foo:8000")
}

#[tokio::test]
async fn istios_table_gives_the_results_of_istios_sample() {
    let gate = Gate::with(&sample(), about_headers).await;
    let headers = get("/headers");

    let passed = gate.pass(headers.clone().header("x-ext-authz", "allow")).await;
    assert_eq!(passed.all(RESULT), ["allowed"]);
    assert_eq!(passed.all(OVERRIDE), [OVERRIDDEN]);
    assert_eq!(passed.all(CHECKED), ["GET http://httpbin.foo/headers"]);

    let deny = headers.clone().header("x-ext-authz", "deny");
    let nearly = headers.clone().header("x-ext-authz", "allowed");
    let twice = deny.clone().header("x-ext-authz", "allow");
    for request in [deny, nearly, twice, headers] {
        let refused = gate.refuse(request, 403).await;
        assert_eq!(refused.text(), REFUSED);
        assert_eq!(refused.all(RESULT), ["denied"]);
        assert_eq!(refused.all(OVERRIDE), [OVERRIDDEN]);
        assert_eq!(refused.all(CHECKED), ["GET http://httpbin.foo/headers"]);
    }

    // The others are not checked.
    let unasked = gate.pass(get("/ip")).await;
    assert_eq!(unasked.all(RESULT), Vec::<&str>::new());
}

#[tokio::test]
async fn the_clients_values_of_the_samples_headers_are_replaced() {
    let gate = Gate::new(&sample()).await;
    let request = get("/headers").header("x-ext-authz", "allow");
    let spoofed = [RESULT, OVERRIDE, CHECKED]
        .into_iter()
        .fold(request, |request, name| request.header(name, "spoofed").header(name, "again"));
    let passed = gate.pass(spoofed).await;
    assert_eq!(passed.all(RESULT), ["allowed"]);
    assert_eq!(passed.all(OVERRIDE), [OVERRIDDEN]);
    assert_eq!(passed.all(CHECKED), ["GET http://httpbin.foo/headers"]);
}

#[tokio::test]
async fn a_connection_from_outside_the_mesh_is_closed_by_the_policy() {
    let gate = Gate::new(&sample()).await;
    let allowed_over_http = get("/headers").header("x-ext-authz", "allow");
    allowed_over_http.try_send(gate.envoy.tcp()).await.unwrap_err();
    gate.pass(allowed_over_http).await;
}

/// A policy that makes this attack on every path below `/attack`.
fn hostile(attack: &str, size: usize) -> Config {
    let route = json!({
        "name": "attacked", "token": "ignored", "policy": "hostile", "deadline": "10s",
        "settings": {"attack": attack, "size": size},
    });
    let policy = places::component("hostile_guest");
    Config::new([route]).with("policies.hostile.file", policy.to_string_lossy())
}

#[tokio::test]
async fn a_deny_with_deep_metadata_is_a_deny_in_any_failure_mode() {
    for fails_open in [false, true] {
        for (depth, status) in [(16, 403), (17, 500), (33, 500), (60, 500), (120, 500)] {
            let open =
                |envoy: envoy::EnvoyConfig| envoy.with("failure_mode_allow", json!(fails_open));
            let gate = Gate::with(&hostile("deep_metadata", depth), open).await;
            gate.refuse(Request::get("/attack"), status).await;
            gate.pass(Request::get("/harmless")).await;
        }
    }
}

#[tokio::test]
async fn an_allow_with_unreadable_metadata_is_refused_with_a_reason() {
    let gate = Gate::new(&hostile("deep_metadata_of_allow", 16)).await;
    gate.pass(Request::get("/attack")).await;
    let gate = Gate::new(&hostile("deep_metadata_of_allow", 60)).await;
    gate.refuse(Request::get("/attack"), 500).await;
}

#[tokio::test]
async fn the_upstream_reads_the_query_as_the_policy_meant_it() {
    let gate = Gate::new(&hostile("query_values", 0)).await;
    for query in
        ["", "?x=1", "?role=root&x=1", "?%72ole=admin&%64ebug=1&x=1", "?role[]=a&debug&x=1"]
    {
        let received = gate.pass(Request::get(&format!("/attack{query}"))).await;
        assert_eq!(received.parameters("role"), ["user"], "{query}");
        assert_eq!(received.parameters("user"), ["a&role=admin"], "{query}");
        assert_eq!(received.parameters("next"), ["a b#c"], "{query}");
        for removed in ["debug", "role[]"] {
            assert!(received.parameters(removed).is_empty(), "{query}");
        }
    }
    gate.refuse(Request::get("/attack?x=1;role=admin"), 400).await;
}

#[tokio::test]
async fn a_deny_without_body_does_not_shift_the_next_answer() {
    for (attack, status) in [("body_of_204", 204), ("body_of_205", 205), ("body_of_304", 304)] {
        let gate = Gate::new(&hostile(attack, 0)).await;
        let requests = [Request::get("/attack"), Request::get("/harmless")];
        let answers = Request::send_all(&requests, gate.envoy.http()).await;
        let (head, next) = answers.split_once("\r\n\r\n").expect("an answer has an end of headers");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answers}");
        assert!(next.starts_with("HTTP/1.1 200 "), "{answers}");
        // The body from the policy has the form of an answer.
        assert_eq!(answers.matches("HTTP/1.1 ").count(), requests.len(), "{answers}");
    }
}
