//! HTTP/2 client for requests that well-behaved clients do not send: methods in any case, paths in
//! any spelling.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Uri};
use tokio::{net::TcpStream, task::JoinSet};

use crate::client::Response;

/// Longer than any tested timeout.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a request without body for `path` of the host `api.test`, on its own connection.
///
/// # Panics
/// When it cannot be sent at all, or there is no response.
pub async fn send(to: SocketAddr, method: &str, path: &str) -> Response {
    let response = tokio::time::timeout(TIMEOUT, exchange(to, method, path)).await;
    response.unwrap_or_else(|_| panic!("no response to {method} {path} from {to} in {TIMEOUT:?}"))
}

async fn exchange(to: SocketAddr, method: &str, path: &str) -> Response {
    let method = Method::from_bytes(method.as_bytes()).expect("a method is a token");
    let uri = Uri::builder().scheme("http").authority("api.test").path_and_query(path);
    let request = http::Request::builder()
        .method(method)
        .uri(uri.build().expect("a path makes a URI"))
        .body(())
        .expect("a method and a URI make a request");
    let socket = TcpStream::connect(to).await.expect("the server accepts connections");
    let (sender, connection) =
        h2::client::handshake(socket).await.expect("the server speaks HTTP/2");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        // The request sees the error too.
        let _ = connection.await;
    });
    let mut sender = sender.ready().await.expect("a new connection takes a request");
    let (response, _) = sender.send_request(request, true).expect("a request can be sent");
    let (head, mut body) = response.await.expect("there is a response").into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk: Bytes = chunk.expect("the body has an end");
        body.flow_control().release_capacity(chunk.len()).expect("what came was counted");
        bytes.extend_from_slice(&chunk);
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Response {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: bytes,
    }
}
