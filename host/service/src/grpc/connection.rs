//! Connections of the gRPC edge: HTTP/2 with every limit set, and a graceful close.
//!
//! tonic's own server wraps each call into layers, boxes and a timer that checks have no use for;
//! together they cost more than the decision. So connections are served here, and tonic answers
//! what is not a check.

use std::{
    error::Error,
    hash::{BuildHasher, RandomState},
    io,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_runtime::{
    drain::Drain,
    listen::{Activity, Connection, Incoming},
    telemetry::Refusal,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, join},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{sleep, timeout},
};

use super::{GrpcConfig, calls::CallQueue, check::CheckService};
use crate::authorizer::Authorize;

/// Flow control, in bytes: several messages of one connection may be on the way at a time, and an
/// oversized one is read to its end before it is denied.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What a client of HTTP/2 sends first: RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Streams that we reset ourselves because of the peer's errors, before the connection is closed.
const MAX_LOCAL_RESETS: usize = 1024;

/// Serves until the drain begins and every peer has hung up.
pub(super) async fn serve<A: Authorize>(
    incoming: Incoming,
    config: &GrpcConfig,
    service: CheckService<A>,
    drain: Drain,
) {
    let (service, metrics) = (Arc::new(service), incoming.metrics().clone());
    let draining = drain.clone();
    incoming
        .serve(drain, |Connection { socket, peer, activity }| {
            let begun = begin(socket, config.read_timeout.get());
            let calls = CallQueue::default();
            let builder = builder(config, calls.clone());
            let age = config.max_connection_age.map(|age| jittered(age.get()));
            let (service, drain) = (Arc::clone(&service), draining.clone());
            let metrics = metrics.clone();
            async move {
                let ended = match begun.await {
                    Ok((reader, writer)) => {
                        let socket = join(calls.throttle(reader), writer);
                        let end = ended(age, drain);
                        connection(socket, builder, calls, service, activity, end).await
                    }
                    Err(refusal) => refusal,
                };
                if let Some(refusal) = ended {
                    metrics.refused(refusal, Some(peer));
                }
            }
        })
        .await;
}

/// Waits for the HTTP/2 preface of the peer, for `patience` at most. hyper sends keep-alive pings
/// only after that, so a silent peer would keep its socket forever. An error says what the peer did
/// instead, if it did anything.
///
/// The drain does not end this: a peer that has just connected may be about to send a check. Peers
/// that are not are dropped together with the idle ones.
async fn begin(
    socket: TcpStream,
    patience: Duration,
) -> Result<(impl AsyncRead + Unpin, OwnedWriteHalf), Option<Refusal>> {
    let (mut reader, writer) = socket.into_split();
    match timeout(patience, read_preface(&mut reader)).await {
        // hyper wants to read it too.
        Ok(Ok(None)) => Ok((PREFACE.chain(reader), writer)),
        Ok(Ok(refusal)) => Err(refusal),
        // Probes of load balancers connect and hang up.
        Ok(Err(_)) => Err(None),
        Err(_) => Err(Some(Refusal::Silent)),
    }
}

/// Reads the preface, in however many pieces, or says what comes in place of it.
async fn read_preface(peer: &mut OwnedReadHalf) -> io::Result<Option<Refusal>> {
    let mut missing = PREFACE;
    let mut buffer = [0; PREFACE.len()];
    while !missing.is_empty() {
        let length = peer.read(&mut buffer[..missing.len()]).await?;
        match missing.strip_prefix(&buffer[..length]) {
            Some(_) if length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(rest) => missing = rest,
            None => return Ok(Some(protocol(PREFACE.len() - missing.len(), buffer[0]))),
        }
    }
    Ok(None)
}

/// What a peer speaks, by the byte that follows as many of the preface.
fn protocol(matched: usize, next: u8) -> Refusal {
    const TLS_HANDSHAKE: u8 = 22;
    match (matched, next) {
        (0, TLS_HANDSHAKE) => Refusal::Tls,
        // A method; those of `POST`, `PUT`, `PATCH` and `PRI` begin like the preface.
        (0..=2, b'A'..=b'Z') => Refusal::Http1,
        _ => Refusal::Protocol,
    }
}

/// Serves a connection to its end. Returns what was wrong with it, if the peer did not keep to
/// HTTP/2.
async fn connection<A: Authorize>(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    builder: Builder<CallQueue>,
    calls: CallQueue,
    service: Arc<CheckService<A>>,
    activity: Activity,
    ended: impl Future<Output = ()>,
) -> Option<Refusal> {
    let service = service_fn(|request| {
        let (service, underway) = (Arc::clone(&service), activity.begin());
        async move {
            let answer = service.call(request).await;
            drop(underway);
            answer
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service));
    let mut runner = calls.runner();
    // In this order: first read what has come and send what is answered, then answer what was read.
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended.err().and_then(|error| refusal(&error)),
        never = runner.run() => match never {},
        () = ended => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = connection => {}
        never = runner.run() => match never {},
    }
    None
}

/// Why a connection ended, where that is worth reporting. How peers hang up is not.
fn refusal(error: &hyper::Error) -> Option<Refusal> {
    let is_about_the_socket = error.source().is_some_and(<dyn Error>::is::<io::Error>);
    let is_ordinary = is_about_the_socket || error.is_timeout() || error.is_closed();
    (!is_ordinary).then_some(Refusal::Protocol)
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
    // The standard library hashes with random keys.
    let hash = RandomState::new().hash_one(0_u8);
    let parts = u32::try_from(hash % 201).unwrap_or_default();
    age.saturating_mul(900 + parts) / 1000
}

/// Every limit is set here, because HTTP/2 itself leaves most of them open.
fn builder(config: &GrpcConfig, calls: CallQueue) -> Builder<CallQueue> {
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
        // No client reads the time from a gRPC response.
        .auto_date_header(false);
    builder
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn begun_with(pieces: &[&[u8]]) -> Result<(), Option<Refusal>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        peer.set_nodelay(true).unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let begun = begin(socket, Duration::from_mins(1));
        let write = async {
            for piece in pieces {
                peer.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            peer.shutdown().await.unwrap();
        };
        tokio::join!(begun, write).0.map(drop)
    }

    #[tokio::test]
    async fn what_a_peer_speaks_is_known_by_its_first_bytes() {
        assert_eq!(begun_with(&[PREFACE]).await, Ok(()));
        assert_eq!(begun_with(&[&PREFACE[..1], &PREFACE[1..20], &PREFACE[20..]]).await, Ok(()));
        for method in ["GET", "POST", "PUT", "PATCH", "PRIVATE", "OPTIONS"] {
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            let (first, rest) = head.as_bytes().split_at(1);
            for pieces in [&[head.as_bytes()] as &[_], &[first, rest]] {
                assert_eq!(begun_with(pieces).await, Err(Some(Refusal::Http1)), "{method}");
            }
        }
        assert_eq!(begun_with(&[b"\x16\x03\x01\x02"]).await, Err(Some(Refusal::Tls)));
        assert_eq!(begun_with(&[b"\0\0\0"]).await, Err(Some(Refusal::Protocol)));
        assert_eq!(begun_with(&[]).await, Err(None));
        assert_eq!(begun_with(&[b"PRI"]).await, Err(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_told_from_one_that_hangs_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let begun = begin(socket, Duration::from_secs(5)).await;
        assert_eq!(begun.map(drop), Err(Some(Refusal::Silent)));
    }
}
