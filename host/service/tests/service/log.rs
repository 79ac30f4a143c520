//! Tests of a log that is not read, that is closed, or that is full: requests and the end of the
//! process do not depend on it.

use std::{
    fs::File,
    io::{BufRead, BufReader, PipeReader, Write},
    net::TcpStream,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    check::{Answer, Ask, Client, token},
    process::{Folder, Service, command, eventually, http},
};

/// What a pipe takes before its writer blocks (pipe(7)).
const PIPE_BYTES: usize = 64 * 1024;
const DROPPED: &str = "portcullis_log_lines_dropped_total";

/// One route, which needs a token, for gRPC and HTTP.
fn config(folder: &Folder) -> Value {
    let mut config = folder.config();
    config["http"] = json!({"listen": "127.0.0.1:0"});
    config["routes"] = json!([{"name": "all", "token": "required", "allow_without_policy": true}]);
    config["shutdown"] = json!({"grace": "0s", "timeout": "2s"});
    config["log"] = json!({"allowed_one_in": 1});
    config
}

/// A service that logs to the end of a pipe.
fn with_pipe() -> (Service, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let folder = Folder::new();
    let config = config(&folder);
    (Service::start_with_log(writer, folder, &config), reader)
}

fn without_token() -> Ask {
    Ask::get(&format!("/{}", "a".repeat(400)))
}

/// Asks without a token, many times, on several connections at once.
async fn deny(service: &Service, times: usize) {
    let mut tasks = JoinSet::new();
    let ask = Arc::new(without_token());
    for _ in 0..8 {
        let (client, ask) = (Client::connect(service.addresses.grpc).await, Arc::clone(&ask));
        tasks.spawn(async move {
            for _ in 0..times / 8 {
                assert_eq!(client.ask(&ask).await.status, 401);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Everything still works: denials, allows, health, on new connections.
async fn assert_serves(service: &Service) {
    let client = Client::connect(service.addresses.grpc).await;
    let denied: Answer = client.ask(&without_token()).await;
    assert_eq!((denied.status, denied.reason.as_str()), (401, "missing_token"));
    assert!(client.ask(&Ask::get("/").bearer(&token("alice"))).await.allowed);
    let address = service.addresses.http.unwrap();
    assert_eq!(http(address, "GET", "/", None, "").unwrap().0, 401);
    assert_eq!(http(address, "GET", "/", Some(&token("alice")), "").unwrap().0, 200);
    for path in ["/livez", "/readyz"] {
        assert_eq!(service.admin("GET", path).unwrap().0, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_reader_holds_up_neither_requests_nor_the_end() {
    let (mut service, _unread) = with_pipe();
    // Several times what fits into a pipe.
    deny(&service, 1_000).await;
    assert_serves(&service).await;
    service.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_for_which_there_is_no_room_are_counted_and_told_of_once_the_reader_reads_on() {
    let (mut service, reader) = with_pipe();
    // More than the queue takes.
    deny(&service, 20_000).await;
    assert_serves(&service).await;
    let dropped = service.metric(DROPPED).unwrap();
    assert!(dropped > 0, "{dropped}");
    let objects = Arc::new(Mutex::new(Vec::<Value>::new()));
    let reading = Arc::clone(&objects);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            reading.lock().unwrap().push(serde_json::from_str(&line.unwrap()).unwrap());
        }
    });
    let tells = |object: &&Value| object.get("lines").is_some();
    // The end of the process waits for the log no longer than a second.
    eventually("the reader has caught up", || objects.lock().unwrap().iter().find(tells).map(drop));
    service.terminate();
    reader.join().unwrap();
    let objects = objects.lock().unwrap();
    let told: Vec<_> = objects.iter().filter(tells).collect();
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert!(told["lines"].as_u64().unwrap() >= dropped, "{told} of {dropped}");
    let is_last = |object: &Value| object["message"].as_str().unwrap_or("").starts_with("stopped");
    assert!(objects.iter().any(is_last), "what was logged at the end is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_whose_reader_is_gone_changes_no_answer() {
    let (mut service, reader) = with_pipe();
    drop(reader);
    assert_serves(&service).await;
    // Tasks that log on their own.
    service.folder.replace("issuer.secret", b"another secret of the tests, long enough for HS256");
    service.signal("HUP");
    eventually("the key was changed", || {
        let address = service.addresses.http.unwrap();
        let status = http(address, "GET", "/", Some(&token("alice")), "").unwrap().0;
        (status == 401).then_some(())
    });
    assert!(service.metric(DROPPED).unwrap() > 0);
    service.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_changes_no_answer() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let folder = Folder::new();
    let config = config(&folder);
    let mut service = Service::start_with_log(full, folder, &config);
    assert_serves(&service).await;
    assert!(service.metric(DROPPED).unwrap() > 0);
    service.terminate();
}

#[test]
fn an_error_ends_the_process_with_its_code_whether_it_can_be_told_or_not() {
    let folder = Folder::new();
    let mut config = config(&folder);
    config["grpc"]["listen"] = json!("192.0.2.1:1");
    let file = folder.write(&config);
    let (closed, writer) = std::io::pipe().unwrap();
    drop(closed);
    // A pipe that is full.
    let (_unread, stuffed) = std::io::pipe().unwrap();
    let mut filling = stuffed.try_clone().unwrap();
    let filled = std::thread::spawn(move || filling.write_all(&vec![b'x'; PIPE_BYTES]).unwrap());
    eventually("the pipe is full", || filled.is_finished().then_some(()));
    let full = File::options().write(true).open("/dev/full").unwrap();
    for stderr in [Stdio::from(writer), Stdio::from(stuffed), Stdio::from(full)] {
        let begin = Instant::now();
        let mut child = command()
            .args(["serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let status = eventually("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(1));
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_line_names_the_request_as_the_proxy_does() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    client.ask(&without_token().header("x-request-id", "6f1a-7")).await;
    client.ask(&without_token().header("x-request-id", "not an id")).await;
    drop(TcpStream::connect(service.addresses.grpc).unwrap());
    service.has_logged(2, r#""target":"decision""#);
    service.terminate();
    let log = service.log();
    let ids: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["target"] == "decision")
        .map(|mut line| line["request_id"].take())
        .collect();
    assert_eq!(ids, [json!("6f1a-7"), Value::Null], "{log}");
    assert!(log.contains("\"stopped"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_what_could_not_be_read_says_what_is_known() {
    let folder = Folder::new();
    let mut config = config(&folder);
    config["http"]["max_body_bytes"] = json!(10);
    config["grpc"]["max_message_bytes"] = json!(2_000);
    let mut service = Service::start(folder, &config);
    let address = service.addresses.http.unwrap();
    assert_eq!(http(address, "POST", "/upload", None, "far too large").unwrap().0, 413);
    let client = Client::connect(service.addresses.grpc).await;
    assert_eq!(client.ask(&Ask::get("/").header("x-long", &"a".repeat(3_000))).await.status, 413);
    service.has_logged(2, "request_too_large");
    service.terminate();
    let log = service.log();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["reason"] == "request_too_large")
        .collect();
    let [over_http, over_grpc] = lines.as_slice() else { panic!("{log}") };
    assert_eq!((&over_http["path"], &over_http["host"]), (&json!("/upload"), &json!("admin.test")));
    let detail = over_grpc["detail"].as_str().unwrap();
    assert!(detail.starts_with("message of 3"), "{detail}");
}
