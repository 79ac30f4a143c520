//! Tests of tokens in cookies, queries and other headers through Envoy: found, refused where they
//! have two readings, and removed on the way.

use portcullis_integration_tests::{
    client::Request,
    envoy::{self, Envoy},
    portcullis::{Config, Portcullis, token_route},
    token::{Claims, SUBJECT},
    upstream::{Received, Upstream},
};
use serde_json::{Value, json};

use super::{Gate, http_edge::names};

fn config() -> Config {
    let with = |name: &str, path: &str, forward: bool, places: Value| {
        let mut route = token_route(name, &[path]);
        route["token_from"] = places;
        route["forward_token"] = json!(forward);
        route
    };
    let all = json!([
        {"header": "authorization"}, {"header": "x-forwarded-access-token"},
        {"cookie": "session"}, {"query": "access_token"},
    ]);
    let no_query = json!([{"header": "x-forwarded-access-token"}, {"cookie": "session"}]);
    Config::new([
        with("removes", "/removes", false, all.clone()),
        with("passes", "/passes", true, all),
        with("cookies", "/cookies", false, no_query),
    ])
}

#[tokio::test]
async fn a_token_in_any_listed_place_passes_and_ends_at_portcullis_if_so_configured() {
    let gate = Gate::new(&config()).await;
    let token = Claims::default().hs256();
    for (path, is_kept) in [("/removes", false), ("/passes", true)] {
        let cookie = format!("a=1; session={token}; b=2");
        let target = format!("{path}?a=1&access_token={token}&b=2");
        let shorter = format!("{path}?a=1&b=2");
        for (request, target, kept) in [
            (Request::get(path).header("Cookie", &cookie), path, ("cookie", "a=1; b=2")),
            (Request::get(path).header("X-Forwarded-Access-Token", &token), path, ("", "")),
            (Request::get(&target), shorter.as_str(), ("", "")),
            (Request::get(path).bearer(&token), path, ("", "")),
        ] {
            let received = gate.pass(request).await;
            assert_eq!(received.all("x-user-id"), [SUBJECT], "{path}");
            let shown = format!("{received:?}");
            assert_eq!(shown.contains(&token), is_kept, "{shown}");
            if !is_kept {
                assert_eq!(received.target, target);
                let all = received.all(kept.0);
                assert!(kept.0.is_empty() || all == [kept.1], "{all:?}");
            }
        }
    }
    assert!(!gate.portcullis.log().contains(&token), "a token is in the log");
}

#[tokio::test]
async fn a_token_with_two_readings_is_refused() {
    let gate = Gate::new(&config()).await;
    let (one, other) = (Claims::default().hs256(), Claims::default().hs256());
    let get = || Request::get("/passes");
    for request in [
        get().header("Cookie", &format!("session={one}")).bearer(&other),
        get().header("Cookie", &format!("session={one}; session={other}")),
        get()
            .header("Cookie", &format!("session={one}"))
            .header("Cookie", &format!("session={other}")),
        get().header("X-Forwarded-Access-Token", &one).header("X-Forwarded-Access-Token", &other),
        Request::get(&format!("/passes?access_token={one}&access%5ftoken={other}")),
        Request::get(&format!("/passes?access_token={one};access_token={other}")),
    ] {
        let refused = gate.refuse(request, 401).await;
        assert_eq!(refused.text(), "invalid token");
    }
    let revoked = Claims::default();
    gate.portcullis.admin().revoke(revoked.jti()).await;
    let in_cookie = get().header("Cookie", &format!("session={}", revoked.hs256()));
    gate.refuse(in_cookie, 403).await;
}

#[tokio::test]
async fn tokens_are_found_and_removed_over_http_too() {
    let portcullis = Portcullis::start(&config()).await;
    let upstream = Upstream::start().await;
    let asked = names(&["authorization", "cookie", "x-forwarded-access-token"]);
    let answered = names(&["x-user-id", "x-auth-provider", "x-roles", "cookie"]);
    let listing = |asked: Value| {
        envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address())
            .with("allowed_headers", asked)
            .with_http_service(
                "authorization_response",
                json!({"allowed_upstream_headers": answered.clone()}),
            )
    };
    let envoy = Envoy::start(&listing(asked)).await;
    let token = Claims::default().hs256();
    let cookie = format!("a=1; session={token}");
    let both = Request::get("/cookies")
        .header("Cookie", &cookie)
        .header("X-Forwarded-Access-Token", &token)
        .header("X_Forwarded_Access_Token", "other");
    let received = Received::from_response(&both.send(envoy.http()).await);
    assert_eq!(received.all("x-user-id"), [SUBJECT]);
    assert_eq!(received.all("cookie"), ["a=1"]);
    let shown = format!("{received:?}");
    assert!(!shown.contains(&token) && !shown.contains("forwarded_access"), "{shown}");

    // Over HTTP no parameter of a query can be removed, so such a request does not pass.
    let in_query = Request::get(&format!("/removes?access_token={token}"));
    assert_eq!(in_query.send(envoy.http()).await.status, 403);
    let kept = Request::get(&format!("/passes?access_token={token}"));
    assert_eq!(kept.send(envoy.http()).await.status, 200);

    // An Envoy that does not show cookies passes none on.
    let blind = Envoy::start(&listing(names(&["x-forwarded-access-token"]))).await;
    let received = Received::from_response(&both.send(blind.http()).await);
    assert!(!format!("{received:?}").contains(&token), "{received:?}");
}
