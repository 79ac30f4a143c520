//! Tests of protected paths: the table that Istio users write, with Istio's condition and with
//! Portcullis' own routes, and ambiguous paths.

use portcullis_integration_tests::{
    client::Request,
    envoy,
    portcullis::{Config, public_route, token_route},
    token,
};
use serde_json::json;

use super::Gate;

/// Paths that need a token under the rules of these tests.
const PROTECTED: [&str; 4] =
    ["/api/orders", "/api/", "/api/healthy", "/api/orders?next=/api/health"];
/// Paths under `/api/` that need none.
const EXCEPTED: [&str; 3] = ["/api/health", "/api/auth/login", "/api/health?full=1"];

#[tokio::test]
async fn with_istios_condition_envoy_checks_only_protected_paths() {
    // Portcullis would refuse every check without a token.
    let config = Config::new([token_route("all", &["*"])]);
    let (paths, not_paths) = (json!(["/api/*"]), json!(["/api/health", "/api/auth/*"]));
    let gate = Gate::with(&config, |envoy| envoy.only_for_paths(&paths, &not_paths)).await;
    for path in PROTECTED {
        gate.refuse(Request::get(path), 401).await;
        gate.pass(Request::get(path).bearer(&token::good())).await;
    }
    for path in EXCEPTED.into_iter().chain(["/", "/metrics"]) {
        assert_eq!(gate.pass(Request::get(path)).await.target, path);
    }
}

#[tokio::test]
async fn the_same_table_works_as_routes() {
    let mut api = token_route("api", &["/api/*"]);
    api["match"]["not_paths"] = json!(["/api/health", "/api/auth/*"]);
    let public = public_route("public", &["/api/health", "/api/auth/*"]);
    let gate = Gate::new(&Config::new([api, public])).await;
    for path in PROTECTED {
        gate.refuse(Request::get(path), 401).await;
        gate.pass(Request::get(path).bearer(&token::good())).await;
    }
    for path in EXCEPTED {
        assert_eq!(gate.pass(Request::get(path)).await.target, path);
    }
    // A path without a route is refused.
    gate.refuse(Request::get("/metrics").bearer(&token::good()), 403).await;
}

#[tokio::test]
async fn repeated_slashes_do_not_bypass_a_route() {
    let routes = || [public_route("public", &["/public/*"]), token_route("admin", &["/admin/*"])];
    let gate = Gate::new(&Config::new(routes())).await;
    gate.refuse(Request::get("/admin/users"), 401).await;
    // Servers that resolve the target as a reference read `public` as the host.
    for path in
        ["//public/admin/users", "//admin/users", "/admin//users", "///admin/users", "/public//"]
    {
        let refused = gate.refuse(Request::get(path), 400).await;
        assert_eq!(refused.text(), "ambiguous path", "{path}");
    }
    // An Envoy that merges them forwards what was decided on.
    let merging =
        |envoy: envoy::EnvoyConfig| envoy.with_connection_manager("merge_slashes", json!(true));
    let gate = Gate::with(&Config::new(routes()), merging).await;
    gate.refuse(Request::get("//admin//users"), 401).await;
    assert_eq!(gate.pass(Request::get("//public//a")).await.target, "/public/a");

    let tolerating = Config::new(routes()).with("paths.tolerate", json!(["empty_segments"]));
    let gate = Gate::new(&tolerating).await;
    for path in ["//admin/users", "/admin//users", "///admin///users"] {
        gate.refuse(Request::get(path), 401).await;
    }
}

#[tokio::test]
async fn a_trailing_slash_or_case_does_not_bypass_a_route() {
    let routes = [token_route("admin", &["/admin"]), public_route("rest", &["*"])];
    let config = Config::new(routes).with("paths.ignore_case", true);
    let gate = Gate::new(&config).await;
    for path in ["/admin", "/admin/", "/Admin", "/ADMIN/", "/%41dmin/"] {
        gate.refuse(Request::get(path), 401).await;
    }
    assert_eq!(gate.pass(Request::get("/Public/")).await.target, "/Public/");
}

#[tokio::test]
async fn every_size_of_request_that_envoy_accepts_is_decided_on() {
    let gate = Gate::new(&Config::new([token_route("all", &["*"])])).await;
    // Envoy's default limit is 60 KiB for all headers.
    let target = format!("/a?{}", "q".repeat(55_000));
    gate.refuse(Request::get(&target), 401).await;
    assert_eq!(gate.pass(Request::get(&target).bearer(&token::good())).await.target, target);
    // Paths have their own limit, without the query.
    let refused = gate.refuse(Request::get(&format!("/{}", "a".repeat(8_192))), 413).await;
    assert_eq!(refused.text(), "request too large");
}

#[tokio::test]
async fn a_path_with_two_readings_is_refused() {
    let gate = Gate::new(&Config::new([public_route("public", &["*"])])).await;
    gate.pass(Request::get("/public/a%20b")).await;
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..%2fadmin",
        "/public%2fadmin",
        "/public%5cadmin",
        "/public\\admin",
        "/public/%252e%252e/admin",
        "/public;v=1/admin",
        "/public%00",
        "/public%zz",
        "/public/%ff",
        "/public//",
        "//public/",
    ] {
        let refused = gate.refuse(Request::get(path), 400).await;
        assert_eq!(refused.text(), "ambiguous path", "{path}");
    }
}
