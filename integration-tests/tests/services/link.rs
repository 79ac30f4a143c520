//! Owns what tests rely on with a link between Portcullis and a service.
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

/// How long a test looks to see that nothing comes.
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
async fn a_frozen_link_delivers_nothing_and_a_restored_one_what_was_held_back() {
    let (listener, link) = listen().await;
    let (mut client, mut service) = connected(&link, &listener).await;
    let mut answer = [0; 4];
    link.freeze();
    client.write_all(b"ping").await.unwrap();
    let read = tokio::time::timeout(WHILE, service.read_exact(&mut answer)).await;
    assert!(read.is_err(), "nothing passes a frozen link");
    // New connections are taken, and lead nowhere.
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
async fn a_cut_link_closes_and_refuses_and_a_restored_one_works_at_the_same_address() {
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
    // Frozen connections are closed by a cut, too.
    link.freeze();
    let mut frozen = TcpStream::connect(link.address()).await.unwrap();
    link.cut().await;
    assert!(matches!(frozen.read(&mut [0]).await, Ok(0) | Err(_)), "it is closed");
}

#[tokio::test]
async fn a_slow_link_passes_everything_in_its_time() {
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
async fn the_end_of_one_side_reaches_the_other() {
    let (listener, link) = listen().await;
    let (client, mut service) = connected(&link, &listener).await;
    drop(client);
    assert_eq!(service.read(&mut [0]).await.unwrap(), 0);
}
