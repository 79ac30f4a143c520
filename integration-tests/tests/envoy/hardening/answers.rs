//! Tests of how Envoy handles answers: none, one that it must not apply, and one that changes the
//! headers that select the route.

use portcullis_integration_tests::{
    client::Request,
    envoy::EnvoyConfig,
    places,
    portcullis::{self, public_route},
    stub::Answer,
    upstream::Received,
};
use serde_json::{Value, json};

use super::{Gate, Scene, allowing, everything, shipped};

#[tokio::test]
async fn without_an_answer_the_request_is_refused_with_503() {
    let config = portcullis::Config::new([everything(public_route)]);
    let mut closed = Gate::with(&config, shipped).await;
    closed.pass(Request::get("/")).await;
    closed.portcullis.kill();
    closed.refuse(Request::get("/"), 503).await;

    let no_status = |envoy: EnvoyConfig| shipped(envoy).with("status_on_error", Value::Null);
    let mut no_status = Gate::with(&config, no_status).await;
    no_status.portcullis.kill();
    no_status.refuse(Request::get("/"), 403).await;

    let open = |envoy: EnvoyConfig| shipped(envoy).with("failure_mode_allow", json!(true));
    let mut open = Gate::with(&config, open).await;
    open.portcullis.kill();
    // Nothing of the decision applies: not even the client's identity headers are removed.
    let received = open.pass(Request::get("/").header("x-user-id", "root")).await;
    assert_eq!(received.all("x-user-id"), ["root"]);
}

#[tokio::test]
async fn an_answer_after_the_timeout_does_not_count() {
    let late = Scene::answering(Answer::Silence, |envoy| shipped(envoy).with_timeout("0.1s")).await;
    let seen = late.see(Request::get("/")).await;
    assert_eq!((seen.response.status, late.upstream.requests()), (503, 0));
}

#[tokio::test]
async fn a_malformed_header_in_an_answer_is_an_error() {
    let answer = || allowing(&[("x-a", "1\r\nx-b: 2")]);
    let on = Scene::answering(answer(), shipped).await;
    let seen = on.see(Request::get("/")).await;
    assert_eq!((seen.response.status, on.upstream.requests()), (500, 0));
    assert_eq!(on.envoy.stat("http.http.ext_authz.invalid").await, 1);

    let off =
        |envoy: EnvoyConfig| shipped(envoy).with("decoder_header_mutation_rules", Value::Null);
    let off = Scene::answering(answer(), off).await;
    let seen = off.see(Request::get("/")).await;
    // As with an unavailable service: nothing shows that the answer is the cause.
    assert_eq!((seen.response.status, off.upstream.requests()), (503, 0));
    assert_eq!(off.envoy.stat("http.http.ext_authz.invalid").await, 0);
}

/// Portcullis with a policy that makes this attack of this size on each request.
fn attacked_by(attack: &str, size: usize) -> portcullis::Config {
    let mut route = everything(public_route);
    let own = json!({
        "allow_without_policy": false, "policy": "hostile", "deadline": "10s",
        "settings": {"attack": attack, "size": size, "when_path": ""},
    });
    route.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    let file = places::component("hostile_guest");
    portcullis::Config::new([route]).with("policies.hostile.file", file.to_string_lossy())
}

#[tokio::test]
async fn query_parameters_arrive_unless_envoy_validates_mutations() {
    let changing = attacked_by("query_values", 0);
    let shipped_as_it_is = Gate::with(&changing, shipped).await;
    for query in ["", "?x=1", "?%72ole=admin&next=x&debu%67=1"] {
        let received = shipped_as_it_is.pass(Request::get(&format!("/{query}"))).await;
        assert_eq!(received.parameters("role"), ["user"], "{query}");
        assert_eq!(received.parameters("user"), ["a&role=admin"], "{query}");
        assert_eq!(received.parameters("next"), ["a b#c"], "{query}");
        assert!(received.parameters("debug").is_empty(), "{query}");
    }
    // To Envoy every `%` is a character that is not encoded.
    let validating = |envoy: EnvoyConfig| shipped(envoy).with("validate_mutations", json!(true));
    let validating = Gate::with(&changing, validating).await;
    validating.refuse(Request::get("/"), 500).await;
}

/// A request with this many headers.
fn with_headers(count: usize) -> Request {
    (0..count).fold(Request::get("/"), |request, number| {
        request.header(&format!("x-client-{number}"), "a")
    })
}

#[tokio::test]
async fn an_allow_that_is_too_large_for_envoy_is_refused() {
    // Envoy counts the client's headers together with those of the answer, and reports nothing.
    let names: Vec<_> = (0..60).map(|number| format!("x-answer-{number}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "a")).collect();
    let envoy_alone = Scene::answering(allowing(&headers), shipped).await;
    let seen = envoy_alone.see(with_headers(45)).await;
    assert_eq!((seen.response.status, seen.response.text().as_str()), (500, ""));
    assert_eq!(envoy_alone.see(with_headers(10)).await.response.status, 200);

    for (attack, small, large) in
        [("many_request_headers", 30, 60), ("huge_header", 15_000, 25_000)]
    {
        // As in the shipped configuration.
        let limited =
            |size| attacked_by(attack, size).with("request_limits.max_header_bytes", 24_576);
        let gate = Gate::with(&limited(small), shipped).await;
        gate.pass(with_headers(45)).await;
        let gate = Gate::with(&limited(large), shipped).await;
        let refused = gate.refuse(with_headers(45), 500).await;
        assert_eq!(refused.text(), "internal authorization error", "{attack}");
    }
}

#[tokio::test]
async fn unknown_x_envoy_headers_of_a_client_are_kept() {
    let names = ["x-envoy-foo", "x-envoy-auth-partial-body"];
    let request =
        names.into_iter().fold(Request::get("/"), |request, name| request.header(name, "a"));
    let received = Scene::new(shipped).await.see(request.clone()).await.received();
    for name in names {
        assert_eq!(received.all(name), ["a"], "{name}");
        let removing =
            |envoy| shipped(envoy).with_route_config("request_headers_to_remove", json!([name]));
        let received = Scene::new(removing).await.see(request.clone()).await.received();
        assert!(received.all(name).is_empty(), "{name}");
    }
    // No answer may set one.
    let answered = Scene::answering(allowing(&[("x-envoy-foo", "a")]), shipped).await;
    assert_eq!(answered.see(Request::get("/")).await.response.status, 500);
}

#[tokio::test]
async fn an_answer_changes_neither_method_nor_host_nor_path() {
    let without_rules =
        |envoy: EnvoyConfig| shipped(envoy).with("decoder_header_mutation_rules", Value::Null);
    for (name, value) in [(":path", "/admin"), ("host", "other.test"), (":method", "DELETE")] {
        let on = Scene::answering(allowing(&[(name, value)]), shipped).await;
        let seen = on.see(Request::get("/")).await;
        assert_eq!((seen.response.status, on.upstream.requests()), (500, 0), "{name}");

        let off = Scene::answering(allowing(&[(name, value)]), without_rules).await;
        let received = off.see(Request::get("/")).await.received();
        let changed = [received.target.as_str(), received.method.as_str(), received.all("host")[0]];
        assert!(changed.contains(&value), "{name}: {changed:?}");
    }
    // The headers that Portcullis sets pass.
    let on = Scene::answering(allowing(&[("x-user-id", "alice")]), shipped).await;
    assert_eq!(on.see(Request::get("/")).await.received().all("x-user-id"), ["alice"]);
}

/// Requests with `x-tenant` go to another route.
fn routed_by_header(envoy: EnvoyConfig) -> EnvoyConfig {
    let route = |matches: Value, name: &str| {
        json!({
            "match": matches,
            "route": {"cluster": "upstream"},
            "request_headers_to_add": [{"header": {"key": "x-route", "value": name}}],
        })
    };
    let tenant = json!({"prefix": "/", "headers": [{"name": "x-tenant", "present_match": true}]});
    let routes = json!([route(tenant, "tenant"), route(json!({"prefix": "/"}), "rest")]);
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": routes}]);
    envoy.with_route_config("virtual_hosts", hosts)
}

#[tokio::test]
async fn an_answer_does_not_change_the_selected_route() {
    let route = |received: Received| received.all("x-route").join(",");
    let answer = || allowing(&[("x-tenant", "acme")]);
    let on = Scene::answering(answer(), |envoy| routed_by_header(shipped(envoy))).await;
    assert_eq!(route(on.see(Request::get("/")).await.received()), "rest");

    let clearing = |envoy| routed_by_header(shipped(envoy)).with("clear_route_cache", json!(true));
    let off = Scene::answering(answer(), clearing).await;
    assert_eq!(route(off.see(Request::get("/")).await.received()), "tenant");
}
