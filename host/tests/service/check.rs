//! Owns a client of the gRPC edge that can tell a check that was refused from one that was lost, and
//! tokens to send with it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::HeaderValueOption,
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{self, HttpRequest},
        check_response::HttpResponse,
    },
};
use h2::{Reason, client::SendRequest};
use prost::Message;
use serde_json::json;
use tokio::{net::TcpStream, task::JoinSet};

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const SECRET: &str = "a secret of the tests, long enough for HS256";
const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const PATIENCE: Duration = Duration::from_mins(1);

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Ask(HttpRequest);

/// An answer, which came with the gRPC status OK.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    /// The reason code of a deny.
    pub(crate) reason: String,
    /// The HTTP status of a deny.
    pub(crate) status: i32,
    pub(crate) body: String,
    pub(crate) set_request_headers: BTreeMap<String, String>,
    pub(crate) remove_request_headers: Vec<String>,
    pub(crate) response_headers: BTreeMap<String, String>,
}

/// There is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server never took the question, so another one may be asked.
    Refused,
    /// It did, or may have.
    Lost(String),
}

/// A connection to the gRPC edge.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

/// A good token for `subject`.
pub(crate) fn token(subject: &str) -> String {
    let now = jiff::Timestamp::now().as_second();
    let claims = json!({
        "iss": ISSUER, "sub": subject, "jti": format!("{subject}-{now}"), "exp": now + 600,
    });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

// === impl Ask ===

impl Ask {
    pub(crate) fn get(path: &str) -> Self {
        Self(HttpRequest {
            id: "1".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: "api.test".to_owned(),
            scheme: "https".to_owned(),
            protocol: "HTTP/2".to_owned(),
            ..HttpRequest::default()
        })
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    fn message(&self) -> Bytes {
        let request = attribute_context::Request { http: Some(self.0.clone()), time: None };
        let attributes = AttributeContext { request: Some(request), ..Default::default() };
        let message = CheckRequest { attributes: Some(attributes) }.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], length.as_slice(), &message].concat().into()
    }
}

// === impl Client ===

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let socket = TcpStream::connect(to).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (sender, connection) = h2::client::handshake(socket).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // Whoever asks sees the error too.
            let _ = connection.await;
        });
        Self { sender, _connection: tasks }
    }

    /// Asks, and expects an answer.
    pub(crate) async fn ask(&self, ask: &Ask) -> Answer {
        self.try_ask(ask).await.unwrap_or_else(|failure| panic!("{ask:?}: {failure:?}"))
    }

    /// Asks.
    pub(crate) async fn try_ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        tokio::time::timeout(PATIENCE, self.exchange(ask))
            .await
            .unwrap_or_else(|_| Err(Failure::Lost(format!("no answer in {PATIENCE:?}"))))
    }

    async fn exchange(&self, ask: &Ask) -> Result<Answer, Failure> {
        // Without a stream there is nothing to lose.
        let refused = |_| Failure::Refused;
        let mut sender = self.sender.clone().ready().await.map_err(refused)?;
        let request = http::Request::post(format!("http://portcullis.test{CHECK}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut stream) = sender.send_request(request, false).map_err(refused)?;
        stream.send_data(ask.message(), true).map_err(|error| failure(&error))?;
        let mut body = response.await.map_err(|error| failure(&error))?.into_body();
        let mut bytes = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|error| failure(&error))?;
            body.flow_control().release_capacity(chunk.len()).map_err(|error| failure(&error))?;
            bytes.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.map_err(|error| failure(&error))?.unwrap_or_default();
        let status = trailers.get("grpc-status").map(http::HeaderValue::as_bytes);
        if status != Some(b"0") {
            return Err(Failure::Lost(format!("not an OK of gRPC: {trailers:?}")));
        }
        Ok(Answer::from(CheckResponse::decode(&bytes[5..]).unwrap()))
    }
}

/// A stream that is beyond the last one that GOAWAY names, or reset as refused, was not worked on
/// (RFC 9113 sections 6.8 and 8.7).
fn failure(error: &h2::Error) -> Failure {
    let refused = error.is_remote()
        && (error.is_go_away() && error.reason() == Some(Reason::NO_ERROR)
            || error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM));
    if refused { Failure::Refused } else { Failure::Lost(error.to_string()) }
}

// === impl Answer ===

impl From<CheckResponse> for Answer {
    fn from(response: CheckResponse) -> Self {
        let status = response.status.expect("an answer without status lets everybody pass");
        match response.http_response.expect("every answer says how to go on") {
            HttpResponse::OkResponse(ok) => {
                assert_eq!(status.code, 0, "the two halves of the answer contradict each other");
                Self {
                    allowed: true,
                    set_request_headers: fields(ok.headers),
                    remove_request_headers: ok.headers_to_remove,
                    response_headers: fields(ok.response_headers_to_add),
                    ..Self::default()
                }
            }
            HttpResponse::DeniedResponse(denied) => {
                assert_ne!(status.code, 0, "the two halves of the answer contradict each other");
                Self {
                    reason: status.message,
                    status: denied.status.unwrap().code,
                    body: denied.body,
                    response_headers: fields(denied.headers),
                    ..Self::default()
                }
            }
            HttpResponse::ErrorResponse(_) => panic!("an error lets everybody pass, or nobody"),
        }
    }
}

fn fields(options: Vec<HeaderValueOption>) -> BTreeMap<String, String> {
    options.into_iter().filter_map(|option| option.header).map(|h| (h.key, h.value)).collect()
}
