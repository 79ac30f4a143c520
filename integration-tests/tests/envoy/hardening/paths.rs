//! Tests of `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action`, and of paths
//! in another case.

use portcullis_integration_tests::{client::Request, envoy::EnvoyConfig};
use serde_json::json;

use super::{Gate, Scene, public_and_rest, shipped, without};

/// Requests that a service may read as `/admin`.
const DOT_SEGMENTS: [&str; 3] = ["/public/../admin", "/public/%2e%2e/admin", "/public/./../admin"];
const SLASHES: [&str; 3] = ["//public/admin", "/public//admin", "///public///admin"];
const ESCAPED: [&str; 4] =
    ["/public%2Fadmin", "/public/..%2fadmin", "/public%5Cadmin", "/public/..%5cadmin"];

/// Envoy sends `path` as `asked` in the check, and forwards the same.
async fn assert_checked(scene: &Scene, path: &str, asked: &str) {
    let seen = scene.see(Request::get(path)).await;
    assert_eq!((seen.http().path.as_str(), seen.received().target.as_str()), (asked, asked));
}

#[tokio::test]
async fn normalize_path_gives_one_path_to_all() {
    let (on, off) = (Scene::new(shipped).await, Scene::new(without("normalize_path")).await);
    for path in DOT_SEGMENTS {
        assert_checked(&on, path, "/admin").await;
        assert_checked(&off, path, path).await;
    }
}

#[tokio::test]
async fn dot_segments_reach_no_public_route_with_any_normalize_path() {
    let on = Gate::with(&public_and_rest(), shipped).await;
    let off = Gate::with(&public_and_rest(), without("normalize_path")).await;
    for path in DOT_SEGMENTS {
        on.refuse(Request::get(path), 401).await;
        off.refuse(Request::get(path), 400).await;
    }
}

#[tokio::test]
async fn merge_slashes_gives_one_path_to_all() {
    let (on, off) = (Scene::new(shipped).await, Scene::new(without("merge_slashes")).await);
    for path in SLASHES {
        assert_checked(&on, path, "/public/admin").await;
        assert_checked(&off, path, path).await;
    }
}

#[tokio::test]
async fn slashes_reach_no_public_route_without_merge_slashes() {
    let on = Gate::with(&public_and_rest(), shipped).await;
    let off = Gate::with(&public_and_rest(), without("merge_slashes")).await;
    for path in SLASHES {
        assert_eq!(on.pass(Request::get(path)).await.target, "/public/admin");
        off.refuse(Request::get(path), 400).await;
    }
}

#[tokio::test]
async fn escaped_slashes_are_refused_by_envoy_or_by_portcullis() {
    let on = Scene::new(shipped).await;
    let off = Scene::new(without("path_with_escaped_slashes_action")).await;
    let decided = Gate::with(&public_and_rest(), without("path_with_escaped_slashes_action")).await;
    for path in ESCAPED {
        on.refuse_without_check(Request::get(path), 400).await;
        assert_checked(&off, path, path).await;
        decided.refuse(Request::get(path), 400).await;
    }
}

fn unescaping(action: &'static str) -> impl FnOnce(EnvoyConfig) -> EnvoyConfig {
    move |envoy| {
        let action = json!(action);
        shipped(envoy).with_connection_manager("path_with_escaped_slashes_action", action)
    }
}

#[tokio::test]
async fn unescape_and_forward_as_in_istio_gives_one_path_to_all() {
    let forward = Scene::new(unescaping("UNESCAPE_AND_FORWARD")).await;
    let decided = Gate::with(&public_and_rest(), unescaping("UNESCAPE_AND_FORWARD")).await;
    for path in ["/public/..%2fadmin", "/public/..%5cadmin"] {
        assert_checked(&forward, path, "/admin").await;
        decided.refuse(Request::get(path), 401).await;
    }
}

#[tokio::test]
async fn unescape_and_redirect_lets_the_client_choose_the_target() {
    let redirect = Scene::new(|envoy| {
        let envoy = unescaping("UNESCAPE_AND_REDIRECT")(envoy);
        envoy.with_connection_manager("merge_slashes", json!(false))
    })
    .await;
    let seen = redirect.see(Request::get("/%2Felsewhere.test/x")).await;
    assert_eq!(seen.response.status, 307);
    // A browser reads this as another host.
    assert_eq!(seen.response.all("location"), ["//elsewhere.test/x"]);
}

#[tokio::test]
async fn a_public_path_in_another_case_needs_a_token() {
    let gate = Gate::with(&public_and_rest(), shipped).await;
    assert_eq!(gate.pass(Request::get("/public/a")).await.target, "/public/a");
    for path in ["/Public/a", "/PUBLIC/a", "/ADMIN/users"] {
        gate.refuse(Request::get(path), 401).await;
    }
}
