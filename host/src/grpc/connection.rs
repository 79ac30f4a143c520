//! Owns the connections of the gRPC edge: HTTP/2 with every limit set, and closing in good order.
//!
//! tonic's own server wraps each call into layers, boxes and a timer that checks have no use for;
//! together they cost more than the decision. So connections are served here, and tonic answers
//! what is not a check.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, join},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt;

use super::{Config, calls::Calls, check::CheckService};
use crate::{authorizer::Authorize, drain::Drain, listen::Incoming};

/// Flow control, in bytes: several messages of one connection may be on the way at a time, and an
/// oversized one is read to its end before it is denied.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What whoever speaks HTTP/2 says first: RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that we reset ourselves because of the peer's errors, before the connection is closed.
const MAX_LOCAL_RESETS: usize = 1024;

/// Serves until the drain begins and every peer has hung up.
pub(super) async fn serve<A: Authorize>(
    mut incoming: Incoming,
    config: &Config,
    service: CheckService<A>,
    drain: Drain,
) {
    let service = Arc::new(service);
    // The edge waits for its connections, so the drain that waits for the edge knows them.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = drain.stopping() => break,
            Some(accepted) = incoming.next() => {
                let Ok(socket) = accepted else { continue };
                let begun = begin(socket, config.read_timeout.get());
                let calls = Calls::default();
                let age = config.max_connection_age.map(|age| jittered(age.get()));
                let builder = builder(config, calls.clone());
                let (service, drain) = (Arc::clone(&service), drain.clone());
                connections.spawn(async move {
                    if let Some((reader, writer)) = begun.await {
                        let socket = join(calls.throttle(reader), writer);
                        connection(socket, builder, calls, service, ended(age, drain)).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    // New peers are to go elsewhere from now on.
    drop(incoming);
    while connections.join_next().await.is_some() {}
}

/// Waits until the peer has said that it speaks HTTP/2, `patience` at the most. hyper asks silent
/// peers for a sign of life only after that, so one that says nothing would keep its socket for ever.
///
/// The drain does not end this: whoever has just connected may be about to ask. Those that are not
/// are given up together with the idle ones.
async fn begin(
    socket: TcpStream,
    patience: Duration,
) -> Option<(impl AsyncRead + Unpin, OwnedWriteHalf)> {
    let (mut reader, writer) = socket.into_split();
    match timeout(patience, has_preface(&mut reader)).await {
        // hyper wants to read it too.
        Ok(Ok(true)) => Some((PREFACE.chain(reader), writer)),
        _ => None,
    }
}

/// Whether the peer begins with the preface, in however many pieces; no, as soon as it does not.
async fn has_preface(peer: &mut OwnedReadHalf) -> io::Result<bool> {
    let mut missing = PREFACE;
    let mut buffer = [0; PREFACE.len()];
    while !missing.is_empty() {
        let length = peer.read(&mut buffer[..missing.len()]).await?;
        match missing.strip_prefix(&buffer[..length]) {
            Some(rest) if length > 0 => missing = rest,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

async fn connection<A: Authorize>(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    builder: Builder<Calls>,
    calls: Calls,
    service: Arc<CheckService<A>>,
    ended: impl Future<Output = ()>,
) {
    let service = service_fn(|request| Arc::clone(&service).call(request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut caller = calls.caller();
    // In this order: first read what has come and send what is answered, then answer what was read.
    tokio::select! {
        biased;
        // How a connection ends is the peer's affair.
        _ = connection.as_mut() => return,
        never = caller.run() => match never {},
        () = ended => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection => {}
        never = caller.run() => match never {},
    }
}

/// Resolves when a connection is to take no more calls: it is old enough, or the drain begins.
async fn ended(age: Option<Duration>, drain: Drain) {
    let Some(age) = age else { return drain.stopping().await };
    tokio::select! {
        () = sleep(age) => {}
        () = drain.stopping() => {}
    }
}

/// A tenth more or less, so that clients that came together do not come back together.
fn jittered(age: Duration) -> Duration {
    // The standard library hashes with keys that nobody knows.
    let hash = RandomState::new().hash_one(0_u8);
    let parts = u32::try_from(hash % 201).unwrap_or_default();
    age.saturating_mul(900 + parts) / 1000
}

/// Every limit is set here, because HTTP/2 itself leaves most of them open.
fn builder(config: &Config, calls: Calls) -> Builder<Calls> {
    let streams = config.max_concurrent_streams;
    let mut builder = Builder::new(calls);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(config.max_header_list_bytes)
        .keep_alive_interval(config.keepalive_interval.get())
        .keep_alive_timeout(config.keepalive_timeout.get())
        // Bounds what a flood of HEADERS and RST_STREAM can queue. An honest Envoy whose checks all
        // time out at once cancels as many as it may have under way, and must not be cut off for it.
        .max_pending_accept_reset_streams(usize::try_from(streams).ok())
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        // Nobody reads the time from a gRPC response.
        .auto_date_header(false);
    builder
}
