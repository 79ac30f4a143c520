//! Minimal gRPC client: connect, call, and read the answer to its end.
//!
//! It calls as Envoy does, over HTTP/2 with prior knowledge. It is deliberately thin, because the
//! client uses the same cores as the measured server.

use std::{future::poll_fn, io, net::SocketAddr};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header::CONTENT_TYPE};
use tokio::net::TcpStream;

/// One end of an HTTP/2 connection. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Caller {
    sender: SendRequest<Bytes>,
    head: Request<()>,
}

/// A connection could not be established.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("{0} does not speak HTTP/2: {1}")]
    Handshake(SocketAddr, h2::Error),
    #[error("`{0}` does not make a request: {1}")]
    Request(String, http::Error),
}

/// A call has no answer, or the answer is a gRPC error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the stream broke: {0}")]
    Stream(#[from] h2::Error),
    #[error("HTTP status {0} instead of 200")]
    Http(StatusCode),
    #[error("no trailers, so no grpc-status")]
    NoTrailers,
    #[error("grpc-status is not 0 but {status}: {message}")]
    Grpc { status: String, message: String },
}

// === impl Caller ===

impl Caller {
    /// Connects, and drives the connection in a task of the current `LocalSet`.
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, ConnectError> {
        let connect = |error| ConnectError::Connect(address, error);
        let stream = TcpStream::connect(address).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let (sender, connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(1 << 20)
            .initial_connection_window_size(1 << 24)
            .handshake(stream)
            .await
            .map_err(|error| ConnectError::Handshake(address, error))?;
        tokio::task::spawn_local(async move {
            // Every call on the connection reports the same error.
            let _ = connection.await;
        });
        Ok(Self { sender, head: head(address)? })
    }

    /// The same client with a timeout, in the format of gRPC.
    pub(crate) fn with_timeout(mut self, timeout: &'static str) -> Self {
        self.head.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
        self
    }

    /// Sends one frame, and returns the frame of an answer with HTTP status 200 and gRPC status 0.
    pub(crate) async fn call(&mut self, frame: Bytes) -> Result<Bytes, CallError> {
        poll_fn(|cx| self.sender.poll_ready(cx)).await?;
        let (response, mut body) = self.sender.send_request(self.head.clone(), false)?;
        body.send_data(frame, true)?;
        let (parts, mut stream) = response.await?.into_parts();
        if parts.status != StatusCode::OK {
            return Err(CallError::Http(parts.status));
        }
        let answer = read(&mut stream).await?;
        match stream.trailers().await? {
            Some(trailers) => grpc_status(&trailers)?,
            // An error without a message has its status in the headers.
            None => grpc_status(&parts.headers)?,
        }
        Ok(answer)
    }
}

/// The headers that Envoy sends with a `Check`.
fn head(address: SocketAddr) -> Result<Request<()>, ConnectError> {
    let uri = format!("http://{address}/envoy.service.auth.v3.Authorization/Check");
    Request::builder()
        .version(Version::HTTP_2)
        .method(Method::POST)
        .uri(&uri)
        .header("te", "trailers")
        .header("grpc-timeout", "2000m")
        .header(CONTENT_TYPE, "application/grpc")
        .header("x-envoy-internal", "true")
        .header("x-forwarded-for", "10.244.1.8")
        .body(())
        .map_err(|error| ConnectError::Request(uri, error))
}

/// Reads a body to its end. An answer fits into one chunk, which is then not copied.
async fn read(stream: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut body = Bytes::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        body = if body.is_empty() { chunk } else { [body, chunk].concat().into() };
    }
    Ok(body)
}

fn grpc_status(headers: &HeaderMap) -> Result<(), CallError> {
    let status = headers.get("grpc-status").ok_or(CallError::NoTrailers)?;
    if status == "0" {
        return Ok(());
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let message = headers.get("grpc-message").map(text).unwrap_or_default();
    Err(CallError::Grpc { status: text(status), message })
}
