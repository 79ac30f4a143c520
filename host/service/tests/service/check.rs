//! Test client of the gRPC edge, which can tell a refused check from a lost one, and tokens to send
//! with it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::{
        Address, HeaderValue, HeaderValueOption, SocketAddress, address,
        socket_address::PortSpecifier,
    },
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{self, HttpRequest, Peer},
        check_response::HttpResponse,
    },
};
use h2::{Reason, client::SendRequest};
use prost::Message;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{readable, structure};

pub(crate) const ISSUER: &str = "https://issuer.test";
pub(crate) const SECRET: &str = "a secret of the tests, long enough for HS256";
pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const PATIENCE: Duration = Duration::from_mins(1);

/// A question.
#[derive(Debug, Clone)]
pub(crate) struct Ask(AttributeContext);

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
    pub(crate) set_query: BTreeMap<String, String>,
    pub(crate) remove_query: Vec<String>,
    /// The metadata for other filters of Envoy; `null` if none.
    pub(crate) metadata: Value,
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
    /// What each call states as its `grpc-timeout`.
    limit: Option<&'static str>,
    _connection: JoinSet<()>,
}

/// The claims of a good token for `subject`.
pub(crate) fn claims(subject: &str) -> Value {
    let now = jiff::Timestamp::now().as_second();
    json!({"iss": ISSUER, "sub": subject, "jti": format!("{subject}-{now}"), "exp": now + 600})
}

/// A token with these claims, signed with `secret`.
pub(crate) fn sign(claims: &Value, secret: &str) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// A good token for `subject`.
pub(crate) fn token(subject: &str) -> String {
    sign(&claims(subject), SECRET)
}

// === impl Ask ===

impl Ask {
    /// About a request.
    pub(crate) fn get(path: &str) -> Self {
        let http = HttpRequest {
            id: "1".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: "api.test".to_owned(),
            scheme: "https".to_owned(),
            protocol: "HTTP/2".to_owned(),
            ..HttpRequest::default()
        };
        let request = attribute_context::Request { http: Some(http), time: None };
        Self(AttributeContext { request: Some(request), ..AttributeContext::default() })
    }

    /// About a raw connection, as Envoy's network filter asks, from the holder of this certificate.
    pub(crate) fn connection(principal: &str) -> Self {
        Self(AttributeContext::default()).peer("10.0.0.1", 5000, principal)
    }

    pub(crate) fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.http().method);
        self
    }

    pub(crate) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.http().host);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.http().headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A header as Envoy passes it under `encode_raw_headers`, where the same name may come again.
    pub(crate) fn raw_header(mut self, name: &str, value: &str) -> Self {
        let raw_value = value.as_bytes().to_vec();
        let header = HeaderValue { key: name.to_owned(), raw_value, ..HeaderValue::default() };
        self.http().header_map.get_or_insert_default().headers.push(header);
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// A body as Envoy passes it by default.
    pub(crate) fn body(mut self, text: &str) -> Self {
        text.clone_into(&mut self.http().body);
        self
    }

    /// A body as Envoy passes it under `pack_as_bytes`.
    pub(crate) fn raw_body(mut self, bytes: &[u8]) -> Self {
        bytes.clone_into(&mut self.http().raw_body);
        self
    }

    /// An entry of the `context_extensions` in Envoy's configuration.
    pub(crate) fn context(mut self, key: &str, value: &str) -> Self {
        self.0.context_extensions.insert(key.to_owned(), value.to_owned());
        self
    }

    /// What another filter of Envoy found out.
    pub(crate) fn metadata(mut self, filter: &str, fields: &Value) -> Self {
        let metadata = self.0.metadata_context.get_or_insert_default();
        metadata.filter_metadata.insert(filter.to_owned(), structure::write(fields));
        self
    }

    /// Who connected to Envoy.
    pub(crate) fn peer(mut self, address: &str, port: u32, principal: &str) -> Self {
        let socket = SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        };
        self.0.source = Some(Peer {
            address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
            principal: principal.to_owned(),
            ..Peer::default()
        });
        self
    }

    fn http(&mut self) -> &mut HttpRequest {
        let request = self.0.request.as_mut().and_then(|request| request.http.as_mut());
        request.expect("a raw connection has nothing of HTTP")
    }

    /// The message of the call, with its gRPC prefix.
    pub(crate) fn message(&self) -> Bytes {
        let message = CheckRequest { attributes: Some(self.0.clone()) }.encode_to_vec();
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
            // The caller sees the error too.
            let _ = connection.await;
        });
        Self { sender, limit: None, _connection: tasks }
    }

    /// States a limit of a minute. So the processor time of a policy counts, and not how long it
    /// waits for a processor: a caller that states no limit waits for a few deadlines only.
    pub(crate) fn patient(self) -> Self {
        Self { limit: Some("60S"), ..self }
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
            .header("te", "trailers");
        let request = match self.limit {
            Some(limit) => request.header("grpc-timeout", limit),
            None => request,
        };
        let request = request.body(()).unwrap();
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
        Ok(Answer::read(&bytes))
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

impl Answer {
    /// What the guest that repeats everything was shown of the request.
    pub(crate) fn seen(&self) -> Value {
        let seen = self.set_request_headers.get("x-seen");
        let seen = seen.unwrap_or_else(|| panic!("the guest tells nothing: {self:?}"));
        serde_json::from_str(seen).unwrap()
    }

    /// Reads the message of the call, with its gRPC prefix, as Envoy does.
    pub(crate) fn read(message: &[u8]) -> Self {
        let response = readable::decode(&message[5..]);
        readable::check(&response);
        response.into()
    }
}

impl From<CheckResponse> for Answer {
    fn from(response: CheckResponse) -> Self {
        let status = response.status.expect("an answer without status lets every request pass");
        let metadata = response.dynamic_metadata.map(structure::read).unwrap_or_default();
        match response.http_response.expect("every answer says how to go on") {
            HttpResponse::OkResponse(ok) => {
                assert_eq!(status.code, 0, "the two halves of the answer contradict each other");
                let set_query = ok.query_parameters_to_set.into_iter();
                Self {
                    allowed: true,
                    set_request_headers: fields(ok.headers),
                    remove_request_headers: ok.headers_to_remove,
                    response_headers: fields(ok.response_headers_to_add),
                    set_query: set_query.map(|pair| (pair.key, pair.value)).collect(),
                    remove_query: ok.query_parameters_to_remove,
                    metadata,
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
                    metadata,
                    ..Self::default()
                }
            }
            HttpResponse::ErrorResponse(_) => panic!("an error lets every request pass, or none"),
        }
    }
}

fn fields(options: Vec<HeaderValueOption>) -> BTreeMap<String, String> {
    options.into_iter().filter_map(|option| option.header).map(|h| (h.key, h.value)).collect()
}
