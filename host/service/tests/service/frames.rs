//! Attacks by single HTTP/2 frames, which no client library sends: they cost the connection that
//! they come on, and no other. And a proxy that cancels many checks at once, which only looks like
//! an attack.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    check::{Answer, Ask, CHECK, Client},
    process::{Folder, PATIENCE, Service},
};

/// What a busy machine may take to answer; an idle one takes a thousandth of it.
const IN_TIME: Duration = Duration::from_secs(5);
/// The same for one answer in ten.
const AT_MOST: Duration = Duration::from_secs(30);
/// By how much the service may grow, in MiB. A connection holds up to 1,024 checks that have begun, each
/// with all that it may wait for; whatever is not bounded grows by hundreds.
const GROWTH: u64 = 96;
/// Checks that one connection may have under way, `grpc.max_concurrent_streams`.
const UNDER_WAY: usize = 1024;

/// Kinds of frames, RFC 9113 section 6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
/// Flags of frames.
const NO_FLAGS: u8 = 0;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// Error code of a peer that cancels.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field, literally and for one time: RFC 7541 section 6.2.2.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The headers of a check.
fn headers() -> Vec<u8> {
    [
        field(":method", "POST"),
        field(":scheme", "http"),
        field(":path", CHECK),
        field(":authority", "portcullis.test"),
        field("content-type", "application/grpc"),
        field("te", "trailers"),
    ]
    .concat()
}

/// The streams that a client may open, in their order.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

/// What ends the connection. After it, a server that hangs up has read everything before it.
fn last_frame() -> Vec<u8> {
    frame(DATA, NO_FLAGS, 0, b"data belongs to a stream")
}

/// A check that is cancelled at once.
fn begun_and_reset(stream: u32) -> Vec<u8> {
    let begin = frame(HEADERS, END_HEADERS, stream, &headers());
    [begin, frame(RST_STREAM, NO_FLAGS, stream, &CANCEL)].concat()
}

/// A connection that writes its frames itself.
struct Peer(TcpStream);

// === impl Peer ===

impl Peer {
    /// Connects, and lets the server send as much as it wants to.
    async fn connect(to: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(to).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let window = (i32::MAX - 65_535).to_be_bytes();
        let begin = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(SETTINGS, NO_FLAGS, 0, b""),
            frame(WINDOW_UPDATE, NO_FLAGS, 0, &window),
        ];
        socket.write_all(&begin.concat()).await.unwrap();
        Self(socket)
    }

    async fn send(&mut self, frames: &[u8]) {
        self.0.write_all(frames).await.expect("the server keeps the connection");
    }

    /// The next frame: its kind, its flags, its stream and what it carries.
    async fn receive(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await?;
        Ok((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// Sends frames and waits until the server has read them, which does not mean that it has worked
    /// on them.
    async fn send_and_ping(&mut self, frames: &[u8]) -> io::Result<()> {
        let ping = frame(PING, NO_FLAGS, 0, b"8 octets");
        self.0.write_all(&[frames, &ping].concat()).await?;
        while self.receive().await?.0 != PING {}
        Ok(())
    }

    /// Reads up to the end of the answer on one stream.
    async fn answer(&mut self, on: u32) -> Answer {
        let mut message = Vec::new();
        loop {
            let received = self.receive().await.expect("the server keeps the connection");
            let (kind, flags, stream, payload) = received;
            if stream != on {
                continue;
            }
            assert_ne!(kind, RST_STREAM, "the check is refused: {payload:?}");
            if kind == DATA {
                message.extend(payload);
            }
            if [DATA, HEADERS].contains(&kind) && flags & END_STREAM != 0 {
                return Answer::read(&message);
            }
        }
    }

    /// Sends `frames` until the server hangs up, which it must.
    async fn flood(self, frames: &[u8]) {
        let (mut reader, mut writer) = self.0.into_split();
        let hung_up = async {
            // An end and a reset are the same here.
            let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
        };
        let write = async {
            // What the server does not read any more is lost.
            let _ = writer.write_all(frames).await;
        };
        let both = async { tokio::join!(hung_up, write) };
        tokio::time::timeout(PATIENCE, both).await.expect("the server hangs up");
    }
}

/// A service that lets everything pass, so that what is seen is the edge.
fn service() -> Service {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([{
        "name": "everything", "token": "ignored", "allow_without_policy": true,
    }]);
    Service::start(folder, &config)
}

/// Asks on an ordinary connection for as long as the attack lasts, and once more. All the while the
/// answers come in time, and memory stays bounded.
async fn harms_no_other(service: &Service, attack: impl Future<Output = ()> + Send + 'static) {
    let client = Client::connect(service.addresses.grpc).await;
    client.ask(&Ask::get("/")).await;
    let before = service.resident_bytes();
    let [mut asked, mut late] = [0_usize; 2];
    let mut grown = 0;
    let mut attacks = JoinSet::new();
    attacks.spawn(attack);
    while !attacks.is_empty() {
        if let Some(ended) = attacks.try_join_next() {
            ended.expect("the attack goes as planned");
        }
        let begun = Instant::now();
        let answer = client.ask(&Ask::get("/")).await;
        assert!(answer.allowed, "{answer:?}");
        let took = begun.elapsed();
        assert!(took < AT_MOST, "the answer took {took:?}");
        asked += 1;
        late += usize::from(took >= IN_TIME);
        grown = grown.max(service.resident_bytes().saturating_sub(before));
    }
    assert!(late * 10 <= asked, "{late} of {asked} answers took {IN_TIME:?} or longer");
    assert!(grown >> 20 < GROWTH, "{} MiB more during the attack", grown >> 20);
}

/// Sends the same frames on one new connection after the other.
async fn flood(frames: Vec<u8>, connections: usize) {
    let service = service();
    let address = service.addresses.grpc;
    let attack = async move {
        for _ in 0..connections {
            Peer::connect(address).await.flood(&frames).await;
        }
    };
    harms_no_other(&service, attack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_that_are_reset_as_fast_as_they_are_begun_harm_no_other() {
    let checks = streams().take(5_000).map(begun_and_reset);
    let frames: Vec<_> = checks.chain([last_frame()]).collect();
    flood(frames.concat(), 100).await;
}

/// No faster than they are read, so that HTTP/2 has no reason to end the connection; faster than
/// the service works on them.
#[tokio::test(flavor = "multi_thread")]
async fn checks_that_are_reset_in_step_with_the_server_harm_no_other() {
    let service = service();
    let address = service.addresses.grpc;
    let attack = async move {
        let mut peer = Peer::connect(address).await;
        let mut streams = streams();
        for round in 0..1_600 {
            let checks: Vec<_> = streams.by_ref().take(50).flat_map(begun_and_reset).collect();
            if peer.send_and_ping(&checks).await.is_err() {
                // Cut off after all, because the server was slow to begin.
                assert!(round > 0, "not for the first of them");
                break;
            }
        }
    };
    harms_no_other(&service, attack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_continued_for_ever_harm_no_other() {
    for more in [field("x-more", "of it"), Vec::new()] {
        let mut frames = frame(HEADERS, NO_FLAGS, 1, &headers());
        frames.extend(frame(CONTINUATION, NO_FLAGS, 1, &more).repeat(10_000));
        flood(frames, 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_end_in_empty_frames_harms_no_other() {
    let mut frames = frame(HEADERS, END_HEADERS, 1, &headers());
    frames.extend(frame(DATA, NO_FLAGS, 1, b"").repeat(50_000));
    flood(frames, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_frames_of_one_byte_harms_no_other() {
    let mut frames = frame(HEADERS, END_HEADERS, 1, &headers());
    frames.extend(frame(DATA, NO_FLAGS, 1, b"\0").repeat(50_000));
    frames.extend(last_frame());
    flood(frames, 5).await;
}

/// Begins as many checks as may be under way and cancels them all, as Envoy does when its own time
/// for them is up, again and again.
async fn is_kept_after_cancelling(sent: &[u8], flags: u8) {
    let service = service();
    let mut peer = Peer::connect(service.addresses.grpc).await;
    let (sent, ask) = (sent.to_vec(), Ask::get("/").message());
    let attack = async move {
        let mut streams = streams();
        for _ in 0..5 {
            let checks: Vec<_> = streams.by_ref().take(UNDER_WAY).collect();
            let begin = |stream: &u32| {
                let begin = frame(HEADERS, END_HEADERS, *stream, &headers());
                [begin, frame(DATA, flags, *stream, &sent)].concat()
            };
            peer.send(&checks.iter().flat_map(begin).collect::<Vec<_>>()).await;
            let cancel = |stream: &u32| frame(RST_STREAM, NO_FLAGS, *stream, &CANCEL);
            peer.send(&checks.iter().flat_map(cancel).collect::<Vec<_>>()).await;
            // The connection serves, and has seen to all that was cancelled.
            let next = streams.next().unwrap();
            peer.send(&frame(HEADERS, END_HEADERS, next, &headers())).await;
            peer.send(&frame(DATA, END_STREAM, next, &ask)).await;
            let answer = tokio::time::timeout(PATIENCE, peer.answer(next)).await;
            assert!(answer.expect("an answer in time").allowed);
        }
    };
    harms_no_other(&service, attack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_gives_up_on_all_its_checks_keeps_its_connection() {
    is_kept_after_cancelling(&Ask::get("/").message(), END_STREAM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_gives_up_on_checks_half_sent_keeps_its_connection() {
    is_kept_after_cancelling(&Ask::get("/").message()[..10], NO_FLAGS).await;
}
