//! Owns the way between Portcullis and a service: it can be cut, frozen, and slowed down.
//!
//! It knows no protocol. What it has taken from one side and not yet given to the other is lost
//! when it is cut, and waits when it is frozen, as in a network.

use std::{io, net::SocketAddr, time::Duration};

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

/// What is read at once; small, so that a slow link is slow in small steps.
const CHUNK: usize = 16 * 1024;
/// Steps of a slow link.
const STEP: Duration = Duration::from_millis(20);

/// A way to a service. It is cut when this is dropped.
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
    /// Passes everything on, at most so many bytes in a second and direction.
    Open { rate: Option<u64> },
    /// Takes connections, keeps those that there are, and passes nothing on.
    Frozen,
    /// Refuses connections.
    Cut,
}

// === impl Link ===

impl Link {
    /// A way to the service at `target`, which need not be there.
    ///
    /// # Panics
    /// When a reserved port cannot be listened on.
    pub async fn to(target: SocketAddr) -> Self {
        let port = Port::reserve();
        let address = port.address();
        let listener = TcpListener::bind(address).await.expect("a reserved port is free");
        let (state, states) = watch::channel(State::Open { rate: None });
        let mut tasks = JoinSet::new();
        tasks.spawn(run(listener, target, states));
        Self { address, state, _tasks: tasks, _port: port }
    }

    /// Where Portcullis connects to instead.
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

    /// Keeps all connections and takes new ones, but passes nothing on: to both sides, the other
    /// one is silent.
    pub fn freeze(&self) {
        self.state.send_replace(State::Frozen);
    }

    /// Passes everything on again, what a frozen link held back first. Connections are taken when
    /// this returns.
    pub async fn restore(&self) {
        self.open(None).await;
    }

    /// Passes at most so many bytes in a second and direction on.
    pub async fn slow(&self, bytes_per_second: u64) {
        self.open(Some(bytes_per_second.max(1))).await;
    }

    async fn open(&self, rate: Option<u64>) {
        let before = self.state.send_replace(State::Open { rate });
        if before == State::Cut {
            let what = format!("the link at {} takes connections", self.address);
            eventually::holds(&what, || async { TcpStream::connect(self.address).await.is_ok() })
                .await;
        }
    }
}

/// Listens unless the link is cut, and drops all connections when it is.
async fn run(listener: TcpListener, target: SocketAddr, mut states: watch::Receiver<State>) {
    let address = listener.local_addr().expect("a listener has an address");
    let mut listener = Some(listener);
    loop {
        // Everything is closed when this goes out of scope.
        if let Some(listener) = listener.take() {
            accept_until_cut(&listener, target, states.clone()).await;
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
                connections.spawn(connect(client, target, states.clone()));
            }
            // Or the ended ones would be kept until the cut.
            Some(_) = connections.join_next() => {}
        }
    }
    // Before the listener goes: whoever is refused finds all older connections closed, too.
    connections.shutdown().await;
}

/// Passes bytes between a client and the service, until one of them ends or breaks.
async fn connect(client: TcpStream, target: SocketAddr, mut states: watch::Receiver<State>) {
    // A frozen link makes no connections on the other side, either.
    if states.wait_for(|state| matches!(state, State::Open { .. })).await.is_err() {
        return;
    }
    let Ok(service) = TcpStream::connect(target).await else { return };
    // Whoever connects decides about delays; this must not add any.
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_service, to_service) = service.into_split();
    // An error in one direction ends both: a broken connection is broken.
    let _ = tokio::try_join!(
        pass(from_client, to_service, states.clone()),
        pass(from_service, to_client, states),
    );
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
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
        to.write_all(&buffer[..count]).await?;
        if let Some(rate) = rate {
            let bytes = u32::try_from(count).expect("a chunk is small");
            // Not more than the time it took: bytes that come late anyway pass at once.
            let due =
                begin + Duration::from_secs(1) * bytes / u32::try_from(rate).unwrap_or(u32::MAX);
            tokio::time::sleep_until(due).await;
        }
    }
}

/// How many bytes pass in one step at this rate.
fn step(rate: u64) -> usize {
    let steps = Duration::from_secs(1).as_millis() / STEP.as_millis();
    let bytes = u128::from(rate) / steps;
    usize::try_from(bytes).unwrap_or(CHUNK).clamp(1, CHUNK)
}
