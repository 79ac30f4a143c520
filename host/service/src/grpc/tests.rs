//! Tests of the gRPC edge on a real socket: what a client gets for good calls, for bad ones, and at
//! the end.

mod peers;

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use envoy_types::pb::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse,
    attribute_context::{self, HttpRequest},
    authorization_client::AuthorizationClient,
    check_response::HttpResponse,
};
use http::{HeaderMap, Request};
use portcullis_runtime::drain::{self, DeadTasks};
use portcullis_types::{
    attributes::Attributes,
    decision::{Allow, Decision, Reason, Verdict},
};
use prost::Message;
use tokio::{net::TcpStream, sync::Notify};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::*;

const LIMIT: usize = 4096;
const A_MINUTE: HumanDuration = HumanDuration::from_millis(60_000);
/// For tests that wait until it is over. Long enough for a busy machine to begin a connection.
const SOON: HumanDuration = HumanDuration::from_millis(3_000);

struct Edge {
    address: SocketAddr,
    readiness: Readiness,
    drain: Drain,
    _dead: DeadTasks,
}

async fn edge(authorizer: impl Authorize) -> Edge {
    edge_that_waits(A_MINUTE, authorizer).await
}

async fn edge_that_waits(read_timeout: HumanDuration, authorizer: impl Authorize) -> Edge {
    let config = GrpcConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_message_bytes: u32::try_from(LIMIT).unwrap(),
        read_timeout,
        reflection: true,
        ..GrpcConfig::default()
    };
    let bound = bind(&config).await.unwrap();
    let (address, readiness) = (bound.local_addr(), Readiness::default());
    let (drain, dead) = drain::pair();
    drain.spawn("grpc edge", bound.serve(Arc::new(authorizer), readiness.clone(), drain.clone()));
    Edge { address, readiness, drain, _dead: dead }
}

fn allow() -> Decision {
    Decision::new(Verdict::Allow(Allow::default()), Reason::Allowed)
}

fn allow_all(_: &Attributes, _: Option<Duration>) -> Decision {
    allow()
}

impl Edge {
    async fn channel(&self) -> Channel {
        let endpoint = format!("http://{}", self.address);
        Channel::from_shared(endpoint).unwrap().connect().await.unwrap()
    }

    async fn check(&self, request: CheckRequest) -> CheckResponse {
        let mut client = AuthorizationClient::new(self.channel().await);
        client.check(request).await.unwrap().into_inner()
    }

    /// Sends bytes where a message should be, and returns the response and the trailers.
    async fn send(&self, body: Vec<u8>, content_type: &str) -> (CheckResponse, HeaderMap) {
        let socket = TcpStream::connect(self.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
        let request = Request::post(format!("http://{}{CHECK}", self.address))
            .header("content-type", content_type)
            .body(())
            .unwrap();
        let (response, mut stream) = client.send_request(request, false).unwrap();
        let answered = async move {
            // The server may have answered before it has read everything, and then refuses more.
            let _ = stream.send_data(Bytes::from(body), true);
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            let mut bytes = Vec::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk.unwrap();
                body.flow_control().release_capacity(chunk.len()).unwrap();
                bytes.extend_from_slice(&chunk);
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            (CheckResponse::decode(&bytes[5..]).unwrap(), trailers)
        };
        tokio::select! {
            answered = answered => answered,
            ended = connection => panic!("the connection ended: {ended:?}"),
        }
    }
}

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

fn get(path: &str) -> CheckRequest {
    let http =
        HttpRequest { method: "GET".to_owned(), path: path.to_owned(), ..HttpRequest::default() };
    let request = attribute_context::Request { http: Some(http), ..Default::default() };
    let attributes = AttributeContext { request: Some(request), ..Default::default() };
    CheckRequest { attributes: Some(attributes) }
}

fn code(response: &CheckResponse) -> i32 {
    response.status.as_ref().unwrap().code
}

fn denied_status(response: &CheckResponse) -> i32 {
    match &response.http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied.status.as_ref().unwrap().code,
        other => panic!("{other:?}"),
    }
}

/// Waits until `checks` of them are inside at the same time; denies if that never happens.
fn together(checks: usize) -> impl Authorize {
    let (inside, changed) = (Mutex::new(0), Condvar::new());
    move |attributes: &Attributes, _: Option<Duration>| {
        if attributes.http.as_ref().is_some_and(|http| http.path == "/slow") {
            std::thread::sleep(Duration::from_millis(2));
            return allow();
        }
        let mut inside = inside.lock().unwrap();
        *inside += 1;
        changed.notify_all();
        let patience = Duration::from_secs(2);
        let waited = changed.wait_timeout_while(inside, patience, |inside| *inside < checks);
        if waited.unwrap().1.timed_out() { Decision::deny(Reason::InternalError) } else { allow() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_checks_of_one_connection_are_made_at_the_same_time() {
    // That lasts for a second after a slow one. On a busy machine it may be over.
    for _ in 0..10 {
        let edge = edge(together(2)).await;
        let mut client = AuthorizationClient::new(edge.channel().await);
        client.check(get("/slow")).await.unwrap();
        let mut other = client.clone();
        let (one, other) = tokio::join!(client.check(get("/a")), other.check(get("/b")));
        if [one, other].map(|answer| code(answer.unwrap().get_ref())) == [0, 0] {
            return;
        }
    }
    panic!("each time one of them waited for the other");
}

#[tokio::test]
async fn checks_that_come_together_are_all_answered() {
    let edge = edge(allow_all).await;
    let client = AuthorizationClient::new(edge.channel().await);
    let mut checks = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let mut client = client.clone();
        checks.spawn(async move { client.check(get("/")).await });
    }
    while let Some(answer) = checks.join_next().await {
        assert_eq!(code(answer.unwrap().unwrap().get_ref()), 0);
    }
}

#[tokio::test]
async fn a_check_is_answered_with_the_decision() {
    let edge = edge(|attributes: &Attributes, _: Option<Duration>| {
        match attributes.http.as_ref().map(|http| http.path.as_str()) {
            Some("/open") => allow(),
            _ => Decision::deny(Reason::MissingToken),
        }
    })
    .await;
    assert_eq!(code(&edge.check(get("/open")).await), 0);
    let denied = edge.check(get("/closed")).await;
    assert_eq!((code(&denied), denied_status(&denied)), (7, 401));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_message_is_a_deny_and_not_a_grpc_error() {
    let edge = edge(allow_all).await;
    let message = get("/").encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = |flag: u8, message: &[u8]| [&[flag], length.as_slice(), message].concat();
    let huge = [&[0, 0, 32, 0, 0], vec![0; 2 << 20].as_slice()].concat();
    let invalid_utf8 = b"\0\0\0\0\x0a\x0a\x08\x22\x06\x12\x04\x12\x02\xff\xff".to_vec();
    let grpc = "application/grpc";
    for (name, body, content_type, status) in [
        ("empty", vec![], grpc, 400),
        ("garbage", vec![0xff; 99], grpc, 400),
        ("truncated", framed(0, &message[..3]), grpc, 400),
        ("compressed", framed(1, &message), grpc, 400),
        ("two messages", [framed(0, &message), framed(0, &message)].concat(), grpc, 400),
        ("empty message", vec![0; 5], grpc, 400),
        ("invalid UTF-8", invalid_utf8, grpc, 400),
        ("JSON", framed(0, &message), "application/grpc+json", 400),
        ("no gRPC", b"{}".to_vec(), "application/json", 400),
        ("too large", framed(0, &vec![0; LIMIT * 2]), grpc, 413),
        ("far too large", huge, grpc, 413),
        ("a large promise", vec![0, 0x7f, 0xff, 0xff, 0xff], grpc, 413),
    ] {
        let (response, trailers) = edge.send(body, content_type).await;
        assert_eq!(trailers["grpc-status"], "0", "{name}");
        assert_eq!((code(&response), denied_status(&response)), (7, status), "{name}");
    }
    assert_eq!(code(&edge.check(get("/")).await), 0, "the next one is fine");
}

#[tokio::test]
async fn a_panic_is_a_deny_and_the_next_request_is_unharmed() {
    let panicked = AtomicBool::new(false);
    let edge = edge(move |_: &Attributes, _: Option<Duration>| {
        assert!(panicked.swap(true, SeqCst), "the first request");
        allow()
    })
    .await;
    assert_eq!(denied_status(&edge.check(get("/")).await), 500);
    assert_eq!(code(&edge.check(get("/")).await), 0);
}

#[tokio::test]
async fn a_message_that_never_comes_is_denied_in_time() {
    let edge = edge_that_waits(SOON, allow_all).await;
    let socket = TcpStream::connect(edge.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    let request = Request::post(format!("http://{}{CHECK}", edge.address))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, _open) = client.send_request(request, false).unwrap();
    let chunk = async { response.await.unwrap().into_body().data().await.unwrap().unwrap() };
    tokio::select! {
        chunk = chunk => {
            assert_eq!(denied_status(&CheckResponse::decode(&chunk[5..]).unwrap()), 400);
        }
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

#[tokio::test]
async fn the_callers_deadline_arrives() {
    let edge = edge(|_: &Attributes, deadline: Option<Duration>| match deadline {
        Some(left) if left <= Duration::from_mins(1) && left > Duration::from_secs(30) => allow(),
        _ => Decision::deny(Reason::PolicyTimeout),
    })
    .await;
    let mut request = tonic::Request::new(get("/"));
    request.set_timeout(Duration::from_mins(1));
    let mut client = AuthorizationClient::new(edge.channel().await);
    assert_eq!(code(client.check(request).await.unwrap().get_ref()), 0);
    assert_eq!(code(&edge.check(get("/")).await), 7, "no deadline, no time left to tell");
}

#[tokio::test]
async fn other_methods_do_not_exist() {
    let edge = edge(allow_all).await;
    let mut grpc = tonic::client::Grpc::new(edge.channel().await);
    grpc.ready().await.unwrap();
    let path = "/envoy.service.auth.v3.Authorization/Other".parse().unwrap();
    let codec = codec();
    let status = grpc.unary(tonic::Request::new(get("/")), path, codec).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

fn codec() -> tonic_prost::ProstCodec<CheckRequest, CheckResponse> {
    tonic_prost::ProstCodec::default()
}

#[tokio::test]
async fn health_says_what_readiness_says_until_the_drain() {
    let edge = edge(allow_all).await;
    let mut client = HealthClient::new(edge.channel().await);
    for service in ["", "envoy.service.auth.v3.Authorization"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        assert_eq!(client.check(request).await.unwrap().get_ref().status, 1);
    }
    let unknown = HealthCheckRequest { service: "other".to_owned() };
    assert_eq!(client.check(unknown).await.unwrap_err().code(), tonic::Code::NotFound);

    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut next = async || watch.next().await.map(|update| update.unwrap().status);
    assert_eq!(next().await, Some(1));
    let stale = edge.readiness.block("stale");
    assert_eq!(next().await, Some(2));
    drop(stale);
    assert_eq!(next().await, Some(1));
    let drained = edge.drain.drain(Duration::from_secs(5));
    let watched = async { (next().await, next().await) };
    // A watch that stayed open would hold up the drain.
    assert_eq!(tokio::join!(drained, watched), (0, (Some(2), None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_under_way_is_answered_while_draining_and_new_ones_are_refused() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (arriving, going) = (Arc::clone(&arrived), Arc::clone(&go));
    let edge = edge(move |_: &Attributes, _: Option<Duration>| {
        arriving.notify_one();
        while !going.load(SeqCst) {
            std::thread::yield_now();
        }
        allow()
    })
    .await;
    let answered = edge.check(get("/"));
    let drained = async {
        arrived.notified().await;
        let drained = edge.drain.drain(Duration::from_secs(20));
        tokio::pin!(drained);
        // Not done while the check is under way; then let it go.
        assert!(is_pending(&mut drained).await);
        go.store(true, SeqCst);
        drained.await
    };
    let (answered, unfinished) = tokio::join!(answered, drained);
    assert_eq!((code(&answered), unfinished), (0, 0));
    assert!(TcpStream::connect(edge.address).await.is_err());
}

async fn is_pending(future: &mut (impl Future<Output = usize> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(50), future).await.is_err()
}

#[tokio::test]
async fn reflection_names_the_service_and_describes_it() {
    let edge = edge(allow_all).await;
    let mut client = ServerReflectionClient::new(edge.channel().await);
    let ask = |message_request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let questions = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("envoy.service.auth.v3.CheckRequest".to_owned())),
        ask(MessageRequest::FileByFilename("envoy/config/core/v3/base.proto".to_owned())),
    ]);
    let mut answers = client.server_reflection_info(questions).await.unwrap().into_inner();
    let mut next = async || answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = next().await else { panic!() };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"envoy.service.auth.v3.Authorization"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    for _ in 0..2 {
        let MessageResponse::FileDescriptorResponse(_) = next().await else { panic!() };
    }
}

#[test]
fn an_unknown_key_is_refused_and_defaults_are_as_documented() {
    assert!(serde_json::from_str::<GrpcConfig>(r#"{"lissen": "0.0.0.0:1"}"#).is_err());
    assert_eq!(serde_json::from_str::<GrpcConfig>("{}").unwrap().listen.port(), 9191);
}
