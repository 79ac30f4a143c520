//! Tests of header names over HTTP: those of a policy beside those of the host, those of a client,
//! and how many.

use std::fmt::Write as _;

use super::*;

#[tokio::test]
async fn a_response_header_under_the_name_of_a_request_header_that_changes_is_refused() {
    let allow = |response: &str| Allow {
        set_request_headers: vec![header("x-user-id", "u1")],
        remove_request_headers: vec!["x-roles".to_owned()],
        response_headers: vec![header(response, "admin")],
        ..Allow::default()
    };
    for name in [
        "x-user-id",
        "X_User_Id",
        "x-roles",
        "x_roles",
        "x-envoy-auth-headers-to-remove",
        "X-Envoy-Auth-Partial-Body",
        "x_envoy_auth_headers_to_remove",
    ] {
        let response = answered(Decision::new(Verdict::Allow(allow(name)), Reason::Allowed)).await;
        assert!(response.starts_with("HTTP/1.1 403 "), "{name}: {response}");
        assert!(!response.contains("admin"), "{name}: {response}");
    }
    for set in [vec![], vec!["x-roles".to_owned()]] {
        let allow = Allow {
            set_request_headers: vec![header("x-envoy-auth-headers-to-remove", "x-user-id")],
            remove_request_headers: set,
            ..Allow::default()
        };
        let response = answered(Decision::new(Verdict::Allow(allow), Reason::Allowed)).await;
        assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    }
    let headers = vec![header("x-envoy-auth-headers-to-remove", "x-user-id")];
    let deny = Deny { status: 404, body: String::new(), headers, metadata: vec![] };
    let response = answered(Decision::new(Verdict::Deny(deny), Reason::PolicyDenied)).await;
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
    assert!(!response.contains("x-envoy-auth"), "{response}");
}

/// So many headers, each with a value of so many bytes.
fn many(count: usize, bytes: usize) -> Vec<Header> {
    (0..count).map(|number| header(&format!("x-{number}"), &"a".repeat(bytes))).collect()
}

#[tokio::test]
async fn a_deny_that_envoy_would_not_read_is_answered_without_its_headers() {
    for (headers, is_whole) in
        [(many(80, 1), true), (many(90, 1), true), (many(91, 1), false), (many(256, 1), false)]
            .into_iter()
            .chain([(many(10, 5_900), true), (many(10, 6_000), false), (many(1, 60_000), false)])
    {
        let deny = Deny { status: 404, body: "gone".to_owned(), headers, metadata: vec![] };
        let response = answered(Decision::new(Verdict::Deny(deny), Reason::PolicyDenied)).await;
        assert!(response.starts_with("HTTP/1.1 404 "), "{response}");
        assert!(response.ends_with("\r\n\r\ngone"), "{response}");
        assert_eq!(response.contains("\r\nx-0: "), is_whole, "{}", response.len());
        assert!(response.lines().count() < 100, "{response}");
        assert!(response.len() < 60 * 1024, "{}", response.len());
    }
}

#[tokio::test]
async fn an_allow_that_envoy_would_not_read_is_denied() {
    let allow = |set, response, removed: usize| {
        let allow = Allow {
            set_request_headers: many(set, 1),
            response_headers: many(response, 1)
                .into_iter()
                .map(|own| header(&own.name.replace("x-", "y-"), &own.value))
                .collect(),
            remove_request_headers: (0..removed).map(|number| format!("z-{number}")).collect(),
            ..Allow::default()
        };
        Decision::new(Verdict::Allow(allow), Reason::Allowed)
    };
    for (decision, status) in [
        // The names to remove are one header.
        (allow(45, 44, 1_000), 200),
        (allow(45, 45, 0), 200),
        (allow(45, 45, 1), 403),
        (allow(0, 91, 0), 403),
        (allow(100, 100, 0), 403),
        (allow(0, 0, 10_000), 403),
    ] {
        let response = answered(decision).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {response}");
        assert!(response.lines().count() < 100, "{response}");
        assert!(response.len() < 60 * 1024, "{}", response.len());
    }
}

/// Whether a request with these headers passes, where a token names `u1` and no roles.
async fn passes(config: HttpConfig, headers: &str) -> bool {
    let edge = edge(config, |_: &Attributes, _: Option<Duration>| {
        let allow = Allow {
            set_request_headers: vec![header("x-user-id", "u1")],
            remove_request_headers: vec!["x-roles".to_owned()],
            ..Allow::default()
        };
        Decision::new(Verdict::Allow(allow), Reason::Allowed)
    })
    .await;
    let head = "GET /auth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
                X-Forwarded-Method: GET\r\nX-Forwarded-Host: a\r\nX-Forwarded-Uri: /\r\n\
                X-Original-Method: GET\r\nX-Original-Uri: /\r\n";
    let response = edge.send(&format!("{head}{headers}\r\n")).await;
    match response.split(' ').nth(1).unwrap() {
        "200" => assert!(response.contains("x-user-id: u1"), "{response}"),
        status => assert_eq!(status, "400", "{response}"),
    }
    response.starts_with("HTTP/1.1 200 ")
}

#[tokio::test]
async fn a_header_of_the_clients_that_a_proxy_would_leave_is_refused() {
    for proxy in [RequestFrom::XForwarded, RequestFrom::XOriginal] {
        assert!(passes(mode(proxy), "X-Other: a\r\n").await, "{proxy:?}");
        for forged in ["X-User-Id: root", "x_user_id: root", "X-Roles: admin", "X-Roles_: a"] {
            let is_other = forged.starts_with("X-Roles_");
            let passes = passes(mode(proxy), &format!("{forged}\r\n")).await;
            assert_eq!(passes, is_other, "{proxy:?} {forged}");
        }
        let proxy_overwrites = vec!["x-user-id".to_owned()];
        let config = HttpConfig { proxy_overwrites, ..mode(proxy) };
        assert!(passes(config.clone(), "X-User-Id: root\r\n").await, "{proxy:?}");
        assert!(!passes(config.clone(), "x_user_id: root\r\n").await, "{proxy:?}");
        assert!(!passes(config, "X-User-Id: root\r\nX-Roles: admin\r\n").await, "{proxy:?}");
    }
    // Envoy is told.
    let forged = "X-User-Id: root\r\nX-Roles: admin\r\n";
    assert!(passes(mode(RequestFrom::Envoy), forged).await);
}

#[tokio::test]
async fn headers_that_describe_the_request_are_not_the_clients() {
    let head = "GET /auth HTTP/1.1\r\nHost: a\r\nX-Forwarded-Method: GET\r\n\
                X-Forwarded-Host: a\r\nX-Forwarded-Uri: /\r\nX-Forwarded-For: 192.0.2.1\r\n\
                X-Original-Method: GET\r\nX-Original-Uri: /";
    for (proxy, own, other) in [
        (RequestFrom::XForwarded, "x-forwarded-uri", "x-original-uri"),
        (RequestFrom::XOriginal, "x-original-uri", "x-forwarded-uri"),
    ] {
        let headers = asked(mode(proxy), head, "").await.unwrap().headers;
        assert_eq!(headers.first(own), None, "{proxy:?}");
        assert_eq!(headers.first(other), Some("/"), "{proxy:?}");
        assert_eq!(headers.first("x-forwarded-for"), Some("192.0.2.1"), "{proxy:?}");
    }
}

#[tokio::test]
async fn as_many_headers_as_envoy_lets_through_are_decided_on() {
    let mut head = "GET / HTTP/1.1\r\nHost: a".to_owned();
    for number in 0..120 {
        let _ = write!(head, "\r\nX-{number}: a");
    }
    let http = asked(HttpConfig::default(), &head, "").await.unwrap();
    assert_eq!(http.headers.first("x-119"), Some("a"));
}
