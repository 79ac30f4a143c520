//! Owns what the upstream learns of the caller: what Portcullis says, never what the client says.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, optional_route, public_route, token_route},
    token::{self, Claims, PROVIDER, SUBJECT},
    upstream::Received,
};

use super::Gate;

fn routes() -> Config {
    Config::new([
        token_route("api", &["/api/*"]),
        optional_route("optional", &["/optional"]),
        public_route("public", &["/public"]),
    ])
}

/// Every way in which a client may try to say who it is.
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

async fn assert_nobody(gate: &Gate, request: Request) {
    for request in spoofed(&request) {
        let received = gate.pass(request).await;
        assert_eq!(identity(&received), (Vec::new(), Vec::new()));
    }
}

#[tokio::test]
async fn the_upstream_learns_who_the_token_names() {
    let gate = Gate::new(&routes()).await;
    let received = gate.pass(Request::get("/api/a").bearer(&token::good())).await;
    assert_eq!(identity(&received), (vec![SUBJECT], vec![PROVIDER]));
}

#[tokio::test]
async fn what_the_client_says_of_itself_is_replaced() {
    let gate = Gate::new(&routes()).await;
    for path in ["/api/a", "/optional"] {
        for request in spoofed(&Request::get(path).bearer(&token::good())) {
            let received = gate.pass(request).await;
            assert_eq!(identity(&received), (vec![SUBJECT], vec![PROVIDER]));
        }
    }
}

#[tokio::test]
async fn a_claim_that_the_token_lacks_leaves_nothing_of_the_clients() {
    let gate = Gate::new(&routes()).await;
    for claims in [Claims::default().without("provider"), Claims::default().with("provider", "")] {
        for request in spoofed(&Request::get("/api/a").bearer(&claims.hs256())) {
            let received = gate.pass(request).await;
            assert_eq!(identity(&received), (vec![SUBJECT], Vec::new()));
        }
    }
}

#[tokio::test]
async fn a_public_route_leaves_nothing_of_the_clients() {
    let gate = Gate::new(&routes()).await;
    assert_nobody(&gate, Request::get("/public")).await;
    // Tokens are not looked at here, so not even a good one names anybody.
    assert_nobody(&gate, Request::get("/public").bearer(&token::good())).await;
}

#[tokio::test]
async fn an_anonymous_request_leaves_nothing_of_the_clients() {
    let gate = Gate::new(&routes()).await;
    assert_nobody(&gate, Request::get("/optional")).await;
}

#[tokio::test]
async fn a_preflight_that_is_passed_on_leaves_nothing_of_the_clients() {
    let gate = Gate::new(&routes().with("cors.preflight", "forward")).await;
    assert_nobody(&gate, Request::preflight("/api/a")).await;
}

#[tokio::test]
async fn options_that_are_no_preflight_need_a_token_unless_configured_otherwise() {
    let options = Request::new("OPTIONS", "/api/a");
    Gate::new(&routes()).await.refuse(options.clone(), 401).await;
    let gate = Gate::new(&routes().with("cors.preflight", "any_options")).await;
    assert_nobody(&gate, options).await;
}

#[tokio::test]
async fn other_headers_pass_as_they_are() {
    let gate = Gate::new(&routes()).await;
    let request = Request::get("/api/a").bearer(&token::good()).header("X-Trace", "1");
    let received = gate.pass(request).await;
    assert_eq!(received.all("x-trace"), ["1"]);
}

#[tokio::test]
async fn a_claim_with_a_line_break_is_refused_rather_than_forwarded() {
    let gate = Gate::new(&routes()).await;
    let token = Claims::default().with("provider", "google\r\nx-admin: true").hs256();
    let response = gate.send(Request::get("/api/a").bearer(&token)).await;
    assert_eq!((response.status, gate.upstream.requests()), (500, 0), "{}", response.text());
}
