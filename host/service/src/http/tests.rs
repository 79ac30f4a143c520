//! Tests of the HTTP edge on a real socket: what each proxy asks, what a client could slip in, what
//! comes back.

mod headers;

use std::sync::{Mutex, PoisonError};

use portcullis_runtime::drain::{self, DeadTasks};
use portcullis_types::{
    attributes::{Attributes, HttpAttributes},
    decision::{Allow, Deny, Header, Reason, Verdict},
    duration::HumanDuration,
};
use proptest::prelude::*;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

struct Edge {
    address: SocketAddr,
    drain: Drain,
    _dead: DeadTasks,
}

async fn edge(config: HttpConfig, authorizer: impl Authorize) -> Edge {
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bound = bind(&HttpConfig { listen, ..config }).await.unwrap().unwrap();
    let address = bound.local_addr();
    let (drain, dead) = drain::pair();
    drain.spawn("http edge", bound.serve(Arc::new(authorizer), drain.clone()));
    Edge { address, drain, _dead: dead }
}

impl Edge {
    /// Sends bytes, and returns everything that comes back until the connection ends.
    async fn send(&self, request: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        socket.read_to_end(&mut response).await.unwrap();
        String::from_utf8(response).unwrap()
    }
}

fn allow() -> Decision {
    Decision::new(Verdict::Allow(Allow::default()), Reason::Allowed)
}

fn mode(request_from: RequestFrom) -> HttpConfig {
    HttpConfig { request_from, ..HttpConfig::default() }
}

/// What the authorizer is asked for `head` (request line and headers), or the status of a refusal.
async fn asked(config: HttpConfig, head: &str, body: &str) -> Result<HttpAttributes, String> {
    let seen = Arc::new(Mutex::new(None));
    let seeing = Arc::clone(&seen);
    let edge = edge(config, move |attributes: &Attributes, _: Option<Duration>| {
        *seeing.lock().unwrap() = Some(attributes.clone());
        allow()
    })
    .await;
    let response = edge.send(&format!("{head}\r\nConnection: close\r\n\r\n{body}")).await;
    let attributes = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    match attributes {
        Some(attributes) => {
            assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
            assert_eq!(attributes.source.address, "127.0.0.1");
            Ok(attributes.http.unwrap())
        }
        None => Err(response.split(' ').nth(1).unwrap().to_owned()),
    }
}

async fn asked_line(config: HttpConfig, head: &str) -> Result<[String; 4], String> {
    let http = asked(config, head, "").await?;
    Ok([http.method, http.scheme, http.host, http.path])
}

fn line(method: &str, scheme: &str, host: &str, path: &str) -> [String; 4] {
    [method, scheme, host, path].map(str::to_owned)
}

fn malformed<T>() -> Result<T, String> {
    Err("400".to_owned())
}

#[tokio::test]
async fn envoy_asks_with_the_request_itself() {
    let config = HttpConfig {
        path_prefix: PathPrefix::try_from("/check".to_owned()).unwrap(),
        ..HttpConfig::default()
    };
    let head = "POST /check/a%2Fb?x=1 HTTP/1.1\r\nHost: shop.example\r\nX-A: b\r\n\
                Content-Length: 2\r\nX-Envoy-Auth-Partial-Body: true\r\n\
                X-Forwarded-Uri: /spoofed\r\nX-Forwarded-Proto: https\r\nX-Original-Url: h://x/y";
    let http = asked(config.clone(), head, "hi").await.unwrap();
    assert_eq!(
        [&*http.method, &*http.scheme, &*http.host, &*http.path],
        ["POST", "http", "shop.example", "/a%2Fb?x=1"]
    );
    assert_eq!(http.headers.first("x-a"), Some("b"));
    assert_eq!(http.headers.first("host"), None);
    let body = http.body.unwrap();
    assert_eq!((body.bytes.as_slice(), body.truncated), (b"hi".as_slice(), true));
    for path in ["/other", "/check", "/checkout", "*"] {
        let head = format!("GET {path} HTTP/1.1\r\nHost: a");
        assert_eq!(asked_line(config.clone(), &head).await, malformed(), "{path}");
    }
}

#[tokio::test]
async fn two_authorization_headers_stay_two() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b";
    let http = asked(HttpConfig::default(), head, "").await.unwrap();
    assert_eq!(http.headers.all("authorization").count(), 2);
    assert!(http.body.is_none());
}

#[tokio::test]
async fn a_body_over_the_limit_is_denied() {
    let config = HttpConfig { max_body_bytes: 4, ..HttpConfig::default() };
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5";
    assert_eq!(asked(config, head, "12345").await.unwrap_err(), "413");
}

#[tokio::test]
async fn traefik_and_caddy_ask_with_forwarded_headers() {
    let config = mode(RequestFrom::XForwarded);
    let ask = async |headers: &str| {
        let head = format!("GET /auth HTTP/1.1\r\nHost: portcullis\r\n{headers}");
        asked_line(config.clone(), &head).await
    };
    let good = "X-Forwarded-Method: DELETE\r\nX-Forwarded-Host: shop.example\r\n\
                X-Forwarded-Uri: /a?b=c,d";
    let https = format!("{good}\r\nX-Forwarded-Proto: https\r\nX-Original-Url: http://x/y");
    assert_eq!(ask(&https).await.unwrap(), line("DELETE", "https", "shop.example", "/a?b=c,d"));
    let socket = format!("{good}\r\nX-Forwarded-Proto: wss");
    assert_eq!(ask(&socket).await.unwrap(), line("DELETE", "https", "shop.example", "/a?b=c,d"));
    for bad in [
        "X-Original-Uri: /a\r\nX-Original-Method: GET",
        "X-Forwarded-Method: GET\r\nX-Forwarded-Host: a",
        "X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /a",
        "X-Forwarded-Host: a\r\nX-Forwarded-Uri: /a",
        &format!("{good}\r\nX-Forwarded-Uri: /public"),
        &format!("{good}\r\nX-Forwarded-Proto: https, http"),
        &good.replace("shop.example", "shop.example, evil.example"),
        &good.replace("DELETE", "DELETE, GET"),
    ] {
        assert_eq!(ask(bad).await, malformed(), "{bad}");
    }
}

#[tokio::test]
async fn nginx_asks_with_original_headers_in_either_way() {
    let config = mode(RequestFrom::XOriginal);
    let ask = async |headers: &str| {
        let head = format!("GET /auth HTTP/1.1\r\nHost: shop.example\r\n{headers}");
        asked_line(config.clone(), &head).await
    };
    let method = "X-Original-Method: PUT";
    let uri = "X-Original-URI: /a?b=c";
    let url = "X-Original-URL: https://shop.example/a?b=c";
    assert_eq!(
        ask(&format!("{method}\r\n{uri}")).await.unwrap(),
        line("PUT", "http", "shop.example", "/a?b=c")
    );
    let expected = line("PUT", "https", "shop.example", "/a?b=c");
    assert_eq!(ask(&format!("{method}\r\n{url}")).await.unwrap(), expected);
    assert_eq!(ask(&format!("{method}\r\n{url}\r\n{uri}")).await.unwrap(), expected);
    for bad in [
        method.to_owned(),
        uri.to_owned(),
        format!("{method}\r\n{uri}\r\nX-Original-URL: https://shop.example/public"),
        format!("{method}\r\n{uri}\r\nX-Original-URL: https://other.example/a?b=c"),
        format!("{method}\r\n{uri}\r\nX-Original-URI: /public"),
        format!("{method}\r\nX-Original-URL: /a"),
        format!("{method}\r\nX-Original-URL: ftp://shop.example/a"),
        format!("{method}\r\nX-Forwarded-Uri: /a"),
    ] {
        assert_eq!(ask(&bad).await, malformed(), "{bad}");
    }
}

async fn answered(decision: Decision) -> String {
    let edge =
        edge(HttpConfig::default(), move |_: &Attributes, _: Option<Duration>| decision.clone());
    edge.await.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await
}

fn written(decision: Decision, proxy: RequestFrom) -> Response<Full<Bytes>> {
    response::response(decision, proxy, &RateLimitedLog::default()).unwrap()
}

/// How much time the authorizer is given, when asked with these headers, each on its line.
async fn given(config: HttpConfig, headers: &str) -> Duration {
    let seen = Arc::new(Mutex::new(None));
    let seeing = Arc::clone(&seen);
    let edge = edge(config, move |_: &Attributes, deadline: Option<Duration>| {
        *seeing.lock().unwrap() = deadline;
        allow()
    })
    .await;
    edge.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n")).await;
    let given = seen.lock().unwrap().take();
    given.expect("every request has a deadline")
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}

#[tokio::test]
async fn an_allow_sets_and_removes_headers() {
    let allow = Allow {
        set_request_headers: vec![header("x-user-id", "u1")],
        remove_request_headers: vec!["x-a".to_owned(), "x-b".to_owned()],
        response_headers: vec![
            header("set-cookie", "a=1"),
            header("set-cookie", "b=2"),
            header("content-length", "99"),
        ],
        ..Allow::default()
    };
    let response = answered(Decision::new(Verdict::Allow(allow), Reason::Allowed)).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    for expected in [
        "\r\nx-user-id: u1\r\n",
        "\r\nx-envoy-auth-headers-to-remove: x-a,x-b\r\n",
        "\r\nset-cookie: a=1\r\n",
        "\r\nset-cookie: b=2\r\n",
        "\r\ncontent-length: 0\r\n",
    ] {
        assert!(response.contains(expected), "{expected}: {response}");
    }
}

#[test]
fn connections_last_longer_than_proxies_keep_them() {
    let hour = Duration::from_hours(1);
    assert!(HttpConfig::default().idle_timeout.get() > hour, "Envoy's idle_timeout");
}

#[tokio::test]
async fn a_deny_has_its_status_its_body_and_its_headers() {
    let response = answered(Decision::deny(Reason::MissingToken)).await;
    assert!(response.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{response}");
    assert!(response.contains("\r\nwww-authenticate: Bearer\r\n"), "{response}");
    assert!(response.contains("\r\ncontent-type: text/plain; charset=utf-8\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nmissing token"), "{response}");
}

#[tokio::test]
async fn what_cannot_be_said_over_http_is_denied() {
    let query = Allow { remove_query_parameters: vec!["a".to_owned()], ..Allow::default() };
    let broken = Allow { set_request_headers: vec![header("x", "a\r\nb: c")], ..Allow::default() };
    for allow in [query, broken] {
        let response = answered(Decision::new(Verdict::Allow(allow), Reason::Allowed)).await;
        assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    }
}

#[tokio::test]
async fn a_fault_is_403_for_envoy_and_5xx_for_the_others() {
    for reason in [Reason::NotReady, Reason::PolicyTimeout, Reason::InternalError] {
        let response = answered(Decision::deny(reason)).await;
        assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
        assert!(response.ends_with(reason.message()), "{response}");
        for proxy in [RequestFrom::XForwarded, RequestFrom::XOriginal] {
            let response = written(Decision::deny(reason), proxy);
            assert_eq!(response.status(), reason.status(), "{proxy:?}");
        }
    }
    assert_eq!(response::last_resort(RequestFrom::Envoy).status(), 403);
    assert_eq!(response::last_resort(RequestFrom::XOriginal).status(), 500);
}

#[tokio::test]
async fn the_pipeline_learns_how_long_the_proxy_waits() {
    let timeout = HumanDuration::from_millis(600_000);
    let config = HttpConfig { timeout, ..HttpConfig::default() };
    let configured = given(config.clone(), "").await;
    assert!((Duration::from_secs(500)..=timeout.get()).contains(&configured), "{configured:?}");
    let time = given(config, "X-Envoy-Expected-Rq-Timeout-Ms: 60000\r\n").await;
    assert!((Duration::from_secs(30)..=Duration::from_mins(1)).contains(&time), "{time:?}");
}

#[tokio::test]
async fn a_body_that_is_late_is_refused_while_envoy_waits() {
    // Envoy waits for two seconds, the test for twenty, and the edge on its own for a minute.
    let config =
        HttpConfig { timeout: HumanDuration::from_millis(60_000), ..HttpConfig::default() };
    let edge = edge(config, |_: &Attributes, _: Option<Duration>| allow()).await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\
                X-Envoy-Expected-Rq-Timeout-Ms: 2000\r\n\r\n";
    let response = tokio::time::timeout(Duration::from_secs(20), edge.send(head)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
}

#[tokio::test]
async fn a_grpc_timeout_and_a_panic_do_not_turn_into_200() {
    let panics = |_: &Attributes, _: Option<Duration>| panic!("boom");
    let edge = edge(HttpConfig::default(), panics).await;
    let request = "GET / HTTP/1.1\r\nHost: a\r\nGrpc-Timeout: 1n\r\nConnection: close\r\n\r\n";
    assert!(edge.send(request).await.starts_with("HTTP/1.1 403 "));
    assert!(edge.send("garbage\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn draining_closes_idle_connections_and_the_port() {
    let edge = edge(HttpConfig::default(), |_: &Attributes, _: Option<Duration>| allow()).await;
    let mut idle = TcpStream::connect(edge.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    assert_eq!(edge.drain.drain(Duration::from_secs(5)).await, 0);
    assert_eq!(idle.read(&mut [0; 1024]).await.unwrap(), 0);
    assert!(TcpStream::connect(edge.address).await.is_err());
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let idle_timeout = HumanDuration::from_millis(50);
    let config = HttpConfig { idle_timeout, ..HttpConfig::default() };
    let edge = edge(config, |_: &Attributes, _: Option<Duration>| allow()).await;
    let mut silent = TcpStream::connect(edge.address).await.unwrap();
    let closed = async {
        // Whatever is sent at the end, it ends.
        while silent.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
    };
    tokio::time::timeout(Duration::from_secs(5), closed).await.unwrap();
}

#[tokio::test]
async fn without_an_address_there_is_no_edge() {
    assert!(bind(&HttpConfig::default()).await.unwrap().is_none());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for bad in [
        r#"{"path_prefix": "check"}"#,
        r#"{"path_prefix": "/a?b"}"#,
        r#"{"path_prefix": "/a#b"}"#,
        r#"{"path_prefix": "/a b"}"#,
        r#"{"path_prefix": "/a "}"#,
        r#"{"path_prefix": "/é"}"#,
        r#"{"request_from": "nginx"}"#,
        r#"{"a": 1}"#,
        r#"{"timeout": "0s"}"#,
        r#"{"idle_timeout": "0s"}"#,
    ] {
        assert!(serde_json::from_str::<HttpConfig>(bad).is_err(), "{bad}");
    }
    for (unused, key) in [
        (json!({"proxy_overwrites": ["x-user-id"]}), "http.proxy_overwrites"),
        (json!({"request_from": "x-original", "path_prefix": "/a"}), "http.path_prefix"),
        (json!({"request_from": "x-forwarded", "max_body_bytes": 1}), "http.max_body_bytes"),
    ] {
        let config: HttpConfig = serde_json::from_value(unused.clone()).unwrap();
        assert_eq!(config.check_written(&unused).unwrap_err().key, key);
    }
    assert!(serde_json::from_str::<HttpConfig>(r#"{"proxy_overwrites": ["X-User-Id"]}"#).is_err());
    let config: HttpConfig = serde_json::from_str(r#"{"request_from": "x-original"}"#).unwrap();
    assert_eq!(config.request_from, RequestFrom::XOriginal);
}

proptest! {
    #[test]
    fn no_deny_has_a_status_that_means_allow(status: u16, body in ".{0,20}") {
        for proxy in [RequestFrom::Envoy, RequestFrom::XForwarded, RequestFrom::XOriginal] {
            let deny = Deny { status, body: body.clone(), headers: vec![], metadata: vec![] };
            let decision = Decision::new(Verdict::Deny(deny), Reason::PolicyDenied);
            let status = written(decision, proxy).status();
            prop_assert_ne!(status, 200);
            let is_envoy = proxy == RequestFrom::Envoy;
            prop_assert!(is_envoy || !status.is_success());
            // An Envoy that fails open lets pass what is answered so.
            prop_assert!(!is_envoy || !status.is_server_error());
            prop_assert!(!status.is_informational());
        }
    }
}
