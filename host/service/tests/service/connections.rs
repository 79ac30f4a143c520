//! Tests of useless connections: idle ones, silent ones, and those of another protocol.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    check::{Ask, CHECK, Client, token},
    process::{Folder, PATIENCE, Service, eventually, http},
};

const IDLE: usize = 300;

fn config(folder: &Folder) -> Value {
    let mut config = folder.config();
    config["http"] = json!({"listen": "127.0.0.1:0"});
    config["routes"] = json!([{"name": "all", "token": "required", "allow_without_policy": true}]);
    config
}

fn service() -> Service {
    let folder = Folder::new();
    let config = config(&folder);
    Service::start(folder, &config)
}

/// A service that may open fewer files than there are to be idle connections.
fn with_few_descriptors() -> Service {
    let folder = Folder::new();
    let config = config(&folder);
    Service::start_with_descriptors(256, folder, &config)
}

/// All other clients are served: on new connections, on every port.
async fn assert_serves(service: &Service) {
    for _ in 0..3 {
        let client = Client::connect(service.addresses.grpc).await;
        assert!(client.ask(&Ask::get("/").bearer(&token("alice"))).await.allowed);
    }
    let address = service.addresses.http.unwrap();
    assert_eq!(http(address, "GET", "/", Some(&token("alice")), "").unwrap().0, 200);
    assert_eq!(service.admin("GET", "/livez").unwrap().0, 200);
}

fn refused(service: &Service, edge: &str, cause: &str) -> u64 {
    let series = "portcullis_connections_refused_total";
    service.metric(&format!("{series}{{edge=\"{edge}\",cause=\"{cause}\"}}")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_connections_on_one_port_keep_no_other_client_out() {
    let service = with_few_descriptors();
    let addresses = service.addresses;
    let edges =
        [("grpc", addresses.grpc), ("http", addresses.http.unwrap()), ("admin", addresses.admin)];
    let mut open = Vec::new();
    // On each port, and in the end on all of them.
    for (edge, address) in edges {
        open.extend((0..IDLE).map(|_| TcpStream::connect(address).unwrap()));
        assert_serves(&service).await;
        assert!(refused(&service, edge, "idle") > 0, "{edge}");
        let limit = service.metric(&format!("portcullis_connections_limit{{edge=\"{edge}\"}}"));
        assert!(limit.unwrap() < 256, "{edge}: {limit:?}");
    }
    service.has_logged(1, "ulimit -n");
    assert_eq!(refused(&service, "grpc", "descriptors"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_used_and_are_idle_give_way_and_busy_ones_do_not() {
    let service = with_few_descriptors();
    let busy = Client::connect(service.addresses.grpc).await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let client = Client::connect(service.addresses.grpc).await;
        // Those that are closed meanwhile have had their answer.
        assert_eq!(client.ask(&Ask::get("/")).await.status, 401);
        idle.push(client);
        assert_eq!(busy.ask(&Ask::get("/")).await.status, 401);
    }
    let address = service.addresses.http.unwrap();
    let kept = (0..IDLE).map(|_| {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(socket, "GET / HTTP/1.1\r\nHost: api.test\r\n\r\n").unwrap();
        assert!(socket.read(&mut [0; 1024]).unwrap() > 0);
        socket
    });
    let _kept: Vec<_> = kept.collect();
    assert_serves(&service).await;
    assert_eq!(busy.ask(&Ask::get("/")).await.status, 401);
}

/// Sends bytes, and returns what comes back until the connection ends.
fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // What it had not read when it hung up makes this a reset.
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn line_count(service: &Service, words: &str) -> usize {
    service.log().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn another_protocol_on_the_grpc_port_is_counted_and_logged_once_a_minute() {
    let service = service();
    for (cause, bytes, words) in [
        ("http1", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(), "http2_protocol_options"),
        ("http1", b"POST /envoy HTTP/1.1\r\n\r\n", "http2_protocol_options"),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "plain text is expected here"),
        ("protocol", b"\x00\x01\x02", "does not speak HTTP/2"),
    ] {
        let before = refused(&service, "grpc", cause);
        for _ in 0..3 {
            assert_eq!(send(service.addresses.grpc, bytes), "");
        }
        eventually(cause, || (refused(&service, "grpc", cause) == before + 3).then_some(()));
        eventually("it is logged", || (line_count(&service, words) > 0).then_some(()));
        assert_eq!(line_count(&service, words), 1, "{}", service.log());
    }
    assert_eq!(refused(&service, "grpc", "protocol"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_too_many_headers_is_answered_with_431_and_the_next_one_is_served() {
    let service = service();
    let socket = tokio::net::TcpStream::connect(service.addresses.grpc).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    for (length, status) in [(8 << 10, 200), (20 << 10, 431), (8 << 10, 200)] {
        let mut sender = sender.clone().ready().await.unwrap();
        let request = http::Request::post(format!("http://portcullis.test{CHECK}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-long", "a".repeat(length))
            .body(())
            .unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{length}");
    }
}

#[test]
fn what_the_http_edge_cannot_read_is_counted_and_logged() {
    let service = service();
    let address = service.addresses.http.unwrap();
    let many = "a: b\r\n".repeat(300);
    let long = "a".repeat(70_000);
    for (cause, status, request) in [
        (
            "head_too_large",
            "431",
            format!("GET / HTTP/1.1\r\nHost: a\r\nb: c\r\n{many}\r\n").into_bytes(),
        ),
        ("head_too_large", "414", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()),
        ("bad_request", "400", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("http2", "", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ] {
        let before = refused(&service, "http", cause);
        let answer = send(address, &request);
        assert_eq!(answer.split(' ').nth(1).unwrap_or_default(), status, "{answer:?}");
        eventually(cause, || (refused(&service, "http", cause) == before + 1).then_some(()));
        let label = format!("\"cause\":\"{cause}\"");
        eventually("it is logged", || (line_count(&service, &label) == 1).then_some(()));
    }
}

#[test]
fn a_request_of_the_admin_port_whose_body_does_not_come_is_answered() {
    let service = service();
    let bearer = fs_token(&service);
    let head = format!(
        "POST /v1/revocations HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\
         Authorization: Bearer {bearer}\r\nConnection: close\r\n\r\n{{"
    );
    let begin = std::time::Instant::now();
    let answer = send(service.addresses.admin, head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

fn fs_token(service: &Service) -> String {
    std::fs::read_to_string(service.folder.path("admin.token")).unwrap()
}
