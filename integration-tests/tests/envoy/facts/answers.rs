//! Facts: how Envoy handles each kind of answer.

use envoy_types::{
    ext_authz::v3::pb::{
        CheckResponse, HeaderAppendAction, HttpResponse, OkHttpResponse, QueryParameter,
    },
    pb::google::protobuf::{BoolValue, Struct, Value, value::Kind},
};
use portcullis_integration_tests::{client::Request, envoy::EnvoyConfig, grpc_client};
use serde_json::json;
use tonic::Code;

use super::{
    OK, PERMISSION_DENIED, Scene, UNAUTHENTICATED, allow, allow_with, denied, deny, header,
    response, unspecified,
};

#[tokio::test]
async fn an_empty_message_allows() {
    let scene = Scene::new(CheckResponse::default()).await;
    scene.pass(Request::get("/")).await;
}

#[tokio::test]
async fn the_status_decides_even_against_a_denied_response() {
    let answer = response(OK, HttpResponse::DeniedResponse(denied(401, "no", Vec::new())));
    let scene = Scene::new(answer).await;
    scene.pass(Request::get("/")).await;
}

#[tokio::test]
async fn the_status_decides_even_against_an_ok_response() {
    let answer = response(PERMISSION_DENIED, HttpResponse::OkResponse(OkHttpResponse::default()));
    let refused = Scene::new(answer).await.refuse(Request::get("/"), 403).await;
    assert_eq!(refused.text(), "");
}

#[tokio::test]
async fn a_bare_status_denies_with_403_and_no_body() {
    for code in [PERMISSION_DENIED, UNAUTHENTICATED] {
        let refused = Scene::new(response(code, None)).await.refuse(Request::get("/"), 403).await;
        assert_eq!(refused.text(), "");
    }
}

#[tokio::test]
async fn a_denied_response_gives_status_body_and_headers() {
    let answer = deny(401, "missing token", vec![header("www-authenticate", "Bearer")]);
    let refused = Scene::new(answer).await.refuse(Request::get("/"), 401).await;
    assert_eq!(refused.text(), "missing token");
    assert_eq!(refused.all("content-type"), ["text/plain"]);
    assert_eq!(refused.all("www-authenticate"), ["Bearer"]);
}

#[tokio::test]
async fn a_denied_response_may_be_a_success_or_a_redirect() {
    Scene::new(deny(204, "", Vec::new())).await.refuse(Request::get("/"), 204).await;

    let answer = deny(
        302,
        "",
        vec![
            header("location", "https://login.test/"),
            unspecified("set-cookie", "a=1"),
            unspecified("set-cookie", "b=2"),
        ],
    );
    let redirect = Scene::new(answer).await.refuse(Request::get("/"), 302).await;
    assert_eq!(redirect.all("location"), ["https://login.test/"]);
    assert_eq!(redirect.all("set-cookie"), ["a=1", "b=2"]);
}

#[tokio::test]
async fn of_a_header_that_is_set_twice_the_last_wins() {
    let answer = allow_with(vec![unspecified("x-user-id", "a"), unspecified("x-user-id", "b")]);
    let received = Scene::new(answer).await.pass(Request::get("/")).await;
    assert_eq!(received.all("x-user-id"), ["b"]);
}

#[tokio::test]
async fn a_header_that_is_set_replaces_all_that_the_client_sent() {
    for set in [unspecified("x-user-id", "real"), header("x-user-id", "real")] {
        let scene = Scene::new(allow_with(vec![set])).await;
        let one = Request::get("/").header("x-user-id", "spoofed");
        assert_eq!(scene.pass(one.clone()).await.all("x-user-id"), ["real"]);
        let two = one.header("X-User-ID", "spoofed too");
        assert_eq!(scene.pass(two).await.all("x-user-id"), ["real"]);
    }
}

#[tokio::test]
async fn an_appended_header_follows_the_clients_value() {
    let mut appended = unspecified("x-user-id", "real");
    // The field is deprecated, but every Envoy in use still obeys it.
    #[expect(deprecated, reason = "the fact is about the deprecated field")]
    let _ = appended.append.insert(BoolValue { value: true });
    let scene = Scene::new(allow_with(vec![appended])).await;
    let received = scene.pass(Request::get("/").header("x-user-id", "spoofed")).await;
    assert_eq!(received.all("x-user-id"), ["spoofed,real"]);
}

#[tokio::test]
async fn append_wins_over_the_append_action() {
    let mut contradiction = unspecified("x-user-id", "real");
    contradiction.append_action = HeaderAppendAction::AppendIfExistsOrAdd.into();
    #[expect(deprecated, reason = "the fact is about the deprecated field")]
    let _ = contradiction.append.insert(BoolValue { value: false });
    let scene = Scene::new(allow_with(vec![contradiction])).await;
    let received = scene.pass(Request::get("/").header("x-user-id", "spoofed")).await;
    assert_eq!(received.all("x-user-id"), ["real"]);
}

#[tokio::test]
async fn a_header_outside_the_answer_reaches_the_upstream_unchanged() {
    let scene = Scene::new(allow_with(Vec::new())).await;
    let received = scene.pass(Request::get("/").header("x-user-id", "spoofed")).await;
    assert_eq!(received.all("x-user-id"), ["spoofed"]);
}

#[tokio::test]
async fn an_empty_value_is_forwarded_as_an_empty_header() {
    let scene = Scene::new(allow_with(vec![unspecified("x-auth-provider", "")])).await;
    assert_eq!(scene.pass(Request::get("/")).await.all("x-auth-provider"), [""]);
}

#[tokio::test]
async fn a_line_break_in_a_header_value_is_answered_with_503() {
    let answer = allow_with(vec![header("x-user-id", "a\r\nx-admin: true")]);
    let refused = Scene::new(answer).await.refuse(Request::get("/"), 503).await;
    assert!(refused.text().contains("invalid header value for: x-user-id"), "{}", refused.text());
}

#[tokio::test]
async fn pseudo_headers_and_host_are_rewritten() {
    let answer = allow_with(vec![header(":path", "/elsewhere"), header("host", "other.test")]);
    let received = Scene::new(answer).await.pass(Request::get("/here")).await;
    assert_eq!(received.target, "/elsewhere");
    assert_eq!(received.all("host"), ["other.test"]);
}

#[tokio::test]
async fn headers_to_remove_are_removed() {
    let ok = OkHttpResponse {
        headers_to_remove: vec!["x-user-id".to_owned()],
        ..OkHttpResponse::default()
    };
    let scene = Scene::new(allow(ok)).await;
    let request = Request::get("/").header("X-User-Id", "spoofed").header("x-user-id", "again");
    assert!(scene.pass(request).await.all("x-user-id").is_empty());
}

#[tokio::test]
async fn query_parameters_are_set_and_removed() {
    let ok = OkHttpResponse {
        query_parameters_to_set: vec![QueryParameter {
            key: "k".to_owned(),
            value: "v".to_owned(),
        }],
        query_parameters_to_remove: vec!["z".to_owned()],
        ..OkHttpResponse::default()
    };
    let received = Scene::new(allow(ok)).await.pass(Request::get("/p?z=1&y=2")).await;
    assert_eq!(received.target, "/p?k=v&y=2");
}

#[tokio::test]
async fn query_parameters_are_compared_and_written_as_spelled() {
    let parameter =
        |key: &str, value: &str| QueryParameter { key: key.to_owned(), value: value.to_owned() };
    let ok = OkHttpResponse {
        query_parameters_to_set: vec![parameter("set", "a%26b"), parameter("both", "v")],
        query_parameters_to_remove: vec!["gone".to_owned(), "%67one".to_owned(), "both".to_owned()],
        ..OkHttpResponse::default()
    };
    let scene = Scene::new(allow(ok)).await;
    for (sent, received) in [
        ("/p", "/p?set=a%26b"),
        ("/p?set=1&%73et=2&set=3", "/p?%73et=2&set=a%26b"),
        ("/p?gone&%67one=1&gon%65=2", "/p?gon%65=2&set=a%26b"),
        ("/p?x=1;gone=2&gone=3;x=4", "/p?set=a%26b&x=1;gone=2"),
    ] {
        assert_eq!(scene.pass(Request::get(sent)).await.target, received, "{sent}");
    }
}

#[tokio::test]
async fn an_answer_of_more_than_a_hundred_nested_messages_is_an_error() {
    let nested = |depth| {
        let mut value = Value { kind: Some(Kind::BoolValue(true)) };
        for _ in 0..depth {
            let fields = [("a".to_owned(), value)].into();
            value = Value { kind: Some(Kind::StructValue(Struct { fields })) };
        }
        let fields = [("a".to_owned(), value)].into();
        let metadata = Some(Struct { fields });
        CheckResponse { dynamic_metadata: metadata, ..deny(403, "no", Vec::new()) }
    };
    // Three messages for each level.
    Scene::new(nested(31)).await.refuse(Request::get("/"), 403).await;
    let open = |envoy: EnvoyConfig| envoy.with("failure_mode_allow", json!(true));
    Scene::with(nested(33), open).await.pass(Request::get("/")).await;
}

#[tokio::test]
async fn response_headers_reach_the_client() {
    let ok = OkHttpResponse {
        response_headers_to_add: vec![unspecified("x-decision", "allowed")],
        ..OkHttpResponse::default()
    };
    let response = Scene::new(allow(ok)).await.send(Request::get("/")).await;
    assert_eq!(response.all("x-decision"), ["allowed"]);
}

#[tokio::test]
async fn a_grpc_client_gets_the_deny_as_a_grpc_status() {
    for (http, code) in [(401, Code::Unauthenticated), (403, Code::PermissionDenied)] {
        let scene = Scene::new(deny(http, "token revoked", Vec::new())).await;
        let refused = grpc_client::call(scene.envoy.http(), None).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, "token revoked"));
        assert_eq!(scene.upstream.requests(), 0);
    }
}
