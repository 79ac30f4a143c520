//! Tests of the files for Istio: what the policy that we ship checks, what a list of paths would
//! leave open, and that the routes that we ship name the public paths.

use std::path::Path;

use portcullis_integration_tests::{
    client::Request,
    envoy::EnvoyConfig,
    places,
    portcullis::{self, token_route},
    token::{self, SUBJECT},
};
use serde_json::{Value, json};

use super::{Gate, Scene, deployed, everything, shipped};

/// Every request that the policy in this file matches is checked.
fn asking_by(file: &'static str) -> impl FnOnce(EnvoyConfig) -> EnvoyConfig {
    move |envoy| envoy.asking_as_istio(&deployed(file)["spec"]["rules"])
}

#[tokio::test]
async fn the_shipped_policies_check_every_request() {
    for file in ["istio/authorization-policy.yaml", "istio/same-pod/authorization-policy.yaml"] {
        let scene = Scene::new(asking_by(file)).await;
        for path in ["/", "/api/orders", "/API/orders", "/api/health", "/api/auth/login", "//a"] {
            let seen = scene.see(Request::get(path)).await;
            assert_eq!(seen.http().path, path, "{file}");
        }
    }
}

/// A list of checked paths leaves the rest open, as the page says.
#[tokio::test]
async fn a_policy_with_paths_leaves_requests_unchecked_and_unchanged() {
    let config = portcullis::Config::new([everything(token_route)]);
    let (paths, not_paths) = (json!(["/api/*"]), json!(["/api/health"]));
    let gate = Gate::with(&config, |envoy| envoy.only_for_paths(&paths, &not_paths)).await;
    gate.refuse(Request::get("/api/orders"), 401).await;
    // A case-insensitive service serves `/api/orders`.
    for path in ["/API/orders", "/", "/api/health"] {
        let received = gate.pass(Request::get(path).header("x-user-id", "root")).await;
        assert_eq!(received.all("x-user-id"), ["root"], "{path}");
    }
}

/// These routes with the issuer of the tests.
fn routes_of(config: &Value) -> portcullis::Config {
    let policy = places::component("portcullis_rules");
    let routes = config["routes"].as_array().unwrap().clone();
    portcullis::Config::new(routes).with("policies.rules.file", policy.to_string_lossy())
}

/// The routes that `docs/hardening.md` shows.
fn routes_of_the_page() -> Value {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hardening.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let routes = blocks.find(|block| block.starts_with("routes:")).expect("routes");
    serde_saphyr::from_str(routes).unwrap()
}

/// Requests for paths that only look public.
const ALMOST_PUBLIC: [&str; 12] = [
    "/",
    "/api/orders",
    "/API/orders",
    "/Healthz",
    "/healthz/x",
    "/healthz;x",
    "/healthz%2F..%2Fapi",
    "/healthz/../api/orders",
    "//healthz/api",
    "/Health",
    "/api/auth/login/x",
    "/api/me",
];

#[tokio::test]
async fn the_shipped_routes_protect_all_but_the_public_paths() {
    for (config, health) in [
        (deployed("kubernetes/portcullis.yaml"), "/healthz"),
        (deployed("compose/portcullis.yaml"), "/health"),
        (routes_of_the_page(), "/healthz"),
    ] {
        let as_istio = asking_by("istio/authorization-policy.yaml");
        let gates = [
            Gate::with(&routes_of(&config), shipped).await,
            Gate::with(&routes_of(&config), as_istio).await,
        ];
        for gate in gates {
            for path in ALMOST_PUBLIC {
                gate.refuse_somehow(Request::get(path)).await;
                gate.refuse_somehow(Request::post(path, "x")).await;
            }
            let request = Request::get(health).header("x-user-id", "root").bearer("unverified");
            let received = gate.pass(request).await;
            for name in ["x-user-id", "authorization"] {
                assert!(received.all(name).is_empty(), "{name}: {config}");
            }
            let me = Request::get("/api/me").bearer(&token::good()).header("x-user-id", "root");
            assert_eq!(gate.pass(me).await.all("x-user-id"), [SUBJECT]);
        }
    }
}

#[tokio::test]
async fn the_shipped_envoy_filters_refuse_underscores() {
    for file in ["istio/envoy-filter.yaml", "istio/same-pod/envoy-filter.yaml"] {
        let patch = deployed(file)["spec"]["configPatches"][0]["patch"]["value"].clone();
        let merged = |envoy: EnvoyConfig| {
            let fields = patch["typed_config"].as_object().unwrap().iter();
            fields.fold(envoy, |envoy, (field, value)| {
                envoy.with_connection_manager(field, Value::clone(value))
            })
        };
        let scene = Scene::new(merged).await;
        scene.refuse_without_check(Request::get("/").header("x_user_id", "root"), 400).await;
        scene.see(Request::get("/").header("x-user-id", "root")).await.received();
    }
}
