//! Facts: what Envoy sends in a check over HTTP, and which answers it treats as errors.

use portcullis_integration_tests::{
    client::{Request, Response},
    envoy::{Envoy, EnvoyConfig},
    http_stub::HttpStub,
    upstream::Upstream,
};
use serde_json::json;

use super::names;

const TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms";

/// Sends a request through an Envoy that fails open and waits 2.5 s for this stub.
async fn send(stub: &HttpStub, request: Request) -> Response {
    let upstream = Upstream::start().await;
    let config = EnvoyConfig::http(stub.address(), upstream.address())
        .with_http_timeout("2.5s")
        .with("allowed_headers", names(&[TIMEOUT]))
        .with("failure_mode_allow", json!(true));
    let envoy = Envoy::start(&config).await;
    request.send(envoy.http()).await
}

#[tokio::test]
async fn failing_open_allows_answers_from_500_on_and_no_other() {
    for status in [500, 502, 503, 504, 599] {
        let response = send(&HttpStub::start(status).await, Request::get("/")).await;
        assert_eq!(response.status, 200, "the stub answered {status}");
    }
    for status in [201, 204, 302, 401, 403, 429, 499] {
        let response = send(&HttpStub::start(status).await, Request::get("/")).await;
        assert_eq!(response.status, status);
    }
}

#[tokio::test]
async fn envoy_sends_its_timeout_and_a_client_cannot_change_it() {
    for request in [Request::get("/"), Request::get("/").header(TIMEOUT, "60000")] {
        let stub = HttpStub::start(200).await;
        assert_eq!(send(&stub, request).await.status, 200);
        assert_eq!(stub.all(TIMEOUT), ["2500"]);
    }
}
