//! Routes of the running service: how it finds that of a request, by the name that Envoy gives or
//! by what the request is, and that what has no route does not pass.

use serde_json::{Value, json};

use crate::{
    check::{Answer, Ask, Client},
    process::{Folder, Service, component, example_file},
};

/// A service whose policy tells on which route it was asked, with these routes in this order: the
/// name of each, and what it matches.
pub(crate) fn telling(routes: &[(&str, Value)]) -> Service {
    telling_with(routes, |_| {})
}

/// The same with a change of the configuration.
pub(crate) fn telling_with(routes: &[(&str, Value)], change: impl FnOnce(&mut Value)) -> Service {
    let folder = Folder::new();
    let settings = json!({"attack": "echo_nothing", "when_path": ""});
    let mut config = folder.config_with_policy(&component("hostile_guest"), &settings);
    let template = config["routes"][0].take();
    let routes = routes.iter().map(|(name, matches)| {
        let mut route = template.clone();
        route["name"] = json!(name);
        route["match"] = matches.clone();
        route
    });
    config["routes"] = routes.collect();
    // The policy tells in a header what it has seen, however long.
    config["request_limits"] = json!({"max_header_bytes": 61_440});
    change(&mut config);
    Service::start(folder, &config)
}

/// The route, if there was one.
fn route(answer: &Answer) -> Option<String> {
    if answer.allowed {
        return Some(answer.seen()["route"].as_str().unwrap().to_owned());
    }
    assert_eq!((answer.status, answer.reason.as_str()), (403, "no_route"), "{answer:?}");
    None
}

pub(crate) async fn finds(service: &Service, table: &[(Ask, Option<&str>)]) {
    let client = Client::connect(service.addresses.grpc).await;
    for (ask, expected) in table {
        let answer = client.ask(ask).await;
        assert_eq!(route(&answer).as_deref(), *expected, "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_found_by_host_path_and_method_and_the_first_wins() {
    let service = telling(&[
        ("host", json!({"hosts": ["admin.test", "*.Tenant.test"]})),
        ("method", json!({"methods": ["POST", "DELETE"]})),
        (
            "all",
            json!({
                "hosts": ["api.test"], "paths": ["/a*"], "not_paths": ["/a/b"], "methods": ["GET"],
            }),
        ),
    ]);
    let table = [
        ("GET", "admin.test", "/", Some("host")),
        ("GET", "ADMIN.test:8443", "/", Some("host")),
        ("GET", "one.TENANT.test", "/", Some("host")),
        ("POST", "admin.test", "/", Some("host")),
        ("GET", "tenant.test", "/", None),
        ("GET", "admin.test.evil.test", "/", None),
        ("GET", "eviladmin.test", "/", None),
        ("POST", "api.test", "/", Some("method")),
        ("DELETE", "api.test", "/a/b", Some("method")),
        ("GET", "api.test", "/a/c", Some("all")),
        ("GET", "api.test", "/a/c?x=/a/b", Some("all")),
        ("GET", "api.test", "/a/b", None),
        ("GET", "api.test", "/a/b/", None),
        ("GET", "api.test", "/b", None),
        ("HEAD", "api.test", "/a/c", None),
        ("GET", "other.test", "/a/c", None),
    ];
    let asked = |(method, host, path, route)| (Ask::get(path).method(method).host(host), route);
    let table: Vec<_> = table.into_iter().map(asked).collect();
    finds(&service, &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_envoy_names_is_taken_if_it_matches_and_no_other() {
    let service = telling(&[
        ("host", json!({"hosts": ["admin.test"]})),
        ("named", json!({"only_by_name": true})),
        (
            "narrow",
            json!({
                "paths": ["/a/*"], "not_paths": ["/a/b"], "methods": ["GET"], "only_by_name": true,
            }),
        ),
        ("raw", json!({"tcp": true})),
    ]);
    let get = |route| Ask::get("/").host("admin.test").context("route", route);
    let narrow = |path| Ask::get(path).context("route", "narrow");
    let table = [
        (get("named"), Some("named")),
        (get("host"), Some("host")),
        // Envoy has found its virtual host, so a port is not ambiguous, and neither is a dot.
        (get("host").host("admin.test.:8443"), Some("host")),
        (get("host").host("other.test"), None),
        (narrow("/a/c"), Some("narrow")),
        (narrow("/a/b"), None),
        (narrow("/b"), None),
        (narrow("/a/c").method("DELETE"), None),
        (Ask::get("/a/c").host("other.test"), None),
        // A slip in Envoy's configuration must not open what the name was to close.
        (get("nmaed"), None),
        (get(""), None),
        (get("raw"), None),
        (Ask::get("/").host("admin.test").context("tenant", "named"), Some("host")),
    ];
    finds(&service, &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_connection_takes_a_route_for_such_and_requests_do_not() {
    let other = json!({"tcp": true, "only_by_name": true});
    let service = telling(&[("other", other), ("raw", json!({"tcp": true}))]);
    let table = [
        (Ask::connection(""), Some("raw")),
        (Ask::connection("").context("route", "other"), Some("other")),
        (Ask::get("/"), None),
        (Ask::get("/").context("route", "raw"), None),
    ];
    finds(&service, &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raw_connection_without_a_route_for_such_is_denied() {
    let service = telling(&[("requests", json!({})), ("raw", json!({"tcp": true}))]);
    let client = Client::connect(service.addresses.grpc).await;
    for route in ["requests", "nowhere"] {
        let answer = client.ask(&Ask::connection("").context("route", route)).await;
        let found = (answer.allowed, answer.status, answer.reason.as_str());
        assert_eq!(found, (false, 400, "malformed_request"), "{route}");
    }
    let service = telling(&[("requests", json!({}))]);
    let client = Client::connect(service.addresses.grpc).await;
    let answer = client.ask(&Ask::connection("spiffe://cluster.local/ns/foo/sa/a")).await;
    let found = (answer.allowed, answer.status, answer.reason.as_str());
    assert_eq!(found, (false, 400, "malformed_request"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_istios_sample_decide_a_raw_connection_by_its_principal() {
    let folder = Folder::new();
    let settings = &example_file("istio-sample.yaml")["settings"];
    let mut config = folder.config_with_policy(&component("portcullis_rules"), settings);
    config["routes"][0]["match"] = json!({"tcp": true});
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    for (principal, allowed) in [
        ("spiffe://cluster.local/ns/foo/sa/a", true),
        ("spiffe://cluster.local/ns/bar/sa/a", true),
        ("spiffe://cluster.local/ns/foo/sa/b", false),
        ("spiffe://cluster.local/ns/foo/sa/ba", false),
        ("spiffe://cluster.local/ns/foo/sa/a/b", false),
        ("", false),
    ] {
        let answer = client.ask(&Ask::connection(principal)).await;
        assert_eq!(answer.allowed, allowed, "{principal}: {answer:?}");
        if !allowed {
            assert_eq!((answer.status, answer.reason.as_str()), (403, "policy_denied"));
        }
    }
    // The rules would let it pass, but no route leads to them.
    let answer = client.ask(&Ask::get("/").header("x-ext-authz", "allow")).await;
    assert_eq!((answer.allowed, answer.reason.as_str()), (false, "no_route"));
}

#[test]
fn a_route_that_cannot_mean_what_it_says_is_refused_with_its_name_and_the_key() {
    let folder = Folder::new();
    let mut config = folder.config();
    let table = [
        (json!({"allow_without_policy": false}), "give either `policy: NAME`"),
        (json!({"allow_without_policy": false, "policy": "missing"}), "`policy: missing`"),
        (json!({"settings": {"rules": []}}), "`settings` needs a `policy`"),
        (json!({"deadline": "0s"}), "`deadline` is zero"),
        (json!({"token": "ignored"}), "`identity_headers` needs a token"),
        (json!({"identity_headers": {"Host": ["sub"]}}), "`Host` is not a permitted"),
        (json!({"identity_headers": {"x-user-id": []}}), "lists no claim"),
        (json!({"match": {"methods": ["get"]}}), "`get` is not in upper case; write `GET`"),
        (json!({"match": {"tcp": true}}), "`match.tcp` takes no other"),
    ];
    for (change, expected) in table {
        let mut route = json!({
            "name": "api", "token": "required", "allow_without_policy": true,
            "identity_headers": {"x-user-id": ["sub"]},
        });
        route.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        config["routes"] = json!([route]);
        folder.check_config(&config).assert_refused(&["route `api`", expected]);
    }
    let route = json!({"name": "api", "token": "required", "allow_without_policy": true});
    config["routes"] = json!([route, route]);
    folder.check_config(&config).assert_refused(&["`api`", "the name is used twice"]);
}
