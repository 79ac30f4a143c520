//! One connection to the broker: opening it within a time limit, and closing its socket.
//!
//! The client library waits for a broker that does not answer for as long as the operating system
//! does, with one thread and one socket for each attempt. So this module keeps a handle of the
//! socket, and shuts it down with the [`AmqpLink`].

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, Error, ErrorKind,
    options::ConfirmSelectOptions, runtime, uri::AMQPUri,
};

use super::{
    address::BrokerAddress,
    error::BrokerError,
    nodes::{self, Node},
};
use crate::random;

/// How long reaching the broker may take, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long the broker may take for one answer. A broker that is starting is slow to accept logins.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a graceful close may take.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// An open connection. It ends when this is dropped.
pub(super) struct AmqpLink {
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

// === impl AmqpLink ===

impl AmqpLink {
    /// Connects to one of the nodes and logs in. The broker shows the connection as `name`.
    ///
    /// Each address has its own time limit: one that accepts connections and does not answer does
    /// not block the next.
    pub(super) async fn open(address: &BrokerAddress, name: &str) -> Result<Self, BrokerError> {
        let mut failure = None;
        for node in nodes::in_turn(&address.nodes, random::random_byte()) {
            match Self::open_node(address, node, name).await {
                Ok(link) => return Ok(link),
                Err(error) => {
                    tracing::debug!(%node, %error, "cannot connect to a node of the broker");
                    // An error that needs an operator comes first.
                    failure =
                        failure.filter(|it| matches!(it, BrokerError::Refused(_))).or(Some(error));
                }
            }
        }
        Err(failure.unwrap_or(BrokerError::Cancelled))
    }

    async fn open_node(
        address: &BrokerAddress,
        node: &Node,
        name: &str,
    ) -> Result<Self, BrokerError> {
        let unreachable = |cause| unreachable(node, cause);
        let addresses = node.resolve(CONNECT_LIMIT).await.map_err(unreachable)?;
        let mut failure = unreachable("its name has no address".to_owned());
        for at in addresses {
            match Self::open_at(address, (node, at), name).await {
                Ok(link) => return Ok(link),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn open_at(
        address: &BrokerAddress,
        (node, at): (&Node, SocketAddr),
        name: &str,
    ) -> Result<Self, BrokerError> {
        let socket = Socket(Arc::new(Mutex::new(Slot::NotYet)));
        let connecting = connect(address, (&node.host, at), name, Arc::clone(&socket.0));
        let connected = answer(connecting).await?;
        let connection = connected.map_err(|error| refused_or_unreachable(node, &error))?;
        Ok(Self { connection, _socket: socket })
    }

    /// Opens one more channel.
    pub(super) async fn channel(&self) -> Result<Channel, BrokerError> {
        answer(self.connection.create_channel())
            .await?
            .map_err(|error| BrokerError::Lost(error.to_string()))
    }

    /// Opens one more channel, on which the broker confirms what is published.
    pub(super) async fn confirming_channel(&self) -> Result<Channel, BrokerError> {
        let channel = self.channel().await?;
        let confirming = channel.confirm_select(ConfirmSelectOptions::default());
        answer(confirming).await?.map_err(|error| BrokerError::Lost(error.to_string()))?;
        Ok(channel)
    }

    /// Whether the broker has announced that it accepts no messages.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// Closes the connection gracefully.
    pub(super) async fn close(&self) {
        // A broker that does not answer notices the closed socket.
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.connection.close(200, "OK".into())).await;
    }
}

/// Waits for an answer of the broker, within a time limit.
pub(super) async fn answer<T>(answer: impl Future<Output = T>) -> Result<T, BrokerError> {
    within(ANSWER_LIMIT, answer).await
}

/// Waits for the broker, within this time limit.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, BrokerError> {
    tokio::time::timeout(limit, work).await.map_err(|_| BrokerError::Silent(limit))
}

async fn connect(
    address: &BrokerAddress,
    (host, at): (&str, SocketAddr),
    name: &str,
    slot: Arc<Mutex<Slot>>,
) -> Result<Connection, Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = runtime::default_runtime()?;
    let (tls, reactor) = (address.tls.clone(), runtime.clone());
    let host = host.to_owned();
    let reach = async move |_: AMQPUri, _| {
        let reaching = async {
            let stream = AsyncTcpStream::connect(&reactor, vec![at]).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                keep(&slot, plain.get_ref())?;
            }
            match &tls {
                Some(tls) => stream.into_rustls(tls, &host).await,
                None => Ok(stream),
            }
        };
        let reached = tokio::time::timeout(CONNECT_LIMIT, reaching).await;
        reached.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Error::from)
    };
    Connection::connector(address.uri.clone(), runtime, reach, properties).await
}

/// Keeps a handle of the socket, unless the attempt was cancelled.
fn keep(slot: &Mutex<Slot>, stream: &impl AsFd) -> io::Result<()> {
    let socket = TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*slot, Slot::Ended) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    *slot = Slot::Open(socket);
    Ok(())
}

fn refused_or_unreachable(node: &Node, error: &Error) -> BrokerError {
    if let ErrorKind::ProtocolError(refusal) = error.kind() {
        return BrokerError::Refused(refusal.get_message().to_string());
    }
    unreachable(node, error.to_string())
}

fn unreachable(node: &Node, cause: String) -> BrokerError {
    BrokerError::Unreachable { address: node.to_string(), cause }
}

// === impl Socket ===

impl Drop for Socket {
    fn drop(&mut self) {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Slot::Open(socket) = std::mem::replace(&mut *slot, Slot::Ended) {
            // An error means that it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
