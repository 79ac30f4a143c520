//! Facts about Envoy that Portcullis relies on: the checks that it sends and how it handles each
//! answer, observed with a stub. If a new Envoy changes one, a test here fails.

mod answers;
mod bodies;
mod failures;
mod over_http;
mod questions;
mod raw_connections;

use envoy_types::{
    ext_authz::v3::pb::{
        CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValue, HeaderValueOption,
        HttpResponse, HttpStatus, OkHttpResponse,
    },
    pb::google::rpc,
};
use portcullis_integration_tests::{
    client::{Request, Response},
    envoy::{Envoy, EnvoyConfig},
    stub::{Answer, Stub},
    upstream::{Received, Upstream},
};

use super::http_edge::names;

/// gRPC code OK.
const OK: i32 = 0;
/// gRPC code `PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;
/// gRPC code UNAUTHENTICATED.
const UNAUTHENTICATED: i32 = 16;

/// Envoy between a client, a stub and an upstream.
struct Scene {
    envoy: Envoy,
    stub: Stub,
    upstream: Upstream,
}

impl Scene {
    /// Envoy with the default configuration.
    async fn new(answer: impl Into<Answer>) -> Self {
        Self::with(answer, |config| config).await
    }

    /// Envoy with another configuration.
    async fn with(
        answer: impl Into<Answer>,
        configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let (stub, upstream) = (Stub::start(answer.into()).await, Upstream::start().await);
        let config = configure(EnvoyConfig::grpc(&[stub.address()], upstream.address()));
        Self { envoy: Envoy::start(&config).await, stub, upstream }
    }

    /// Sends a request through Envoy.
    async fn send(&self, request: Request) -> Response {
        request.send(self.envoy.http()).await
    }

    /// Sends a request through Envoy and returns it as the upstream received it.
    async fn pass(&self, request: Request) -> Received {
        Received::from_response(&self.send(request).await)
    }

    /// Sends a request that Envoy must refuse with `status`, and returns the response.
    async fn refuse(&self, request: Request, status: u16) -> Response {
        let response = self.send(request).await;
        assert_eq!((response.status, self.upstream.requests()), (status, 0), "{}", response.text());
        response
    }
}

/// A response with a status and its HTTP part.
fn response(code: i32, http: impl Into<Option<HttpResponse>>) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status { code, ..rpc::Status::default() }),
        http_response: http.into(),
        ..CheckResponse::default()
    }
}

/// An allow.
fn allow(ok: OkHttpResponse) -> CheckResponse {
    response(OK, HttpResponse::OkResponse(ok))
}

/// An allow that sets request headers.
fn allow_with(headers: Vec<HeaderValueOption>) -> CheckResponse {
    allow(OkHttpResponse { headers, ..OkHttpResponse::default() })
}

/// The content of a deny.
fn denied(status: i32, body: &str, headers: Vec<HeaderValueOption>) -> DeniedHttpResponse {
    DeniedHttpResponse { status: Some(HttpStatus { code: status }), headers, body: body.to_owned() }
}

/// A deny.
fn deny(status: i32, body: &str, headers: Vec<HeaderValueOption>) -> CheckResponse {
    response(PERMISSION_DENIED, HttpResponse::DeniedResponse(denied(status, body, headers)))
}

/// A header that replaces others of its name, in the format of newer Envoys.
fn header(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..unspecified(name, value)
    }
}

/// A header without an append action.
fn unspecified(name: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        ..HeaderValueOption::default()
    }
}
