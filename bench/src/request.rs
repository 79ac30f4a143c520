//! The benchmark's request: the `Check` of a browser's call to an API behind Envoy, encoded once,
//! and the verification of the answer.

use std::collections::HashMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use envoy_types::pb::envoy::{
    config::core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
    service::auth::v3::{
        AttributeContext, CheckRequest, CheckResponse,
        attribute_context::{HttpRequest, Peer, Request},
        check_response::HttpResponse,
    },
};
use prost::Message as _;

/// The host that the client calls.
pub(crate) const HOST: &str = "api.shop.example";
/// The path that the client calls, without the query.
pub(crate) const PATH: &str = "/api/v1/orders/4711/items";
/// The header with the identity of the caller for the upstream.
pub(crate) const SUBJECT_HEADER: &str = "x-user-id";

/// The header of a gRPC frame: one byte for compression, four for the length.
const FRAME_HEADER: usize = 5;

/// One encoded `Check`, and its subject.
pub(crate) struct Check {
    /// The gRPC frame.
    pub(crate) frame: Bytes,
    /// Claim `sub` of the token in it.
    pub(crate) subject: String,
}

/// The expected answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Allow, without an identity.
    Allow,
    /// Allow, with the identity for the upstream.
    AllowWithIdentity,
    /// Deny.
    Deny,
}

/// Why an answer is wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("the answer is {0} bytes, which is not one uncompressed gRPC message")]
    Frame(usize),
    #[error("the answer is not a CheckResponse: {0}")]
    Decode(#[from] prost::DecodeError),
    #[error("the answer has no status, which Envoy treats as an allow")]
    NoStatus,
    #[error("expected {expected:?}, got code {code}: {response}")]
    Verdict { expected: Expected, code: i32, response: String },
    #[error("allowed, but `{SUBJECT_HEADER}` is not `{0}`")]
    Identity(String),
}

// === impl Check ===

impl Check {
    /// A call that carries `token`.
    pub(crate) fn new(token: &str, subject: String) -> Self {
        Self::encode(&check_request(token), subject)
    }

    /// A call without a token, to another host and path, as Envoy sends it: the path comes twice.
    pub(crate) fn anonymous(host: &str, path: &str) -> Self {
        let mut message = check_request("");
        let request = message.attributes.as_mut().and_then(|it| it.request.as_mut());
        if let Some(http) = request.and_then(|request| request.http.as_mut()) {
            http.headers.remove("authorization");
            http.headers.insert(":path".to_owned(), path.to_owned());
            host.clone_into(&mut http.host);
            path.clone_into(&mut http.path);
        }
        Self::encode(&message, String::new())
    }

    fn encode(message: &CheckRequest, subject: String) -> Self {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(FRAME_HEADER + length);
        frame.put_u8(0);
        // Four bytes on the wire; the message has about 1.5 KB.
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        frame.put_slice(&message.encode_to_vec());
        Self { frame: frame.freeze(), subject }
    }

    /// The message, without its frame.
    pub(crate) fn message(&self) -> &[u8] {
        self.frame.get(FRAME_HEADER..).unwrap_or_default()
    }

    /// Size of the message, in bytes.
    pub(crate) fn message_bytes(&self) -> usize {
        self.message().len()
    }

    /// Whether `answer`, a gRPC frame, is the expected one.
    pub(crate) fn verify(&self, expected: Expected, answer: &Bytes) -> Result<(), AnswerError> {
        let message = match answer.split_at_checked(FRAME_HEADER) {
            Some(([0, length @ ..], message))
                if length == u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes() =>
            {
                message
            }
            _ => return Err(AnswerError::Frame(answer.len())),
        };
        let response = CheckResponse::decode(message)?;
        let code = response.status.as_ref().ok_or(AnswerError::NoStatus)?.code;
        if (code == 0) == (expected == Expected::Deny) {
            let response = format!("{response:?}");
            return Err(AnswerError::Verdict { expected, code, response });
        }
        if expected == Expected::AllowWithIdentity && !has_subject(&response, &self.subject) {
            return Err(AnswerError::Identity(self.subject.clone()));
        }
        Ok(())
    }
}

/// Whether the upstream will see `subject` in its header.
fn has_subject(response: &CheckResponse, subject: &str) -> bool {
    let Some(HttpResponse::OkResponse(ok)) = &response.http_response else { return false };
    let headers = ok.headers.iter().filter_map(|option| option.header.as_ref());
    let mut values = headers
        .filter(|header| header.key == SUBJECT_HEADER)
        .map(|header| (header.value.as_str(), header.raw_value.as_slice()));
    values.any(|(text, raw)| text == subject || raw == subject.as_bytes())
}

/// The message, as Envoy sends it for a call that came through Istio's ingress gateway.
fn check_request(token: &str) -> CheckRequest {
    let http = HttpRequest {
        id: "9164305182331274115".to_owned(),
        method: "GET".to_owned(),
        headers: headers(token),
        path: format!("{PATH}?page=2"),
        host: HOST.to_owned(),
        scheme: "https".to_owned(),
        protocol: "HTTP/2".to_owned(),
        ..HttpRequest::default()
    };
    let attributes = AttributeContext {
        source: Some(peer("10.244.3.17", 41_732, "")),
        destination: Some(peer("10.244.1.8", 8443, "spiffe://cluster.local/ns/istio/sa/ingress")),
        request: Some(Request { http: Some(http), ..Request::default() }),
        ..AttributeContext::default()
    };
    CheckRequest { attributes: Some(attributes) }
}

fn headers(token: &str) -> HashMap<String, String> {
    let bearer = format!("Bearer {token}");
    let path = format!("{PATH}?page=2");
    let headers = [
        (":authority", HOST),
        (":method", "GET"),
        (":path", path.as_str()),
        (":scheme", "https"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "de,en;q=0.7"),
        ("authorization", bearer.as_str()),
        ("origin", "https://www.shop.example"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Firefox/144.0"),
        ("x-forwarded-for", "203.0.113.77"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "5a1bb4e8-0b2c-4a55-9f0e-6b9c2d1f7a30"),
        ("x-user-id", "spoofed"),
    ];
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn peer(address: &str, port: u32, principal: &str) -> Peer {
    let socket = SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port)),
        ..SocketAddress::default()
    };
    let address = Address { address: Some(address::Address::SocketAddress(socket)) };
    Peer { address: Some(address), principal: principal.to_owned(), ..Peer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{revocations::token_id, token::Issuer};

    fn frame(message: &CheckResponse) -> Bytes {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
        frame.put_slice(&message.encode_to_vec());
        frame.freeze()
    }

    fn check() -> Check {
        let subject = token_id(7);
        let token = Issuer::generate().unwrap().token(&subject, &token_id(8)).unwrap();
        Check::new(&token, subject)
    }

    #[test]
    fn the_check_is_as_large_as_a_real_one() {
        let check = check();
        let bytes = check.message_bytes();
        assert!((1350..1450).contains(&bytes), "{bytes} bytes");
        let request = CheckRequest::decode(&check.frame[FRAME_HEADER..]).unwrap();
        let http = request.attributes.unwrap().request.unwrap().http.unwrap();
        assert_eq!(http.headers.len(), 14);
    }

    #[test]
    fn an_answer_without_status_or_identity_is_wrong() {
        let check = check();
        let empty = frame(&CheckResponse::default());
        assert!(matches!(check.verify(Expected::Allow, &empty), Err(AnswerError::NoStatus)));
        let bare = frame(&CheckResponse { status: Some(<_>::default()), ..<_>::default() });
        check.verify(Expected::Allow, &bare).unwrap();
        let identity = check.verify(Expected::AllowWithIdentity, &bare);
        assert!(matches!(identity, Err(AnswerError::Identity(_))));
        let deny = check.verify(Expected::Deny, &bare);
        assert!(matches!(deny, Err(AnswerError::Verdict { .. })));
    }
}
