//! Tests of Envoys that check over HTTP, as Istio's `envoyExtAuthzHttp` configures them.

use portcullis_integration_tests::{
    client::Request,
    envoy::{self, Envoy},
    eventually, places,
    portcullis::{Config, Portcullis, public_route, token_route},
    token::{Claims, PROVIDER, SUBJECT},
    upstream::{Received, Upstream},
};
use serde_json::{Value, json};

/// Header names as Envoy's configuration lists them.
pub(super) fn names(names: &[&str]) -> Value {
    let patterns: Vec<_> = names.iter().map(|name| json!({"exact": name})).collect();
    json!({"patterns": patterns})
}

/// The headers that an operator must list: Envoy sends and accepts none by default.
fn listing(config: envoy::EnvoyConfig) -> envoy::EnvoyConfig {
    let asked = names(&[
        "authorization",
        "origin",
        "access-control-request-method",
        "access-control-request-headers",
        "cookie",
        "x-http-method-override",
    ]);
    let answered = names(&["x-user-id", "x-auth-provider", "x-roles"]);
    config
        .with("allowed_headers", asked)
        .with_http_service("authorization_response", json!({"allowed_upstream_headers": answered}))
}

fn routes() -> Config {
    let routes = [token_route("api", &["/api/*"]), public_route("public", &["/public"])];
    Config::new(routes)
}

async fn start(portcullis: &Portcullis, prefix: &str) -> (Envoy, Upstream) {
    let upstream = Upstream::start().await;
    let config =
        listing(envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address()))
            .with_http_service("path_prefix", json!(prefix));
    (Envoy::start(&config).await, upstream)
}

#[tokio::test]
async fn the_same_decisions_are_made_over_http() {
    let portcullis = Portcullis::start(&routes()).await;
    let (envoy, upstream) = start(&portcullis, "").await;
    let claims = Claims::default();
    let request = Request::get("/api/a?b=c").bearer(&claims.hs256()).header("x-user-id", "spoofed");

    let received = Received::from_response(&request.send(envoy.http()).await);
    assert_eq!(received.target, "/api/a?b=c");
    assert_eq!(received.all("x-user-id"), [SUBJECT]);
    assert_eq!(received.all("x-auth-provider"), [PROVIDER]);

    let refused = Request::get("/api/a").send(envoy.http()).await;
    assert_eq!((refused.status, refused.text().as_str()), (401, "missing token"));
    assert_eq!(refused.all("www-authenticate"), ["Bearer"]);

    portcullis.admin().revoke(claims.jti()).await;
    let refused = request.send(envoy.http()).await;
    assert_eq!((refused.status, refused.text().as_str()), (403, "token revoked"));
    assert_eq!(upstream.requests(), 1);
}

/// Sends Portcullis each name in which a server could fold a character, as documented.
fn showing_spellings(config: envoy::EnvoyConfig) -> envoy::EnvoyConfig {
    let folded = json!({"safe_regex": {"regex": "[^:]*[^a-z0-9:-][^:]*"}});
    listing(config).with("allowed_headers", json!({"patterns": [folded]}))
}

/// Other spellings of `x-user-id` and of an override header, and whether Portcullis expects them
/// where none is sent.
const SPELLINGS: [(&str, bool); 10] = [
    ("x_user_id", true),
    ("x.user.id", true),
    ("X.User.Id", true),
    ("x_user-id", true),
    ("x-user.id", true),
    ("x.http.method.override", true),
    ("x-http_method.override", true),
    ("x!user-id", false),
    ("x~user|id", false),
    ("x!http-method-override", false),
];

#[tokio::test]
async fn other_spellings_of_identity_headers_are_removed_over_http() {
    let portcullis = Portcullis::start(&routes()).await;
    let upstream = Upstream::start().await;
    let http = envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address());
    let shown = Envoy::start(&showing_spellings(http.clone())).await;
    let unseen = Envoy::start(&listing(http)).await;
    let claims = Claims::default();
    for (name, is_expected) in SPELLINGS {
        let request = Request::get("/api/a")
            .bearer(&claims.hs256())
            .header(name, "root")
            .header("x.other", "kept");
        let received = Received::from_response(&request.clone().send(shown.http()).await);
        let name = name.to_lowercase();
        assert!(received.all(&name).is_empty(), "{name}");
        assert_eq!(received.all("x-user-id"), [SUBJECT], "{name}");
        assert_eq!(received.all("x.other"), ["kept"], "{name}");
        let received = Received::from_response(&request.send(unseen.http()).await);
        assert_eq!(received.all(&name).is_empty(), is_expected, "{name} unseen");
    }
}

#[tokio::test]
async fn methods_other_than_get_are_decided_on_too() {
    let portcullis = Portcullis::start(&routes()).await;
    let (envoy, _upstream) = start(&portcullis, "").await;
    let token = Claims::default().hs256();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let request = Request::new(method, "/api/a");
        assert_eq!(request.send(envoy.http()).await.status, 401, "{method}");
        let passed = request.bearer(&token).send(envoy.http()).await;
        assert_eq!(Received::from_response(&passed).method, method);
    }
}

#[tokio::test]
async fn the_clients_identity_headers_are_removed_over_http() {
    let portcullis = Portcullis::start(&routes().with("cors.preflight", "forward")).await;
    let (envoy, _upstream) = start(&portcullis, "").await;
    let without_provider = Claims::default().without("provider").hs256();
    let cases = [
        (Request::get("/public"), Vec::new()),
        (Request::preflight("/api/a"), Vec::new()),
        (Request::get("/api/a").bearer(&without_provider), vec![SUBJECT]),
    ];
    for (request, user) in cases {
        let request = request
            .header("X-User-ID", "spoofed")
            .header("x-user-id", "again")
            .header("X-Auth-Provider", "spoofed");
        let received = Received::from_response(&request.send(envoy.http()).await);
        assert_eq!(received.all("x-user-id"), user);
        assert!(received.all("x-auth-provider").is_empty());
    }
}

/// A configuration whose pages come from `https://app.test`.
fn with_origin() -> Config {
    routes().with("cors.allowed_origins", json!(["https://app.test"]))
}

#[tokio::test]
async fn over_http_preflights_are_answered_and_denials_readable() {
    let portcullis = Portcullis::start(&with_origin()).await;
    let (envoy, upstream) = start(&portcullis, "").await;
    let preflight = || Request::preflight("/api/a");
    let answer = preflight().send(envoy.http()).await;
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    assert_eq!(answer.all("access-control-allow-origin"), ["https://app.test"]);
    assert_eq!(answer.all("access-control-allow-headers"), ["authorization, content-type"]);
    assert_eq!(answer.all("vary"), ["origin"]);

    let denied = Request::get("/api/a").header("Origin", "https://app.test");
    let denied = denied.send(envoy.http()).await;
    assert_eq!((denied.status, denied.text().as_str()), (401, "missing token"));
    assert_eq!(denied.all("access-control-allow-origin"), ["https://app.test"]);

    for imitation in [
        preflight().header("X-HTTP-Method-Override", "DELETE"),
        preflight().header("Cookie", "session=1"),
        preflight().header("Access-Control-Request-Headers", "a b"),
    ] {
        assert_eq!(imitation.send(envoy.http()).await.status, 401);
    }
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_preflight_without_its_headers_in_the_check_is_refused() {
    let portcullis = Portcullis::start(&with_origin()).await;
    let upstream = Upstream::start().await;
    let config = envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address());
    let envoy = Envoy::start(&config).await;
    assert_eq!(Request::preflight("/api/a").send(envoy.http()).await.status, 401);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn a_policy_cannot_reach_the_request_with_response_headers() {
    for attack in ["removal_response_header", "identity_response_header"] {
        let mut route = token_route("attacked", &["/attack", "/harmless"]);
        let own = json!({
            "allow_without_policy": false, "policy": "hostile", "deadline": "10s",
            "settings": {"attack": attack},
            "identity_headers": {"x-user-id": ["sub"], "x-roles": ["roles"]},
        });
        route.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let policy = places::component("hostile_guest");
        let config = Config::new([route]).with("policies.hostile.file", policy.to_string_lossy());
        let portcullis = Portcullis::start(&config).await;
        let (envoy, upstream) = start(&portcullis, "").await;
        let get =
            |path| Request::get(path).bearer(&Claims::default().hs256()).header("x-keep", "1");
        let refused = get("/attack").send(envoy.http()).await;
        assert_eq!((refused.status, upstream.requests()), (403, 0), "{attack}");
        let received = Received::from_response(&get("/harmless").send(envoy.http()).await);
        assert_eq!(received.all("x-user-id"), [SUBJECT], "{attack}");
        assert_eq!(received.all("x-keep"), ["1"], "{attack}");
    }
}

#[tokio::test]
async fn the_maximum_number_of_headers_of_envoy_is_decided_on() {
    let portcullis = Portcullis::start(&routes()).await;
    let upstream = Upstream::start().await;
    let config =
        listing(envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address()))
            .with("allowed_headers", json!({"patterns": [{"prefix": "x-"}]}));
    let envoy = Envoy::start(&config).await;
    let many = |count: usize| {
        let fields = 0..count;
        fields.fold(Request::get("/api/a"), |request, number| {
            request.header(&format!("X-{number}"), "a")
        })
    };
    // Envoy also counts the headers that it adds.
    for count in [80, 90, 95] {
        let refused = many(count).send(envoy.http()).await;
        assert_eq!((refused.status, refused.text().as_str()), (401, "missing token"), "{count}");
    }
    assert_eq!(many(101).send(envoy.http()).await.status, 431);
}

#[tokio::test]
async fn a_path_prefix_is_removed() {
    let portcullis = Portcullis::start(&routes().with("http.path_prefix", "/check")).await;
    let (envoy, _upstream) = start(&portcullis, "/check").await;
    let passed = Request::get("/public").send(envoy.http()).await;
    assert_eq!(Received::from_response(&passed).target, "/public");
    assert_eq!(Request::get("/api/a").send(envoy.http()).await.status, 401);
}

#[tokio::test]
async fn envoy_refuses_while_portcullis_is_dead() {
    let mut portcullis = Portcullis::start(&routes()).await;
    let (envoy, upstream) = start(&portcullis, "").await;
    portcullis.kill();
    assert_eq!(Request::get("/public").send(envoy.http()).await.status, 403);
    assert_eq!(upstream.requests(), 0);
}

#[tokio::test]
async fn an_answer_with_too_many_headers_is_a_deny_if_envoy_fails_open() {
    for (attack, counts) in
        [("many_deny_headers", [90, 91, 98, 100]), ("many_response_headers", [91, 97, 98, 100])]
    {
        for count in counts {
            is_refused_where_envoy_fails_open(&attacked_by(attack, count)).await;
        }
    }
}

/// A policy that makes this attack of this size on every path below `/attack`, and may take long.
fn attacked_by(attack: &str, size: usize) -> Config {
    let route = json!({
        "name": "attacked", "token": "ignored", "policy": "hostile", "deadline": "10s",
        "settings": {"attack": attack, "size": size},
    });
    let policy = places::component("hostile_guest");
    Config::new([route]).with("policies.hostile.file", policy.to_string_lossy())
}

/// Sends a request through an Envoy that fails open, which must still be refused. A machine that is
/// stalled for the last tenth of a second makes Envoy time out, hence several attempts.
async fn is_refused_where_envoy_fails_open(config: &Config) {
    let (portcullis, upstream) = (Portcullis::start(config).await, Upstream::start().await);
    let envoy = envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address())
        .with_http_timeout("3s")
        .with("failure_mode_allow", json!(true));
    let envoy = Envoy::start(&envoy).await;
    eventually::succeeds(10, "it is refused", async || {
        let before = upstream.requests();
        let answer = Request::get("/attack").send(envoy.http()).await;
        let is_refused = (answer.status, upstream.requests()) == (403, before);
        if is_refused { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
    let passed = Request::get("/harmless").send(envoy.http()).await;
    assert_eq!(Received::from_response(&passed).target, "/harmless");
}

#[tokio::test]
async fn a_policy_fault_is_a_deny_if_envoy_fails_open() {
    is_refused_where_envoy_fails_open(&attacked_by("panic", 0)).await;
}

#[tokio::test]
async fn a_policy_beyond_envoys_timeout_is_a_deny_if_envoy_fails_open() {
    is_refused_where_envoy_fails_open(&attacked_by("spin", 0)).await;
}
