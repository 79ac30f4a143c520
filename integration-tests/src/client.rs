//! Raw HTTP/1.1 client for requests that well-behaved clients do not send: repeated headers, odd
//! paths, any case.

use std::{io, net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Longer than any tested timeout.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A request, sent unchanged on its own connection.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status.
    pub status: u16,
    /// Header fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

// === impl Request ===

impl Request {
    /// A request for `target` with the host `api.test`.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
        .header("Host", "api.test")
    }

    /// A GET request.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST request with a body.
    #[must_use]
    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::new("POST", target) }
    }

    /// A CORS preflight.
    #[must_use]
    pub fn preflight(target: &str) -> Self {
        Self::new("OPTIONS", target)
            .header("Origin", "https://app.test")
            .header("Access-Control-Request-Method", "GET")
    }

    /// Adds a body: unchanged if there is a `Transfer-Encoding` header, else with its length.
    #[must_use]
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Adds a header field; an existing one of the same name stays.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds `authorization: Bearer`.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets another host than `api.test`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.headers.retain(|(name, _)| name != "Host");
        self.header("Host", host)
    }

    /// Sends it and waits for the response.
    ///
    /// # Panics
    /// When there is no response.
    pub async fn send(&self, to: SocketAddr) -> Response {
        self.try_send(to).await.unwrap_or_else(|error| {
            panic!("no response to {} {} from {to}: {error}", self.method, self.target)
        })
    }

    /// Sends it and waits for the response.
    ///
    /// # Errors
    /// When the connection is refused, breaks, or stays silent.
    pub async fn try_send(&self, to: SocketAddr) -> io::Result<Response> {
        tokio::time::timeout(TIMEOUT, self.exchange(to)).await?
    }

    /// Sends it on a connection, which it ends, and waits for the response.
    ///
    /// # Panics
    /// When there is no response.
    pub async fn send_over(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Response {
        let answer = tokio::time::timeout(TIMEOUT, self.exchange_over(stream)).await;
        let answer = answer.unwrap_or_else(|late| Err(late.into()));
        answer.unwrap_or_else(|error| {
            panic!("no response to {} {}: {error}", self.method, self.target)
        })
    }

    async fn exchange(&self, to: SocketAddr) -> io::Result<Response> {
        self.exchange_over(TcpStream::connect(to).await?).await
    }

    async fn exchange_over(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> io::Result<Response> {
        stream.write_all(&self.bytes()).await?;
        let mut answer = Vec::new();
        // Over TLS, a server may end the connection without saying so.
        match stream.read_to_end(&mut answer).await {
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Response::read(&answer),
        }
    }

    /// Sends several requests on one connection, and returns the unparsed responses.
    ///
    /// # Panics
    /// When the connection is refused, breaks, or stays silent.
    pub async fn send_all(requests: &[Self], to: SocketAddr) -> String {
        let exchange = async {
            let mut stream = TcpStream::connect(to).await?;
            for (place, request) in requests.iter().enumerate() {
                let is_last = place + 1 == requests.len();
                stream
                    .write_all(&request.bytes_with(if is_last { "close" } else { "keep-alive" }))
                    .await?;
            }
            let mut answers = Vec::new();
            stream.read_to_end(&mut answers).await?;
            io::Result::Ok(String::from_utf8_lossy(&answers).into_owned())
        };
        let answers = tokio::time::timeout(TIMEOUT, exchange).await;
        answers.expect("the connection is closed in time").expect("the connection is not broken")
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes_with("close")
    }

    fn bytes_with(&self, connection: &str) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nConnection: {connection}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
        }
        let is_framed = |(name, _): &(String, String)| name == "Transfer-Encoding";
        if !self.body.is_empty() && !self.headers.iter().any(is_framed) {
            head.extend(["Content-Length: ", &self.body.len().to_string(), "\r\n"]);
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

// === impl Response ===

impl Response {
    /// All values of a header, by its name in lower case.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {}", self.status, self.text()))
    }

    fn read(answer: &[u8]) -> io::Result<Self> {
        let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .ok_or_else(|| broken("the response has no end of headers"))?;
        let head = String::from_utf8_lossy(&answer[..end]);
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| broken("the response has no status"))?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Self { status, headers, body: answer[end + 4..].to_vec() };
        if response.all("transfer-encoding") == ["chunked"] {
            response.body = unchunk(&response.body).ok_or_else(|| broken("bad chunks"))?;
        }
        match response.all("content-length").first().map(|length| length.parse::<usize>()) {
            Some(Ok(length)) if length != response.body.len() => Err(broken("the body is cut off")),
            _ => Ok(response),
        }
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk = rest.get(line + 2..)?;
        body.extend_from_slice(chunk.get(..size)?);
        rest = chunk.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        let answer =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(Response::read(answer).unwrap().text(), "abcd");
    }

    #[test]
    fn a_truncated_body_is_an_error() {
        assert!(Response::read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc").is_err());
    }

    #[test]
    fn header_fields_keep_their_order_and_case() {
        let request = Request::get("/a").header("X-A", "1").header("x-a", "2");
        let bytes = String::from_utf8(request.bytes()).unwrap();
        assert!(bytes.ends_with("X-A: 1\r\nx-a: 2\r\n\r\n"), "{bytes}");
    }
}
