//! HTTP/1.1 client connection for raw requests, one after the other.

use std::io;

use super::{Connection, RawAnswer, RawRequest, head_length};

/// A connection.
#[derive(Debug)]
pub(super) struct Http1(Connection);

/// The head of an answer.
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    closes: bool,
}

// === impl Http1 ===

impl Http1 {
    pub(super) fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Sends a request; returns the answer, and whether the connection can be used again.
    pub(super) async fn exchange(&mut self, request: &RawRequest) -> io::Result<(RawAnswer, bool)> {
        self.0.write(&written(request)).await?;
        let head = Head::read(&self.0.take(head_length).await?)?;
        let has_body = request.method != b"HEAD" && !matches!(head.status, 204 | 304);
        let body = match head.length {
            _ if !has_body => Vec::new(),
            Some(length) => self.0.take_exactly(length).await?,
            None if head.chunked => self.chunks().await?,
            // The body ends with the connection, and is not needed here.
            None => return Ok((RawAnswer { status: head.status, body: Vec::new() }, false)),
        };
        Ok((RawAnswer { status: head.status, body }, !head.closes))
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end_of_line = |buffer: &[u8]| {
                buffer.windows(2).position(|window| window == b"\r\n").map(|end| end + 2)
            };
            let line = self.0.take(end_of_line).await?;
            let size = std::str::from_utf8(line.trim_ascii()).ok();
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            let chunk = self.0.take_exactly(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
}

fn written(request: &RawRequest) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(request.target.len() + 256);
    for part in [&request.method[..], b" ", &request.target, b" HTTP/1.1\r\nhost: "] {
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(&request.authority);
    bytes.extend_from_slice(b"\r\n");
    for (name, value) in &request.headers {
        for part in [&name[..], b": ", value, b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

// === impl Head ===

impl Head {
    fn read(head: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let mut read = Self { status, length: None, chunked: false, closes: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match (name.to_ascii_lowercase().as_str(), value.trim()) {
                ("content-length", length) => read.length = length.parse().ok(),
                ("transfer-encoding", _) => read.chunked = true,
                ("connection", value) => read.closes |= value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        Ok(read)
    }
}
