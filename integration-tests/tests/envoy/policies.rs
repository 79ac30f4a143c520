//! Owns a policy behind Envoy: the rules that stand for Istio's sample server decide as the task
//! "External Authorization" of Istio's documentation shows with `curl`.

#![expect(clippy::expect_used, reason = "a panic is how a test reports")]

use std::path::Path;

use portcullis_integration_tests::{client::Request, envoy, places, portcullis::Config};
use serde_json::{Value, json};

use super::Gate;

const RESULT: &str = "x-ext-authz-check-result";
const OVERRIDE: &str = "x-ext-authz-additional-header-override";
const CHECKED: &str = "x-ext-authz-check-received";
/// What the sample sets `OVERRIDE` to.
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

/// The sample as a component, asked about everything that Envoy asks about.
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

/// The task's `AuthorizationPolicy` asks about `/headers` alone.
fn about_headers(envoy: envoy::Config) -> envoy::Config {
    envoy.only_for_paths(&json!(["/headers"]), &json!(["/ip"]))
}

fn get(path: &str) -> Request {
    Request::get(path).host("httpbin.foo:8000")
}

#[tokio::test]
async fn istios_table_gives_what_istios_sample_gives() {
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

    // Nobody asks about the others.
    let unasked = gate.pass(get("/ip")).await;
    assert_eq!(unasked.all(RESULT), Vec::<&str>::new());
}

#[tokio::test]
async fn what_the_client_says_in_the_samples_name_is_replaced() {
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
async fn a_connection_from_nobody_in_the_mesh_is_closed_by_the_policy() {
    let gate = Gate::new(&sample()).await;
    let allowed_over_http = get("/headers").header("x-ext-authz", "allow");
    allowed_over_http.try_send(gate.envoy.tcp()).await.unwrap_err();
    gate.pass(allowed_over_http).await;
}
