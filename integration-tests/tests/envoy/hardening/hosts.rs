//! Tests of `strip_any_host_port`, `strip_trailing_host_dot` and `ignore_port_in_host_matching`:
//! Envoy's virtual host, the routes of Portcullis and the upstream use the same host.

use portcullis_integration_tests::{
    client::Request,
    envoy::EnvoyConfig,
    portcullis::{self, public_route, token_route},
};
use serde_json::{Value, json};

use super::{Gate, Scene, everything, shipped, without};

/// The name of the virtual host that Envoy selected.
const VIRTUAL_HOST: &str = "x-virtual-host";
/// Each setting, and a host that is `named.test` with it.
const SPELLINGS: [(&str, &str); 2] =
    [("strip_any_host_port", "named.test:8080"), ("strip_trailing_host_dot", "named.test.")];

/// A virtual host for `named.test`, and one for all others.
fn virtual_hosts(envoy: EnvoyConfig) -> EnvoyConfig {
    let virtual_host = |name: &str, domain: &str| {
        json!({
            "name": name,
            "domains": [domain],
            "request_headers_to_add": [{"header": {"key": VIRTUAL_HOST, "value": name}}],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream"}}],
        })
    };
    let hosts = json!([virtual_host("named", "named.test"), virtual_host("rest", "*")]);
    envoy.with_route_config("virtual_hosts", hosts)
}

/// `named.test` is public or needs a token, all other hosts the opposite.
fn routes(named_is_public: bool) -> portcullis::Config {
    type Route = fn(&str, &[&str]) -> Value;
    let (named, rest): (Route, Route) =
        if named_is_public { (public_route, token_route) } else { (token_route, public_route) };
    let mut named = named("named", &[]);
    named["match"] = json!({"hosts": ["named.test"]});
    portcullis::Config::new([named, everything(rest)])
}

fn to(host: &str) -> Request {
    Request::get("/").host(host)
}

#[tokio::test]
async fn a_port_or_a_dot_is_stripped_before_the_host_is_used() {
    let on = Scene::new(|envoy| virtual_hosts(shipped(envoy))).await;
    for (setting, host) in SPELLINGS {
        let seen = on.see(to(host)).await;
        assert_eq!(seen.http().host, "named.test");
        assert_eq!(seen.received().all("host"), ["named.test"]);
        assert_eq!(seen.received().all(VIRTUAL_HOST), ["named"]);

        let off = Scene::new(|envoy| virtual_hosts(without(setting)(envoy))).await;
        let seen = off.see(to(host)).await;
        assert_eq!(seen.http().host, host);
        assert_eq!(seen.received().all("host"), [host]);
        // Envoy reads it as another host.
        assert_eq!(seen.received().all(VIRTUAL_HOST), ["rest"]);
    }
}

#[tokio::test]
async fn with_port_and_dot_stripped_the_virtual_host_decides() {
    let public = Gate::with(&routes(true), |envoy| virtual_hosts(shipped(envoy))).await;
    let guarded = Gate::with(&routes(false), |envoy| virtual_hosts(shipped(envoy))).await;
    for (_, host) in SPELLINGS {
        assert_eq!(public.pass(to(host)).await.all(VIRTUAL_HOST), ["named"]);
        guarded.refuse(to(host), 401).await;
    }
}

#[tokio::test]
async fn a_kept_port_or_dot_selects_no_other_virtual_host() {
    for (setting, host) in SPELLINGS {
        let configure = |envoy| virtual_hosts(without(setting)(envoy));
        let gate = Gate::with(&routes(true), configure).await;
        assert_eq!(gate.pass(to("named.test")).await.all(VIRTUAL_HOST), ["named"]);
        gate.refuse_somehow(to(host)).await;
    }
}

/// As Envoy Gateway and istiod configure it.
fn ignoring_ports(envoy: EnvoyConfig) -> EnvoyConfig {
    virtual_hosts(without("strip_any_host_port")(envoy))
        .with_route_config("ignore_port_in_host_matching", json!(true))
}

#[tokio::test]
async fn with_ports_ignored_by_envoy_a_port_does_not_bypass_a_route() {
    let gate = Gate::with(&routes(false), ignoring_ports).await;
    gate.refuse(to("named.test"), 401).await;
    for host in ["named.test:8080", "named.test:abc", "named.test:443x", "named.test:"] {
        gate.refuse_somehow(to(host)).await;
    }
}

#[tokio::test]
async fn with_ports_ignored_by_both_a_port_does_not_change_the_decision() {
    let config = routes(false).with("hosts.port", "ignore");
    let gate = Gate::with(&config, ignoring_ports).await;
    gate.refuse(to("named.test:8080"), 401).await;
    assert_eq!(gate.pass(to("other.test:8080")).await.all(VIRTUAL_HOST), ["rest"]);
}

#[tokio::test]
async fn an_invalid_host_is_refused_whatever_envoy_strips() {
    let shipped = Gate::with(&routes(false), |envoy| virtual_hosts(shipped(envoy))).await;
    let bare = Gate::with(&routes(false), virtual_hosts).await;
    for host in [
        "named.test:abc",
        "named.test:443x",
        "named.test:80:80",
        "named.test..",
        "user@named.test",
        "named.test,other.test",
        "::1",
    ] {
        shipped.refuse_somehow(to(host)).await;
        bare.refuse_somehow(to(host)).await;
    }
}
