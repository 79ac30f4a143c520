//! Facts: how a request is represented in a `CheckRequest`.

use envoy_types::pb::google::protobuf::value::Kind;
use portcullis_integration_tests::{client::Request, envoy::EnvoyConfig, upstream::Received};
use serde_json::json;

use super::{Scene, allow_with};

async fn scene(configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Scene {
    Scene::with(allow_with(Vec::new()), configure).await
}

#[tokio::test]
async fn header_names_are_in_lower_case_and_pseudo_headers_are_among_them() {
    let scene = scene(|config| config).await;
    scene.pass(Request::get("/a").header("X-Some-Header", "Value")).await;
    let http = scene.stub.http();
    let header = |name: &str| http.headers.get(name).map(String::as_str);
    assert_eq!(header("x-some-header"), Some("Value"));
    assert_eq!(header(":method"), Some("GET"));
    assert_eq!(header(":path"), Some("/a"));
    assert_eq!(header(":scheme"), Some("http"));
    assert_eq!(header(":authority"), Some("api.test"));
    assert_eq!((http.method.as_str(), http.scheme.as_str()), ("GET", "http"));
    assert_eq!(http.host, "api.test");
}

#[tokio::test]
async fn the_path_is_as_sent_with_its_query() {
    for path in ["/Path%2Fx?q=1", "//admin/../x;y?a=%20", "/a%00b"] {
        let scene = scene(|config| config).await;
        scene.pass(Request::get(path)).await;
        assert_eq!(scene.stub.http().path, path);
    }
}

#[tokio::test]
async fn repeated_headers_arrive_joined() {
    let scene = scene(|config| config).await;
    scene.pass(Request::get("/").bearer("A").bearer("B")).await;
    assert_eq!(scene.stub.http().headers["authorization"], "Bearer A,Bearer B");
}

#[tokio::test]
async fn raw_headers_arrive_in_the_header_map_alone() {
    let scene = scene(|config| config.with("encode_raw_headers", json!(true))).await;
    scene.pass(Request::get("/").bearer("A").header("x-latin", "caf\u{e9}")).await;
    let http = scene.stub.http();
    assert!(http.headers.is_empty());
    let raw = |name: &str| {
        let map = http.header_map.as_ref().unwrap();
        let named = map.headers.iter().filter(|header| header.key == name);
        named.map(|header| (header.value.clone(), header.raw_value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(raw("authorization"), [(String::new(), b"Bearer A".to_vec())]);
    assert_eq!(raw("x-latin"), [(String::new(), "caf\u{e9}".as_bytes().to_vec())]);
    assert_eq!(raw(":path"), [(String::new(), b"/".to_vec())]);
}

#[tokio::test]
async fn repeated_raw_headers_stay_separate_except_known_names() {
    let scene = scene(|config| config.with("encode_raw_headers", json!(true))).await;
    let request = Request::get("/").bearer("A").bearer("B").header("x-a", "1").header("X-A", "2");
    scene.pass(request).await;
    let headers = scene.stub.http().header_map.unwrap().headers;
    let values = |name: &str| {
        let named = headers.iter().filter(|header| header.key == name);
        named.map(|header| String::from_utf8_lossy(&header.raw_value)).collect::<Vec<_>>()
    };
    assert_eq!(values("authorization"), ["Bearer A,Bearer B"]);
    assert_eq!(values("x-a"), ["1", "2"]);
}

#[tokio::test]
async fn context_extensions_come_from_the_route() {
    let settings = json!({"context_extensions": {"route": "admin"}});
    let scene = scene(|config| config.with_check_settings(&settings)).await;
    scene.pass(Request::get("/")).await;
    assert_eq!(scene.stub.attributes().context_extensions["route"], "admin");
}

#[tokio::test]
async fn metadata_of_named_filters_is_passed() {
    let metadata = json!({
        "metadata": [{"metadata_namespace": "demo", "value": {"plan": "gold"}}],
    });
    let scene = scene(|config| {
        config
            .after_filter("set_metadata", "Config", metadata)
            .with("metadata_context_namespaces", json!(["demo"]))
    })
    .await;
    scene.pass(Request::get("/")).await;
    let context = scene.stub.attributes().metadata_context.unwrap();
    let plan = context.filter_metadata["demo"].fields["plan"].kind.clone();
    assert_eq!(plan, Some(Kind::StringValue("gold".to_owned())));
}

#[tokio::test]
async fn source_and_destination_are_the_ends_of_the_connection() {
    let scene = scene(|config| config).await;
    scene.pass(Request::get("/")).await;
    let attributes = scene.stub.attributes();
    for peer in [attributes.source.unwrap(), attributes.destination.unwrap()] {
        let text = format!("{:?}", peer.address.unwrap());
        assert!(text.contains("127.0.0.1"), "{text}");
        assert_eq!(peer.principal, "");
    }
}

#[tokio::test]
async fn istios_condition_checks_only_the_paths_of_the_policy() {
    let paths = json!(["/api/*"]);
    let not_paths = json!(["/api/health", "/api/auth/*"]);
    let scene = Scene::with(super::deny(403, "asked", Vec::new()), |config| {
        config.only_for_paths(&paths, &not_paths)
    })
    .await;
    for path in ["/api/health", "/api/auth/login", "/", "/other"] {
        let response = scene.send(Request::get(path)).await;
        assert_eq!(Received::from_response(&response).target, path);
    }
    for path in ["/api/orders", "/api/healthy", "/api/"] {
        assert_eq!(scene.send(Request::get(path)).await.text(), "asked", "{path}");
    }
}
