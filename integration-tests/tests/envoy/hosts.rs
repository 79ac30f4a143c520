//! Tests of hosts and methods that Envoy, Portcullis and an upstream could read differently: none
//! of them bypasses a route, however Envoy selects its virtual host.

use portcullis_integration_tests::{
    client::Request,
    envoy::VIRTUAL_HOST,
    http2,
    portcullis::{Config, Portcullis, public_route, token_route},
    token,
    upstream::Received,
};
use serde_json::{Value, json};

use super::Gate;

/// One route for a host and one for all others.
fn routes(host: Value, rest: Value) -> Config {
    let mut host = host;
    host["match"] = json!({"hosts": ["named.test"]});
    let mut rest = rest;
    rest["match"] = json!({});
    Config::new([host, rest])
}

/// The named host needs a token, the others do not.
fn protected() -> Config {
    routes(token_route("named", &[]), public_route("rest", &[]))
}

/// The named host needs no token, the others do.
fn public() -> Config {
    routes(public_route("named", &[]), token_route("rest", &[]))
}

fn get(host: &str) -> Request {
    Request::get("/").host(host)
}

/// Sends requests that Portcullis must refuse with this text.
async fn refused(gate: &Gate, hosts: &[&str], words: &str) {
    for host in hosts {
        assert_eq!(gate.refuse(get(host), 400).await.text(), words, "{host}");
    }
}

#[tokio::test]
async fn an_invalid_host_does_not_bypass_the_route_of_a_host() {
    let gate = Gate::new(&protected()).await;
    gate.refuse(get("named.test"), 401).await;
    gate.refuse(get("NAMED.test"), 401).await;
    gate.pass(get("other.test")).await;
    gate.pass(get("named.test").bearer(&token::good())).await;
    refused(&gate, &["named.test:abc", "named.test:443x", "named.test:"], "malformed request")
        .await;
    refused(&gate, &["named.test:8443", "named.test."], "ambiguous host").await;
    // With or without a check by Envoy, none of these reaches the upstream.
    for host in
        ["a@named.test", "named.test,other.test", "named%2etest", "named..test", "named.test/"]
    {
        gate.refuse(get(host), 400).await;
    }
}

#[tokio::test]
async fn an_envoy_that_ignores_ports_selects_the_decided_site() {
    let ignoring = |envoy: portcullis_integration_tests::envoy::EnvoyConfig| {
        envoy
            .with_virtual_hosts(&["named.test", "*"])
            .with_route_config("ignore_port_in_host_matching", json!(true))
    };
    let gate = Gate::with(&protected(), ignoring).await;
    gate.refuse(get("named.test"), 401).await;
    refused(&gate, &["named.test:abc", "named.test:443x"], "malformed request").await;
    refused(&gate, &["named.test:8443"], "ambiguous host").await;

    let gate = Gate::with(&protected().with("hosts.port", "ignore"), ignoring).await;
    gate.refuse(get("named.test:8443"), 401).await;
    let passed = gate.pass(get("named.test:8443").bearer(&token::good())).await;
    assert_eq!(passed.all(VIRTUAL_HOST), ["named.test"]);
    refused(&gate, &["named.test:abc"], "malformed request").await;
}

#[tokio::test]
async fn an_envoy_that_compares_ports_selects_the_decided_site() {
    let plain = |envoy: portcullis_integration_tests::envoy::EnvoyConfig| {
        envoy.with_virtual_hosts(&["named.test", "*"])
    };
    let gate = Gate::with(&public(), plain).await;
    gate.refuse(get("other.test"), 401).await;
    assert_eq!(gate.pass(get("named.test")).await.all(VIRTUAL_HOST), ["named.test"]);
    refused(&gate, &["named.test:1", "named.test."], "ambiguous host").await;

    let gate = Gate::with(&public().with("hosts.port", "match"), plain).await;
    assert_eq!(gate.pass(get("named.test")).await.all(VIRTUAL_HOST), ["named.test"]);
    gate.refuse(get("named.test:1"), 401).await;
    let passed = gate.pass(get("named.test:1").bearer(&token::good())).await;
    assert_eq!(passed.all(VIRTUAL_HOST), ["*"]);
    refused(&gate, &["named.test."], "ambiguous host").await;
}

#[tokio::test]
async fn an_envoy_that_strips_ports_and_dots_leaves_no_ambiguity() {
    let gate = Gate::with(&protected(), |envoy| {
        envoy
            .with_connection_manager("strip_any_host_port", json!(true))
            .with_connection_manager("strip_trailing_host_dot", json!(true))
    })
    .await;
    for host in ["named.test:8443", "named.test.", "named.test.:8443"] {
        gate.refuse(get(host), 401).await;
        gate.pass(get(host).bearer(&token::good())).await;
    }
    gate.pass(get("other.test:8443")).await;
}

#[tokio::test]
async fn a_method_in_lower_case_does_not_bypass_its_route() {
    let mut writes = token_route("writes", &[]);
    writes["match"] = json!({"methods": ["DELETE"]});
    let gate = Gate::new(&Config::new([writes, public_route("reads", &["*"])])).await;
    let delete = |method: &'static str| http2::send(gate.address(), method, "/items/7");
    assert_eq!(delete("DELETE").await.status, 401);
    let before = gate.upstream.requests();
    for method in ["delete", "Delete", "get"] {
        let refused = delete(method).await;
        let found = (refused.status, refused.text());
        assert_eq!(found, (400, "malformed request".to_owned()), "{method}");
    }
    assert_eq!(gate.upstream.requests(), before);
    assert_eq!(Received::from_response(&delete("GET").await).method, "GET");
}

#[tokio::test]
async fn hosts_and_methods_in_proxy_headers_are_read_alike() {
    let ask = |host: &str, method: &str| {
        Request::get("/auth")
            .header("X-Forwarded-Method", method)
            .header("X-Forwarded-Host", host)
            .header("X-Forwarded-Uri", "/")
    };
    let portcullis = Portcullis::start(&protected().with("http.request_from", "x-forwarded")).await;
    let to = portcullis.addresses().http();
    for (host, method, status) in [
        ("named.test", "GET", 401),
        ("other.test", "GET", 200),
        ("named.test:abc", "GET", 400),
        ("named.test:8443", "GET", 400),
        ("named.test.", "GET", 400),
        ("named.test, other.test", "GET", 400),
        ("other.test", "get", 400),
    ] {
        assert_eq!(ask(host, method).send(to).await.status, status, "{method} {host}");
    }

    let portcullis = Portcullis::start(&protected().with("http.request_from", "x-original")).await;
    let to = portcullis.addresses().http();
    for (host, method, status) in [
        ("named.test", "GET", 401),
        ("other.test", "GET", 200),
        ("named.test:abc", "GET", 400),
        ("other.test", "delete", 400),
    ] {
        let uri = get(host).header("X-Original-Method", method).header("X-Original-URI", "/");
        assert_eq!(uri.send(to).await.status, status, "{method} {host}");
        let url = get(host)
            .header("X-Original-Method", method)
            .header("X-Original-URL", &format!("http://{host}/"));
        assert_eq!(url.send(to).await.status, status, "{method} {host}");
    }
}
