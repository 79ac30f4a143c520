//! Tests of the link between Portcullis and a service.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use portcullis_integration_tests::{client::Request, services::Link, upstream::Upstream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How long a test waits to verify that nothing arrives.
const WHILE: Duration = Duration::from_millis(200);

/// Two ends of one connection through a link.
async fn connected(link: &Link, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(link.address()).await.unwrap();
    let (service, _) = listener.accept().await.unwrap();
    (client, service)
}

async fn listen() -> (TcpListener, Link) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::to(listener.local_addr().unwrap()).await;
    (listener, link)
}

#[tokio::test]
async fn a_frozen_link_holds_data_back_until_it_is_restored() {
    let (listener, link) = listen().await;
    let (mut client, mut service) = connected(&link, &listener).await;
    let mut answer = [0; 4];
    link.freeze();
    client.write_all(b"ping").await.unwrap();
    let read = tokio::time::timeout(WHILE, service.read_exact(&mut answer)).await;
    assert!(read.is_err(), "nothing passes a frozen link");
    // New connections are accepted, but not forwarded.
    let _late = TcpStream::connect(link.address()).await.unwrap();
    assert!(tokio::time::timeout(WHILE, listener.accept()).await.is_err());

    link.restore().await;
    service.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"ping");
    listener.accept().await.unwrap();
    service.write_all(b"pong").await.unwrap();
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"pong");
}

#[tokio::test]
async fn a_cut_link_refuses_and_a_restored_one_keeps_its_address() {
    let upstream = Upstream::start().await;
    let link = Link::to(upstream.address()).await;
    let get = || async { Request::get("/").try_send(link.address()).await };
    assert!(get().await.is_ok());
    let mut open = TcpStream::connect(link.address()).await.unwrap();

    link.cut().await;
    assert!(matches!(open.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
    assert_eq!(get().await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    link.restore().await;
    assert!(get().await.is_ok());
    // A cut also closes frozen connections.
    link.freeze();
    let mut frozen = TcpStream::connect(link.address()).await.unwrap();
    link.cut().await;
    assert!(matches!(frozen.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
}

#[tokio::test]
async fn a_slow_link_forwards_everything_at_its_rate() {
    let (listener, link) = listen().await;
    let (mut client, mut service) = connected(&link, &listener).await;
    link.slow(50_000).await;
    let sent: Vec<u8> = (0..=255).cycle().take(50_000).collect();
    let begin = Instant::now();
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    service.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, sent);
    let took = begin.elapsed();
    assert!(
        took >= Duration::from_millis(400),
        "a second's worth, less a first piece, took {took:?}"
    );
}

#[tokio::test]
async fn a_close_of_one_side_reaches_the_other() {
    let (listener, link) = listen().await;
    let (client, mut service) = connected(&link, &listener).await;
    drop(client);
    assert_eq!(service.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_link_replaces_a_port_only_if_it_is_a_whole_line() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let link = Link::renaming(target, &[(20_001, 30_001)]).await;
    let (mut client, mut service) = connected(&link, &listener).await;
    let sent = b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n20001\r\n$6\r\n200011\r\n";
    service.write_all(sent).await.unwrap();
    let mut received = vec![0; sent.len()];
    client.read_exact(&mut received).await.unwrap();
    assert_eq!(received, b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n30001\r\n$6\r\n200011\r\n");
    // The data of the client passes unchanged.
    client.write_all(b"\r\n20001\r\n").await.unwrap();
    let mut forwarded = [0; 9];
    service.read_exact(&mut forwarded).await.unwrap();
    assert_eq!(&forwarded, b"\r\n20001\r\n");
}
