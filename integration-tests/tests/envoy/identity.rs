//! Tests of the identity headers for the upstream: they come from Portcullis, never from the
//! client.

use portcullis_integration_tests::{
    client::Request,
    envoy::{self, Envoy},
    portcullis::{Config, Portcullis, optional_route, public_route, token_route},
    token::{self, Claims, PROVIDER, SUBJECT},
    upstream::{Received, Upstream},
};
use serde_json::{Value, json};

use super::Gate;

fn routes() -> Config {
    Config::new([
        token_route("api", &["/api/*"]),
        optional_route("optional", &["/optional"]),
        public_route("public", &["/public"]),
    ])
}

/// Every way in which a client may try to claim an identity.
fn spoofed(request: &Request) -> [Request; 5] {
    let one = request.clone().header("x-user-id", "spoofed").header("x-auth-provider", "spoofed");
    let two = one.clone().header("x-user-id", "again").header("x-auth-provider", "again");
    let mixed = request.clone().header("X-User-ID", "spoofed").header("X-AUTH-Provider", "spoofed");
    let both = one.clone().header("X-User-Id", "again").header("X-Auth-Provider", "again");
    let empty = request.clone().header("x-user-id", "").header("x-auth-provider", "");
    [one, two, mixed, both, empty]
}

fn identity(received: &Received) -> (Vec<&str>, Vec<&str>) {
    (received.all("x-user-id"), received.all("x-auth-provider"))
}

async fn assert_no_identity(gate: &Gate, request: Request) {
    for request in spoofed(&request) {
        let received = gate.pass(request).await;
        assert_eq!(identity(&received), (Vec::new(), Vec::new()));
    }
}

#[tokio::test]
async fn the_upstream_gets_the_subject_of_the_token() {
    let gate = Gate::new(&routes()).await;
    let received = gate.pass(Request::get("/api/a").bearer(&token::good())).await;
    assert_eq!(identity(&received), (vec![SUBJECT], vec![PROVIDER]));
}

#[tokio::test]
async fn the_clients_identity_headers_are_replaced() {
    let gate = Gate::new(&routes()).await;
    for path in ["/api/a", "/optional"] {
        for request in spoofed(&Request::get(path).bearer(&token::good())) {
            let received = gate.pass(request).await;
            assert_eq!(identity(&received), (vec![SUBJECT], vec![PROVIDER]));
        }
    }
}

#[tokio::test]
async fn a_missing_claim_removes_the_clients_header() {
    let gate = Gate::new(&routes()).await;
    for claims in [Claims::default().without("provider"), Claims::default().with("provider", "")] {
        for request in spoofed(&Request::get("/api/a").bearer(&claims.hs256())) {
            let received = gate.pass(request).await;
            assert_eq!(identity(&received), (vec![SUBJECT], Vec::new()));
        }
    }
}

#[tokio::test]
async fn a_public_route_removes_the_clients_identity() {
    let gate = Gate::new(&routes()).await;
    assert_no_identity(&gate, Request::get("/public")).await;
    // Tokens are not verified here, so even a good one gives no identity.
    assert_no_identity(&gate, Request::get("/public").bearer(&token::good())).await;
}

#[tokio::test]
async fn an_anonymous_request_has_no_client_identity() {
    let gate = Gate::new(&routes()).await;
    assert_no_identity(&gate, Request::get("/optional")).await;
}

#[tokio::test]
async fn a_forwarded_preflight_has_no_client_identity() {
    let gate = Gate::new(&routes().with("cors.preflight", "any_options")).await;
    assert_no_identity(&gate, Request::preflight("/api/a")).await;
}

#[tokio::test]
async fn options_other_than_preflights_need_a_token_by_default() {
    let options = Request::new("OPTIONS", "/api/a");
    Gate::new(&routes()).await.refuse(options.clone(), 401).await;
    let gate = Gate::new(&routes().with("cors.preflight", "any_options")).await;
    assert_no_identity(&gate, options).await;
}

#[tokio::test]
async fn other_headers_pass_unchanged() {
    let gate = Gate::new(&routes()).await;
    let request = Request::get("/api/a").bearer(&token::good()).header("X-Trace", "1");
    let received = gate.pass(request).await;
    assert_eq!(received.all("x-trace"), ["1"]);
}

#[tokio::test]
async fn folded_header_names_carry_no_client_identity() {
    let gate = Gate::new(&routes().with("cors.preflight", "any_options")).await;
    let spoof = |request: Request| {
        request
            .header("x-user-id", "root")
            .header("x_user_id", "root")
            .header("X_User-Id", "root")
            .header("x.auth!provider", "root")
            .header("x_trace", "1")
    };
    for (request, user, provider) in [
        (Request::get("/api/a").bearer(&token::good()), Some(SUBJECT), Some(PROVIDER)),
        (Request::get("/optional").bearer(&token::good()), Some(SUBJECT), Some(PROVIDER)),
        (Request::get("/optional"), None, None),
        (Request::get("/public"), None, None),
        (Request::preflight("/api/a"), None, None),
    ] {
        let received = gate.pass(spoof(request)).await;
        assert_eq!(received.folded("x-user-id").as_deref(), user, "{received:?}");
        assert_eq!(received.folded("x-auth-provider").as_deref(), provider, "{received:?}");
        assert_eq!(received.all("x_trace"), ["1"], "other names pass as they are");
    }
}

#[tokio::test]
async fn no_header_overrides_the_request_that_was_decided_on() {
    let gate = Gate::new(&routes()).await;
    let names = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x_method_override",
        "x-original-url",
        "x-rewrite-url",
    ];
    let request =
        names.iter().fold(Request::get("/public"), |request, name| request.header(name, "/admin"));
    let received = gate.pass(request).await;
    for name in names {
        assert_eq!(received.folded(name), None, "{received:?}");
    }
}

#[tokio::test]
async fn over_http_overriding_headers_are_removed() {
    let portcullis = Portcullis::start(&routes()).await;
    let upstream = Upstream::start().await;
    let envoy = envoy::EnvoyConfig::http(portcullis.addresses().http(), upstream.address());
    let envoy = Envoy::start(&envoy).await;
    let request = Request::get("/public").header("x-http-method-override", "DELETE");
    let response = request.header("x-original-url", "/api/a").send(envoy.http()).await;
    let received = Received::from_response(&response);
    assert_eq!(received.folded("x-http-method-override"), None, "{received:?}");
    assert_eq!(received.folded("x-original-url"), None, "{received:?}");
}

#[tokio::test]
async fn headers_that_a_proxy_cannot_remove_are_refused() {
    let mut keeps = public_route("keeps", &["/keeps"]);
    keeps["keep_override_headers"] = json!(["x-http-method-override"]);
    let api = token_route("api", &["/api/*"]);
    let config = Config::new([public_route("public", &["/public"]), keeps, api]);
    let config = config
        .with("http.request_from", "x-forwarded")
        .with("http.proxy_overwrites", json!(["x-user-id"]));
    let portcullis = Portcullis::start(&config).await;
    let ask = async |path: &str, header: &str| {
        let request = Request::get("/")
            .header("x-forwarded-method", "GET")
            .header("x-forwarded-host", "api.test")
            .header("x-forwarded-uri", path)
            .header(header, "DELETE");
        request.send(portcullis.addresses().http()).await.status
    };
    for (path, header, status) in [
        ("/public", "x-other", 200),
        ("/public", "x_other", 200),
        // Such a proxy overwrites it, as configured.
        ("/public", "x-user-id", 200),
        ("/public", "x_user_id", 400),
        ("/public", "x-http-method-override", 400),
        ("/keeps", "x-http-method-override", 200),
        ("/keeps", "x-original-url", 400),
    ] {
        assert_eq!(ask(path, header).await, status, "{path} {header}");
    }
}

#[tokio::test]
async fn an_identity_arrives_unchanged_or_not_at_all() {
    let mut route = token_route("api", &["/api/*"]);
    route["identity_headers"] =
        json!({"x-roles": ["groups"], "x-num": ["num"], "x-mail": ["email"]});
    let gate = Gate::new(&Config::new([route])).await;
    let pass = async |name: &str, claim: Value, header: &str| {
        let token = Claims::default().with(name, claim).hs256();
        gate.pass(Request::get("/api/a").bearer(&token)).await.folded(header)
    };
    for (groups, roles) in [
        (json!(["dev", "admin"]), Some("dev,admin")),
        (json!(["dev,admin"]), None),
        (json!(["dev", ""]), None),
        (json!([" admin"]), None),
    ] {
        assert_eq!(pass("groups", groups.clone(), "x-roles").await.as_deref(), roles, "{groups}");
    }
    for (number, text) in [(json!(u64::MAX), Some("18446744073709551615")), (json!(1e20), None)] {
        assert_eq!(pass("num", number.clone(), "x-num").await.as_deref(), text, "{number}");
    }
    for mail in [" admin@a.test", "admin@a.test ", "admin@a.test\t", "Jos\u{e9}"] {
        assert_eq!(pass("email", json!(mail), "x-mail").await, None, "{mail:?}");
    }
}

#[tokio::test]
async fn a_claim_with_a_line_break_is_omitted_or_refused() {
    let mut refuses = token_route("refuses", &["/refuses"]);
    refuses["unusable_claims"] = json!("deny");
    let gate = Gate::new(&Config::new([token_route("api", &["/api/*"]), refuses])).await;
    let token = Claims::default().with("provider", "google\r\nx-admin: true").hs256();
    let spoofed = Request::get("/api/a").bearer(&token).header("x-auth-provider", "spoofed");
    let received = gate.pass(spoofed).await;
    assert_eq!(identity(&received), (vec![SUBJECT], Vec::new()));
    assert!(received.all("x-admin").is_empty());
    gate.refuse(Request::get("/refuses").bearer(&token), 403).await;
}
