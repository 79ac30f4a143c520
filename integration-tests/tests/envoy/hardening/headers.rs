//! Tests of request headers: underscores, headers that proxies set, repeated ones, bytes that are
//! not text, and headers that name another host.

use portcullis_integration_tests::{
    client::Request,
    envoy::EnvoyConfig,
    portcullis::{self, optional_route},
    token::{self, SUBJECT},
};
use serde_json::{Value, json};

use super::{Gate, Scene, everything, shipped, without};

/// An address that only a header has.
const FORGED: &str = "10.1.2.3";

#[tokio::test]
async fn underscores_in_header_names_are_refused_by_envoy() {
    let on = Scene::new(shipped).await;
    let off = Scene::new(without("common_http_protocol_options")).await;
    for name in ["x_user_id", "X-User_Id", "x_anything"] {
        on.refuse_without_check(Request::get("/").header(name, "root"), 400).await;
        let received = off.see(Request::get("/").header(name, "root")).await.received();
        assert_eq!(received.all(&name.to_lowercase()), ["root"]);
    }
}

#[tokio::test]
async fn portcullis_removes_or_refuses_identity_headers_with_underscores() {
    let config = portcullis::Config::new([everything(optional_route)]);
    let gate = Gate::with(&config, without("common_http_protocol_options")).await;
    let spellings = ["x_user_id", "X_USER_ID", "x-user_id", "x_auth_provider"];
    for name in spellings {
        for token in [None, Some(token::good())] {
            let request = Request::get("/").header(name, "root");
            let request = match &token {
                Some(token) => request.bearer(token),
                None => request,
            };
            let response = gate.send(request).await;
            if response.status == 400 {
                continue;
            }
            let received = super::Received::from_response(&response);
            let folded = |field: &str| field.replace('_', "-");
            let claimed = received.headers.iter().filter(|(field, _)| {
                ["x-user-id", "x-auth-provider"].contains(&folded(field).as_str())
            });
            let claimed: Vec<_> = claimed.map(|(field, _)| field.as_str()).collect();
            assert!(!claimed.iter().any(|field| field.contains('_')), "{name}: {claimed:?}");
            let user = if token.is_some() { vec![SUBJECT] } else { Vec::new() };
            assert_eq!(received.all("x-user-id"), user);
        }
    }
}

/// A client that poses as a proxy.
fn posing() -> Request {
    Request::get("/")
        .header("x-forwarded-for", FORGED)
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "mine")
        .header("x-envoy-external-address", FORGED)
        .header("x-envoy-original-path", "/elsewhere")
        .header("x-forwarded-client-cert", "By=spiffe://mine")
}

#[tokio::test]
async fn use_remote_address_trusts_the_connection_not_the_client() {
    let on = Scene::new(shipped).await.see(posing()).await;
    let received = on.received();
    assert_eq!(received.all("x-envoy-external-address"), ["127.0.0.1"]);
    assert_eq!(received.all("x-forwarded-proto"), ["http"]);
    assert_ne!(received.all("x-request-id"), ["mine"]);
    assert!(received.all("x-envoy-original-path").is_empty());
    // The address of the connection is the last one.
    assert!(received.all("x-forwarded-for")[0].starts_with(&format!("{FORGED},")));
    assert!(received.all("x-forwarded-client-cert").is_empty());

    let off = Scene::new(without("use_remote_address")).await.see(posing()).await;
    let received = off.received();
    assert_eq!(received.all("x-envoy-external-address"), [FORGED]);
    assert_eq!(received.all("x-forwarded-for"), [FORGED]);
    assert_eq!(received.all("x-forwarded-proto"), ["https"]);
    assert_eq!(received.all("x-request-id"), ["mine"]);
    assert_eq!(received.all("x-envoy-original-path"), ["/elsewhere"]);

    // Portcullis gets the address of the connection in both cases.
    for seen in [on, off] {
        assert!(seen.source().contains("127.0.0.1"), "{}", seen.source());
    }
}

#[tokio::test]
async fn trusted_hops_are_counted_from_the_end_of_x_forwarded_for() {
    let chain = || Request::get("/").header("x-forwarded-for", &format!("{FORGED}, 192.0.2.7"));
    let one = |envoy| shipped(envoy).with_connection_manager("xff_num_trusted_hops", json!(1));
    let (none, one) = (Scene::new(shipped).await, Scene::new(one).await);
    for (scene, address) in [(none, "127.0.0.1"), (one, "192.0.2.7")] {
        let received = scene.see(chain()).await.received();
        assert_eq!(received.all("x-envoy-external-address"), [address]);
    }
}

#[tokio::test]
async fn raw_headers_show_repeated_headers_and_binary_values() {
    let request = b"GET / HTTP/1.1\r\nHost: api.test\r\nx-a: 1\r\nx-a: 2\r\nx-b: acme\xff\r\n\r\n";
    let on = Scene::new(shipped).await;
    on.answer_to(request).await;
    let raw = |name: &str| {
        let map = on.stub.http().header_map.expect("raw headers");
        let named = map.headers.into_iter().filter(|header| header.key == name);
        named.map(|header| header.raw_value).collect::<Vec<_>>()
    };
    assert_eq!(raw("x-a"), [b"1", b"2"]);
    assert_eq!(raw("x-b"), [b"acme\xff"]);

    let joined = |envoy: EnvoyConfig| shipped(envoy).with("encode_raw_headers", Value::Null);
    let off = Scene::new(joined).await;
    off.answer_to(request).await;
    let headers = off.stub.http().headers;
    assert_eq!((headers["x-a"].as_str(), headers["x-b"].as_str()), ("1,2", "acme!"));
}

#[tokio::test]
async fn headers_with_another_host_do_not_reach_the_service() {
    let names = [
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-original-host",
    ];
    let request = names
        .into_iter()
        .fold(Request::get("/"), |request, name| request.header(name, "elsewhere.test"));
    let on = Scene::new(shipped).await.see(request.clone()).await.received();
    let keep = |envoy| shipped(envoy).with_route_config("request_headers_to_remove", json!([]));
    let off = Scene::new(keep).await.see(request).await.received();
    for name in names {
        assert!(on.all(name).is_empty(), "{name}");
        assert_eq!(off.all(name), ["elsewhere.test"]);
    }
}
