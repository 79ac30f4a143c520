//! Owns one connection to the broker: making it within a time limit, and really ending it.
//!
//! The client library waits for a broker that does not answer for as long as the operating system
//! does, and so would one thread and one socket for each attempt. So the socket is known here too,
//! and shut down with the [`Link`].

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, Error, ErrorKind, runtime,
    uri::AMQPUri,
};

use super::{address::Address, error::BrokerError};

/// How long reaching the broker may take, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long the broker may take for one answer. One that starts is slow to let anybody in.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a polite end may take.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// An open connection. It ends when this is dropped.
pub(super) struct Link {
    connection: Connection,
    // It shuts the socket down when it is dropped.
    _socket: Socket,
}

/// Shuts the socket down when it is dropped, whatever the client library is doing with it.
struct Socket(Arc<Mutex<Slot>>);

/// Where the socket of a connection attempt is.
enum Slot {
    NotYet,
    Open(TcpStream),
    Ended,
}

// === impl Link ===

impl Link {
    /// Connects and logs in. The broker shows the connection as `name`.
    pub(super) async fn open(address: &Address, name: &str) -> Result<Self, BrokerError> {
        let socket = Socket(Arc::new(Mutex::new(Slot::NotYet)));
        let connecting = connect(address, name, Arc::clone(&socket.0));
        let connection = tokio::time::timeout(ANSWER_LIMIT, connecting)
            .await
            .map_err(|_| BrokerError::Silent(ANSWER_LIMIT))?
            .map_err(|error| refused_or_unreachable(address, &error))?;
        Ok(Self { connection, _socket: socket })
    }

    /// One more channel.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        answer(self.connection.create_channel())
            .await?
            .map_err(|error| BrokerError::Lost(error.to_string()))
    }

    /// Whether the broker has said that it takes no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Says good-bye, so that the broker need not wonder where we went.
    pub(super) async fn close(&self) {
        // A broker that does not answer learns of it from the socket.
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.connection.close(200, "OK".into())).await;
    }
}

/// Waits for an answer of the broker, but not for ever.
pub(super) async fn answer<T>(answer: impl Future<Output = T>) -> Result<T, BrokerError> {
    tokio::time::timeout(ANSWER_LIMIT, answer).await.map_err(|_| BrokerError::Silent(ANSWER_LIMIT))
}

async fn connect(
    address: &Address,
    name: &str,
    slot: Arc<Mutex<Slot>>,
) -> Result<Connection, Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = runtime::default_runtime()?;
    let (tls, reactor) = (address.tls.clone(), runtime.clone());
    let reach = async move |uri: AMQPUri, _| {
        let host = uri.authority.host.as_str();
        let reaching = async {
            let addresses: Vec<_> =
                tokio::net::lookup_host((host, uri.authority.port)).await?.collect();
            let stream = AsyncTcpStream::connect(&reactor, addresses).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                keep(&slot, plain.get_ref())?;
            }
            match &tls {
                Some(tls) => stream.into_rustls(tls, host).await,
                None => Ok(stream),
            }
        };
        let reached = tokio::time::timeout(CONNECT_LIMIT, reaching).await;
        reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Error::from)
    };
    Connection::connector(address.uri.clone(), runtime, reach, properties).await
}

/// Keeps a handle of the socket, unless nobody wants it any more.
fn keep(slot: &Mutex<Slot>, stream: &impl AsFd) -> io::Result<()> {
    let socket = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*slot, Slot::Ended) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    *slot = Slot::Open(socket);
    Ok(())
}

fn refused_or_unreachable(address: &Address, error: &Error) -> BrokerError {
    if let ErrorKind::ProtocolError(refusal) = error.kind() {
        return BrokerError::Refused(refusal.get_message().to_string());
    }
    BrokerError::Unreachable { address: address.shown.clone(), cause: error.to_string() }
}

// === impl Socket ===

impl Drop for Socket {
    fn drop(&mut self) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Open(socket) = std::mem::replace(&mut *slot, Slot::Ended) {
            // One that is closed already needs no shutting down.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
