//! Opening an address and accepting connections on it, for every edge alike.
//!
//! Accepting never ends and never spins: an edge that stopped accepting would deny every request.

mod connections;
mod descriptors;
mod http1;

use std::{
    fmt,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

pub use connections::{Activity, Connection, Underway};
pub use descriptors::{Limits, share_descriptors};
pub use http1::{Http1Limits, serve as serve_http1};
use serde::{Deserialize, Deserializer, de::Error};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::telemetry::{ConnectionMetrics, Edge, EdgeConnections, Refusal};

/// An address cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("`{key}`: cannot listen on {address}: {source}; {}", fix(.source.kind()))]
pub struct BindError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// An open address.
pub struct Incoming {
    listener: TcpListener,
    address: SocketAddr,
    limit: usize,
    metrics: EdgeConnections,
}

/// How long to wait after a failure that would recur at once, such as having no file descriptors
/// left.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on `address` for an edge, which serves `limit` connections at a time.
///
/// # Errors
/// When the address is taken, is not one of this machine, or needs more rights.
pub async fn bind(edge: Edge, address: SocketAddr, limit: u32) -> Result<Incoming, BindError> {
    let key = match edge {
        Edge::Grpc => "grpc.listen",
        Edge::Http => "http.listen",
        Edge::Admin => "admin.listen",
        Edge::Receiver => "receiver.listen",
    };
    let error = |source| BindError { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let metrics = ConnectionMetrics::default().edge(edge);
    Ok(Incoming { listener, address, limit, metrics })
}

/// Reads a limit for connections, for `deserialize_with`.
///
/// # Errors
/// When it is not a number, or zero.
pub fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        0 => Err(D::Error::custom("must be at least 1, or no client could connect")),
        limit => Ok(limit),
    }
}

fn fix(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AddrInUse => "stop what uses the port, or choose another one",
        ErrorKind::PermissionDenied => "choose a port above 1023, or grant CAP_NET_BIND_SERVICE",
        ErrorKind::AddrNotAvailable => "choose an address of this machine, or 0.0.0.0 for all",
        _ => "choose another address",
    }
}

// === impl Incoming ===

impl Incoming {
    /// The address, with the port that the operating system chose if port 0 was configured.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The same with another limit, counted elsewhere.
    #[must_use]
    pub fn limited(self, limit: usize, metrics: EdgeConnections) -> Self {
        Self { limit, metrics, ..self }
    }

    /// The metrics of its connections.
    #[must_use]
    pub fn metrics(&self) -> &EdgeConnections {
        &self.metrics
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((socket, peer)) => {
                    // Fails only if the peer is gone already, which reading will show.
                    let _ = socket.set_nodelay(true);
                    return (socket, peer);
                }
                Err(error) if is_about_one_connection(error.kind()) => {}
                Err(_) => {
                    self.metrics.refused(Refusal::Descriptors, None);
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Whether `accept` failed because of the peer, so that the next one may well succeed.
fn is_about_one_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Incoming").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_the_key_and_the_fix() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = bind(Edge::Grpc, any, 1).await.unwrap();
        let error = bind(Edge::Http, first.local_addr(), 1).await.unwrap_err().to_string();
        assert!(error.starts_with("`http.listen`: cannot listen on 127.0.0.1:"), "{error}");
        assert!(error.ends_with("choose another one"), "{error}");
    }
}
