//! Owns opening an address and accepting connections on it, for every edge alike.
//!
//! Accepting never ends and never spins: an edge that stopped accepting would deny everybody.

use std::{
    fmt,
    future::Future,
    io::{self, ErrorKind},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};
use tokio_stream::{Stream, StreamExt};

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("`{key}`: cannot listen on {address}: {source}; {}", fix(.source.kind()))]
pub struct BindError {
    key: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// An open address. As a stream, it yields the connections.
pub struct Incoming {
    listener: TcpListener,
    address: SocketAddr,
    pause: Option<Pin<Box<Sleep>>>,
}

/// How long to wait after a failure that the next `accept` would only repeat, such as having no
/// file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens on `address`, which the configuration has under `key`.
///
/// # Errors
/// When the address is taken, is not one of this machine, or needs more rights.
pub async fn bind(key: &'static str, address: SocketAddr) -> Result<Incoming, BindError> {
    let error = |source| BindError { key, address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    Ok(Incoming { listener, address, pause: None })
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
    /// The address, with the port that the operating system chose if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

impl Stream for Incoming {
    /// Always `Ok`; servers want a result here.
    type Item = io::Result<TcpStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((connection, _)) => {
                    // Fails only if the peer is gone already, which reading will show.
                    let _ = connection.set_nodelay(true);
                    return Poll::Ready(Some(Ok(connection)));
                }
                Err(error) if is_about_one_connection(error.kind()) => {}
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "cannot accept connections");
                    self.pause = Some(Box::pin(sleep(PAUSE)));
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

impl axum::serve::Listener for Incoming {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            // The stream never ends, and its items are always `Ok`.
            if let Some(Ok(connection)) = self.next().await
                && let Ok(peer) = connection.peer_addr()
            {
                return (connection, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
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
        let first = bind("grpc.listen", SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let error = bind("http.listen", first.local_addr()).await.unwrap_err().to_string();
        assert!(error.starts_with("`http.listen`: cannot listen on 127.0.0.1:"), "{error}");
        assert!(error.ends_with("choose another one"), "{error}");
    }
}
