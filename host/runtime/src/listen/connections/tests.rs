//! Which connection gives way.

use std::{future::pending, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

use super::*;
use crate::{
    drain::{self, DeadTasks},
    listen::bind,
    telemetry::Edge,
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Edges {
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<Activity>,
    _drain: Drain,
    _dead: DeadTasks,
}

/// An edge that holds on to its connections and never answers.
async fn edge(limit: u32) -> Edges {
    let incoming = bind(Edge::Http, SocketAddr::from(([127, 0, 0, 1], 0)), limit).await.unwrap();
    let (address, (drain, dead)) = (incoming.local_addr(), drain::pair());
    let (sender, accepted) = mpsc::unbounded_channel();
    let serving = incoming.serve(drain.clone(), move |connection| {
        sender.send(connection.activity.clone()).unwrap();
        async move {
            let _held = connection;
            pending::<()>().await;
        }
    });
    drain.spawn("edge", serving);
    Edges { address, accepted, _drain: drain, _dead: dead }
}

impl Edges {
    async fn connect(&mut self) -> (TcpStream, Activity) {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let accepted = tokio::time::timeout(PATIENCE, self.accepted.recv()).await.unwrap();
        (socket, accepted.unwrap())
    }
}

async fn is_closed(socket: &mut TcpStream) {
    let read = tokio::time::timeout(PATIENCE, socket.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

async fn is_open(socket: &mut TcpStream) {
    socket.write_all(b"x").await.unwrap();
    let read = tokio::time::timeout(Duration::from_millis(20), socket.read(&mut [0])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn silent_connections_are_closed_first_the_oldest_before_others() {
    let mut edge = edge(3).await;
    let (mut asked, activity) = edge.connect().await;
    drop(activity.begin());
    let (mut older, _) = edge.connect().await;
    let (mut newer, _) = edge.connect().await;
    let (mut next, _) = edge.connect().await;
    is_closed(&mut older).await;
    let (mut last, _) = edge.connect().await;
    is_closed(&mut newer).await;
    for open in [&mut asked, &mut next, &mut last] {
        is_open(open).await;
    }
}

#[tokio::test]
async fn the_connection_idle_for_the_longest_is_closed_first() {
    let mut edge = edge(3).await;
    let (mut idle, first) = edge.connect().await;
    let (mut busy, second) = edge.connect().await;
    let (mut silent, _) = edge.connect().await;
    drop((first.begin(), second.begin()));
    let (mut newer, third) = edge.connect().await;
    is_closed(&mut silent).await;
    drop((second.begin(), third.begin()));
    let (mut newest, _) = edge.connect().await;
    is_closed(&mut idle).await;
    for open in [&mut busy, &mut newer, &mut newest] {
        is_open(open).await;
    }
}

#[tokio::test]
async fn a_connection_with_a_request_in_flight_is_never_closed() {
    let mut edge = edge(2).await;
    let (mut first, one) = edge.connect().await;
    let (mut second, two) = edge.connect().await;
    let underway = (one.begin(), two.begin());
    let mut refused = TcpStream::connect(edge.address).await.unwrap();
    is_closed(&mut refused).await;
    is_open(&mut first).await;
    is_open(&mut second).await;
    drop(underway);
    let (mut third, _) = edge.connect().await;
    is_open(&mut third).await;
}

#[tokio::test]
async fn a_connection_that_ends_by_itself_makes_room() {
    let incoming = bind(Edge::Http, SocketAddr::from(([127, 0, 0, 1], 0)), 1).await.unwrap();
    let (address, (drain, _dead)) = (incoming.local_addr(), drain::pair());
    let serving = incoming.serve(drain.clone(), |mut connection| async move {
        let _ended = connection.socket.read(&mut [0]).await;
        // Nothing may close a connection with a request but the request itself.
        let _underway = connection.activity.begin();
    });
    drain.spawn("edge", serving);
    for _ in 0..20 {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"x").await.unwrap();
        is_closed(&mut socket).await;
    }
}
