//! Tests of `docs/hardening.md`: each setting of Envoy on that page, on as in the file that we ship, and
//! off.
//!
//! A stub in the place of Portcullis shows what Envoy asks and forwards. Portcullis shows what is decided:
//! with a setting off, it has to refuse alone what it can see.
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
    envoy::{Config, Envoy},
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
fn shipped(envoy: Config) -> Config {
    envoy.with_settings_of(&deployed("envoy/envoy.yaml"))
}

/// The same without one setting of the connection manager.
fn without(setting: &str) -> impl FnOnce(Config) -> Config {
    move |envoy| shipped(envoy).with_connection_manager(setting, Value::Null)
}

/// What is below `/public/` needs nothing, all the rest a token.
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

/// What came of one request.
struct Seen {
    response: Response,
    /// What Envoy asked about it; `None` if it did not ask.
    question: Option<AttributeContext>,
}

// === impl Scene ===

impl Scene {
    /// A stub that allows everything.
    async fn new(configure: impl FnOnce(Config) -> Config) -> Self {
        Self::answering(allowing(&[]), configure).await
    }

    async fn answering(
        answer: impl Into<Answer>,
        configure: impl FnOnce(Config) -> Config,
    ) -> Self {
        let (stub, upstream) = (Stub::start(answer.into()).await, Upstream::start().await);
        let config = configure(Config::grpc(&[stub.address()], upstream.address()));
        Self { envoy: Envoy::start(&config).await, stub, upstream }
    }

    /// Sends a request and tells what Envoy made of it.
    async fn see(&self, request: Request) -> Seen {
        let before = self.stub.asked().len();
        let response = request.send(self.envoy.http()).await;
        let question = self.stub.asked().into_iter().nth(before);
        Seen { response, question: question.and_then(|question| question.attributes) }
    }

    /// Sends bytes and reads what comes back within a second and a half, if anything.
    async fn answer_to(&self, bytes: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect(self.envoy.http()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = vec![0; 1024];
        let read = timeout(Duration::from_millis(1500), stream.read(&mut answer)).await;
        let length = read.ok()?.unwrap();
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// Sends a request that Envoy must refuse with `status` without asking.
    async fn refuse_unasked(&self, request: Request, status: u16) {
        let seen = self.see(request).await;
        assert_eq!(seen.response.status, status, "{}", seen.response.text());
        assert!(seen.question.is_none(), "Envoy asked");
        assert_eq!(self.upstream.requests(), 0);
    }
}

// === impl Seen ===

impl Seen {
    /// The HTTP part of the question.
    fn http(&self) -> &HttpRequest {
        let question = self.question.as_ref().expect("Envoy asked");
        question.request.as_ref().and_then(|request| request.http.as_ref()).expect("about HTTP")
    }

    /// The address of the client, as Envoy tells it.
    fn source(&self) -> String {
        let source = self.question.as_ref().and_then(|question| question.source.clone());
        format!("{:?}", source.expect("Envoy tells the source").address)
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
    /// Sends a request that must be refused as malformed or for want of a token.
    async fn refuse_somehow(&self, request: Request) {
        let before = self.upstream.requests();
        let response = self.send(request.clone()).await;
        assert!(matches!(response.status, 400 | 401), "{request:?}: {}", response.status);
        assert_eq!(self.upstream.requests(), before, "{request:?} reached the upstream");
    }
}
