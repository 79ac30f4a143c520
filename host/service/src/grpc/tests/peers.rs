//! Tests of peers that write their bytes themselves: they begin slowly, not at all, or with another
//! protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

/// A peer that writes its bytes itself.
struct Peer(TcpStream);

impl Peer {
    async fn sends(to: SocketAddr, bytes: &[u8]) -> Self {
        let mut peer = Self(TcpStream::connect(to).await.unwrap());
        peer.0.set_nodelay(true).unwrap();
        peer.0.write_all(bytes).await.unwrap();
        peer
    }

    /// Whether it gets an answer to a ping, after whatever else it gets.
    async fn is_served(&mut self) -> bool {
        self.0.write_all(PING).await.unwrap();
        loop {
            let mut head = [0; 9];
            if self.0.read_exact(&mut head).await.is_err() {
                return false;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            self.0.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).await.unwrap();
            if head[3] == PING[3] {
                return true;
            }
        }
    }

    /// Waits until the server hangs up, which it does without a word.
    async fn closed(mut self) {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_to_end(&mut answer));
        // What it has not read makes it a reset.
        let _ = read.await.expect("the server hangs up in time");
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn peers_that_do_not_begin_are_closed_in_time_and_no_others() {
    let edge = edge_that_waits(SOON, allow_all).await;
    let mut begun = Peer::sends(edge.address, &[PREFACE, SETTINGS].concat()).await;
    assert!(begun.is_served().await, "it has begun");
    let mut others = Vec::new();
    for bytes in [&b""[..], &PREFACE[..1], &PREFACE[..23]] {
        others.push(Peer::sends(edge.address, bytes).await);
    }
    for other in others {
        other.closed().await;
    }
    assert!(begun.is_served().await, "silence is no crime after the beginning");
}

#[tokio::test]
async fn a_beginning_may_come_in_pieces() {
    let edge = edge(allow_all).await;
    let mut peer = Peer::sends(edge.address, &PREFACE[..10]).await;
    let answer = tokio::time::timeout(Duration::from_millis(50), peer.0.read_u8()).await;
    assert!(answer.is_err(), "the server waits for the rest: {answer:?}");
    peer.0.write_all(&[&PREFACE[10..], SETTINGS].concat()).await.unwrap();
    assert!(peer.is_served().await);
}

#[tokio::test]
async fn other_protocols_are_closed_without_waiting() {
    let edge = edge(allow_all).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01", b"PRI * HTTP/2.0\n"] {
        Peer::sends(edge.address, bytes).await.closed().await;
    }
}

#[tokio::test]
async fn peers_that_do_not_begin_do_not_hold_up_the_drain() {
    let edge = edge(allow_all).await;
    let _silent = Peer::sends(edge.address, b"").await;
    let _half = Peer::sends(edge.address, &PREFACE[..10]).await;
    assert_eq!(code(&edge.check(get("/")).await), 0, "all three are accepted");
    assert_eq!(edge.drain.drain(Duration::from_secs(20)).await, 0);
}
