//! Echo server behind a proxy: records the exact head of each request, by the tag of the request.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Connection, TAG, head_length};

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The name of the server that it arrived at.
    pub server: &'static str,
    /// Method.
    pub method: Vec<u8>,
    /// Request target.
    pub target: Vec<u8>,
    /// Header fields, in order and as spelled.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    arrivals: Arc<Mutex<HashMap<u64, Arrival>>>,
    _server: JoinSet<()>,
}

// === impl Echo ===

impl Echo {
    /// Starts a server with a name.
    pub async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let arrivals = Arc::new(Mutex::new(HashMap::new()));
        let kept = Arc::clone(&arrivals);
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Its connections end with it.
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepting works");
                let arrivals = Arc::clone(&kept);
                connections.spawn(async move {
                    // The task ends when the proxy closes the connection.
                    let _ = serve(stream, name, &arrivals).await;
                });
            }
        });
        Self { address, arrivals, _server: server }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Removes and returns the request with a tag, if it arrived.
    #[must_use]
    pub fn take(&self, tag: u64) -> Option<Arrival> {
        self.arrivals.lock().expect("the lock is not poisoned").remove(&tag)
    }
}

async fn serve(
    stream: TcpStream,
    name: &'static str,
    arrivals: &Mutex<HashMap<u64, Arrival>>,
) -> io::Result<()> {
    let mut connection = Connection { stream, buffer: Vec::new() };
    loop {
        let head = connection.take(head_length).await?;
        let arrival = Arrival::read(name, &head);
        if arrival.has(b"transfer-encoding") {
            // Requests have no body, so there is only the last chunk.
            connection.take_exactly(b"0\r\n\r\n".len()).await?;
        }
        let tag = arrival.value(TAG.as_bytes()).and_then(|tag| std::str::from_utf8(tag).ok());
        let tag = tag.and_then(|tag| tag.parse().ok()).expect("each request has its tag");
        arrivals.lock().expect("the lock is not poisoned").insert(tag, arrival);
        connection.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}

// === impl Arrival ===

impl Arrival {
    /// The value of the first header field with a name in lower case.
    #[must_use]
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let field = self.headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
        field.map(|(_, value)| &value[..])
    }

    /// Whether there is a header field with a name in lower case.
    #[must_use]
    pub fn has(&self, name: &[u8]) -> bool {
        self.value(name).is_some()
    }

    fn read(server: &'static str, head: &[u8]) -> Self {
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let mut word = || words.next().unwrap_or_default().to_vec();
        let (method, target) = (word(), word());
        let headers = lines.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((line[..colon].to_vec(), line[colon + 1..].trim_ascii().to_vec()))
        });
        Self { server, method, target, headers: headers.collect() }
    }
}
