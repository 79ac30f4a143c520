//! TCP proxy between Portcullis and a service, which can be cut, frozen and slowed down.
//!
//! It knows no protocol, but it can replace one port with another, so that an address from a
//! sentinel also leads to a link. Data in transit is lost when the link is cut, and waits when it
//! is frozen, as in a network.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::Instant,
};

use crate::{eventually, ports::Port};

/// The size of one read; small, so that a slow link is slow in small steps.
const CHUNK: usize = 16 * 1024;
/// Steps of a slow link.
const STEP: Duration = Duration::from_millis(20);

/// A link to a service. It is cut when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    // The task before the port, which others may take as soon as it is dropped.
    _tasks: JoinSet<()>,
    _port: Port,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Forwards data, at most this many bytes per second and direction.
    Open { rate: Option<u64> },
    /// Accepts and keeps connections, but forwards nothing.
    Frozen,
    /// Refuses connections.
    Cut,
}

// === impl Link ===

impl Link {
    /// A link to the service at `target`, which may be unavailable.
    ///
    /// # Panics
    /// When a reserved port cannot be listened on.
    pub async fn to(target: SocketAddr) -> Self {
        Self::renaming(target, &[]).await
    }

    /// The same; in the data from the service at `target`, each line that is the first port of a
    /// pair is replaced with the second one. Both have five digits.
    ///
    /// # Panics
    /// When a reserved port cannot be listened on.
    pub async fn renaming(target: SocketAddr, ports: &[(u16, u16)]) -> Self {
        let port = Port::reserve();
        let address = port.address();
        let listener = TcpListener::bind(address).await.expect("a reserved port is free");
        let (state, states) = watch::channel(State::Open { rate: None });
        let mut tasks = JoinSet::new();
        let line = |port: u16| format!("\r\n{port:05}\r\n").into_bytes();
        let names = ports.iter().map(|(from, to)| (line(*from), line(*to))).collect();
        tasks.spawn(run(listener, target, names, states));
        Self { address, state, _tasks: tasks, _port: port }
    }

    /// The address for Portcullis, in place of that of the service.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and refuses new ones. Both are true when this returns.
    pub async fn cut(&self) {
        self.state.send_replace(State::Cut);
        let what = format!("the link at {} refuses connections", self.address);
        eventually::holds(&what, || async { TcpStream::connect(self.address).await.is_err() })
            .await;
    }

    /// Keeps all connections and accepts new ones, but forwards nothing: each side sees the other
    /// one silent.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Forwards data again, first what a frozen link held back. Connections are accepted when this
    /// returns.
    pub async fn restore(&self) {
        self.open(None).await;
    }

    /// Forwards at most this many bytes per second and direction.
    pub async fn slow(&self, bytes_per_second: u64) {
        self.open(Some(bytes_per_second.max(1))).await;
    }

    async fn open(&self, rate: Option<u64>) {
        let before = self.state.send_replace(State::Open { rate });
        if before == State::Cut {
            let what = format!("the link at {} accepts connections", self.address);
            eventually::holds(&what, || async { TcpStream::connect(self.address).await.is_ok() })
                .await;
        }
    }
}

/// The replacements in the data from the service. Both texts of a pair have the same length.
type Names = Arc<[(Vec<u8>, Vec<u8>)]>;

/// Listens unless the link is cut, and drops all connections when it is.
async fn run(
    listener: TcpListener,
    target: SocketAddr,
    names: Names,
    mut states: watch::Receiver<State>,
) {
    let address = listener.local_addr().expect("a listener has an address");
    let mut listener = Some(listener);
    loop {
        // Everything is closed when this goes out of scope.
        if let Some(listener) = listener.take() {
            accept_until_cut(&listener, target, &names, states.clone()).await;
        }
        if states.wait_for(|state| *state != State::Cut).await.is_err() {
            return;
        }
        listener = Some(TcpListener::bind(address).await.expect("a reserved port is free"));
    }
}

async fn accept_until_cut(
    listener: &TcpListener,
    target: SocketAddr,
    names: &Names,
    states: watch::Receiver<State>,
) {
    let mut connections = JoinSet::new();
    let mut watched = states.clone();
    let cut = async move {
        // Without a sender, the link itself was dropped.
        let _ = watched.wait_for(|state| *state == State::Cut).await;
    };
    tokio::pin!(cut);
    loop {
        tokio::select! {
            () = &mut cut => break,
            Ok((client, _)) = listener.accept() => {
                connections.spawn(connect(client, target, Arc::clone(names), states.clone()));
            }
            // Otherwise ended tasks would be kept until the cut.
            Some(_) = connections.join_next() => {}
        }
    }
    // Before the listener closes: once a connection is refused, all older ones are closed.
    connections.shutdown().await;
}

/// Passes bytes between a client and the service, until one of them ends or breaks.
async fn connect(
    client: TcpStream,
    target: SocketAddr,
    names: Names,
    mut states: watch::Receiver<State>,
) {
    // A frozen link also opens no connection to the service.
    if states.wait_for(|state| matches!(state, State::Open { .. })).await.is_err() {
        return;
    }
    let Ok(service) = TcpStream::connect(target).await else { return };
    // The endpoints decide about delays; the link must not add any.
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    // An error in one direction ends both: a broken connection is broken.
    let _ = tokio::try_join!(
        pass(from_client, to_service, Names::default(), states.clone()),
        pass(from_service, to_client, names, states),
    );
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    names: Names,
    mut states: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let most = match *states.borrow() {
            State::Open { rate: Some(rate) } => step(rate),
            _ => CHUNK,
        };
        let begin = Instant::now();
        let count = from.read(&mut buffer[..most]).await?;
        let state = states.wait_for(|state| matches!(state, State::Open { .. })).await;
        let Ok(State::Open { rate }) = state.map(|state| *state) else { return Ok(()) };
        if count == 0 {
            return to.shutdown().await;
        }
        rename(&mut buffer[..count], &names);
        to.write_all(&buffer[..count]).await?;
        if let Some(rate) = rate {
            let bytes = u32::try_from(count).expect("a chunk is small");
            // Minus the time that the read took: bytes that are already late pass at once.
            let due =
                begin + Duration::from_secs(1) * bytes / u32::try_from(rate).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due).await;
        }
    }
}

/// Replaces the old names with the new ones. The data is short, and arrives in one piece.
fn rename(bytes: &mut [u8], names: &Names) {
    for (old, new) in names.iter() {
        let is_old = |place: &usize| bytes[*place..].starts_with(old);
        let places: Vec<_> = (0..bytes.len()).filter(is_old).collect();
        for place in places {
            bytes[place..place + new.len()].copy_from_slice(new);
        }
    }
}

/// The number of bytes per step at this rate.
fn step(rate: u64) -> usize {
    let steps = Duration::from_secs(1).as_millis() / STEP.as_millis();
    let bytes = u128::from(rate) / steps;
    usize::try_from(bytes).unwrap_or(CHUNK).clamp(1, CHUNK)
}
