//! Tests of `docs/hardening.md`: each setting of Envoy on that page, on as in the file that we
//! ship, and off.
//!
//! A stub in the place of Portcullis shows what Envoy sends and forwards. Portcullis shows the
//! decision: with a setting off, it must refuse on its own what it can detect.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test reports"
)]

mod answers;
mod headers;
mod hosts;
mod istio;
mod limits;
mod paths;

use std::{path::Path, time::Duration};

use envoy_types::{
    ext_authz::v3::pb::{
        CheckResponse, HeaderAppendAction, HeaderValue, HeaderValueOption, HttpResponse,
        OkHttpResponse,
    },
    pb::{
        envoy::service::auth::v3::{AttributeContext, attribute_context::HttpRequest},
        google::rpc,
    },
};
use portcullis_integration_tests::{
    client::{Request, Response},
    envoy::{Envoy, EnvoyConfig},
    portcullis::{self, public_route, token_route},
    stub::{Answer, Stub},
    upstream::{Received, Upstream},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Gate;

/// A file in the folder `deploy`.
fn deployed(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every setting on, as in the file for operators.
fn shipped(envoy: EnvoyConfig) -> EnvoyConfig {
    envoy.with_settings_of(&deployed("envoy/envoy.yaml"))
}

/// The same without one setting of the connection manager.
fn without(setting: &str) -> impl FnOnce(EnvoyConfig) -> EnvoyConfig {
    move |envoy| shipped(envoy).with_connection_manager(setting, Value::Null)
}

/// Paths below `/public/` need nothing, all others a token.
fn public_and_rest() -> portcullis::Config {
    portcullis::Config::new([public_route("public", &["/public/*"]), everything(token_route)])
}

/// A route that matches every request.
fn everything(route: fn(&str, &[&str]) -> Value) -> Value {
    let mut route = route("rest", &[]);
    route.as_object_mut().unwrap().remove("match");
    route
}

/// Envoy between a client, a stub in the place of Portcullis, and an upstream.
struct Scene {
    envoy: Envoy,
    stub: Stub,
    upstream: Upstream,
}

/// The outcome of one request.
struct Seen {
    response: Response,
    /// The check from Envoy; `None` if there was none.
    check: Option<AttributeContext>,
}

// === impl Scene ===

impl Scene {
    /// A stub that allows everything.
    async fn new(configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig) -> Self {
        Self::answering(allowing(&[]), configure).await
    }

    async fn answering(
        answer: impl Into<Answer>,
        configure: impl FnOnce(EnvoyConfig) -> EnvoyConfig,
    ) -> Self {
        let (stub, upstream) = (Stub::start(answer.into()).await, Upstream::start().await);
        let config = configure(EnvoyConfig::grpc(&[stub.address()], upstream.address()));
        Self { envoy: Envoy::start(&config).await, stub, upstream }
    }

    /// Sends a request and returns its outcome.
    async fn see(&self, request: Request) -> Seen {
        let before = self.stub.asked().len();
        let response = request.send(self.envoy.http()).await;
        let check = self.stub.asked().into_iter().nth(before);
        Seen { response, check: check.and_then(|check| check.attributes) }
    }

    /// Sends bytes, which must be answered, and reads the answer.
    async fn answer_to(&self, bytes: &[u8]) -> String {
        self.answer_within(Duration::from_secs(20), bytes).await.expect("an answer")
    }

    /// Sends bytes, which must not be answered for a second and a half.
    async fn ignores(&self, bytes: &[u8]) {
        assert_eq!(self.answer_within(Duration::from_millis(1500), bytes).await, None);
    }

    async fn answer_within(&self, limit: Duration, bytes: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect(self.envoy.http()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = vec![0; 1024];
        let length = timeout(limit, stream.read(&mut answer)).await.ok()?.unwrap();
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// Sends a request that Envoy must refuse with `status` without a check.
    async fn refuse_without_check(&self, request: Request, status: u16) {
        let seen = self.see(request).await;
        assert_eq!(seen.response.status, status, "{}", seen.response.text());
        assert!(seen.check.is_none(), "Envoy sent a check");
        assert_eq!(self.upstream.requests(), 0);
    }
}

// === impl Seen ===

impl Seen {
    /// The HTTP part of the check.
    fn http(&self) -> &HttpRequest {
        let check = self.check.as_ref().expect("Envoy sent a check");
        check.request.as_ref().and_then(|request| request.http.as_ref()).expect("about HTTP")
    }

    /// The address of the client in the check.
    fn source(&self) -> String {
        let source = self.check.as_ref().and_then(|check| check.source.clone());
        format!("{:?}", source.expect("the check has a source").address)
    }

    /// The request as the upstream received it.
    fn received(&self) -> Received {
        Received::from_response(&self.response)
    }
}

/// An allow that sets request headers.
fn allowing(headers: &[(&str, &str)]) -> CheckResponse {
    let option = |&(name, value): &(&str, &str)| HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.to_owned(),
            ..HeaderValue::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    CheckResponse {
        status: Some(rpc::Status::default()),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: headers.iter().map(option).collect(),
            ..OkHttpResponse::default()
        })),
        ..CheckResponse::default()
    }
}

impl Gate {
    /// Sends a request that must be refused as malformed or without a token.
    async fn refuse_somehow(&self, request: Request) {
        let before = self.upstream.requests();
        let response = self.send(request.clone()).await;
        assert!(matches!(response.status, 400 | 401), "{request:?}: {}", response.status);
        assert_eq!(self.upstream.requests(), before, "{request:?} reached the upstream");
    }
}
