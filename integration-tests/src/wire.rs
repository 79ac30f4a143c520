//! Raw HTTP clients and an echo server: they send the exact bytes of a test over persistent
//! HTTP/1.1 and HTTP/2 connections, and record the exact bytes that arrive behind the proxy.
//!
//! A request has no body. Its header `x-tag` identifies the request on both sides.

mod echo;
mod http1;
mod http2;

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub use echo::{Arrival, Echo};
use http1::Http1;
use http2::Http2;

/// The header that identifies the request.
pub const TAG: &str = "x-tag";
/// Longer than any answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS, with prior knowledge.
    Http2,
}

/// A request, each part as on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawRequest {
    /// The version of HTTP.
    pub version: Version,
    /// Method.
    pub method: Vec<u8>,
    /// Path and query, or any other request target.
    pub target: Vec<u8>,
    /// `host` or `:authority`.
    pub authority: Vec<u8>,
    /// Header fields. HTTP/2 has their names in lower case.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

/// Connections to one server, opened when they are needed.
#[derive(Debug)]
pub struct RawClient {
    to: SocketAddr,
    http1: Option<Http1>,
    http2: Option<Http2>,
}

/// A connection with its unused input.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

// === impl RawClient ===

impl RawClient {
    /// A client without connections.
    #[must_use]
    pub fn new(to: SocketAddr) -> Self {
        Self { to, http1: None, http2: None }
    }

    /// Sends a request and waits for its answer; `None` if the server closes the connection
    /// instead.
    ///
    /// # Panics
    /// When the server accepts no connection, or stays silent.
    pub async fn send(&mut self, request: &RawRequest) -> Option<RawAnswer> {
        let sending = async {
            let reused = match request.version {
                Version::Http1 => self.http1.is_some(),
                Version::Http2 => self.http2.is_some(),
            };
            match self.exchange(request).await {
                // The server may have closed it after the previous answer.
                Err(_) if reused => self.exchange(request).await.ok().flatten(),
                answer => answer.ok().flatten(),
            }
        };
        let answer = tokio::time::timeout(TIMEOUT, sending).await;
        answer.unwrap_or_else(|_| panic!("no answer within {TIMEOUT:?} to {}", request.shown()))
    }

    /// One attempt. After an error, the connection is dropped.
    async fn exchange(&mut self, request: &RawRequest) -> io::Result<Option<RawAnswer>> {
        match request.version {
            Version::Http1 => {
                let mut connection = match self.http1.take() {
                    Some(connection) => connection,
                    None => Http1::new(Connection::open(self.to).await),
                };
                let (answer, stays_open) = connection.exchange(request).await?;
                self.http1 = stays_open.then_some(connection);
                Ok(Some(answer))
            }
            Version::Http2 => {
                let mut connection = match self.http2.take() {
                    Some(connection) => connection,
                    None => Http2::new(Connection::open(self.to).await).await?,
                };
                let (answer, stays_open) = connection.exchange(request).await?;
                self.http2 = stays_open.then_some(connection);
                Ok(answer)
            }
        }
    }
}

// === impl Connection ===

impl Connection {
    async fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("the server accepts connections");
        stream.set_nodelay(true).expect("a connection has this option");
        Self { stream, buffer: Vec::new() }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads until `measure` finds a complete item at the beginning, and removes it from the input.
    async fn take(
        &mut self,
        mut measure: impl FnMut(&[u8]) -> Option<usize>,
    ) -> io::Result<Vec<u8>> {
        loop {
            if let Some(length) = measure(&self.buffer) {
                return Ok(self.buffer.drain(..length).collect());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn take_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.take(|buffer| (buffer.len() >= length).then_some(length)).await
    }
}

/// The length of a complete head, with the empty line at its end.
fn head_length(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4)
}

// === impl RawRequest ===

impl RawRequest {
    /// A GET request without header fields.
    #[must_use]
    pub fn get(version: Version, authority: &str, target: &str) -> Self {
        Self {
            version,
            method: b"GET".to_vec(),
            target: target.as_bytes().to_vec(),
            authority: authority.as_bytes().to_vec(),
            headers: Vec::new(),
        }
    }

    /// The same request with one more header field.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self
    }

    /// The request on one line, for messages.
    #[must_use]
    pub fn shown(&self) -> String {
        let version = match self.version {
            Version::Http1 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        };
        let mut shown = format!(
            "{version} `{} {}` host `{}`",
            self.method.escape_ascii(),
            clipped(&self.target),
            clipped(&self.authority)
        );
        for (name, value) in &self.headers {
            let field = format!(" `{}: {}`", name.escape_ascii(), clipped(value));
            shown.push_str(&field);
        }
        shown
    }
}

/// Bytes for messages, truncated if there are many.
fn clipped(bytes: &[u8]) -> String {
    const MOST: usize = 120;
    if bytes.len() <= MOST {
        return bytes.escape_ascii().to_string();
    }
    format!("{}… ({} bytes)", bytes[..MOST].escape_ascii(), bytes.len())
}
