//! Tests of Envoy's network filter, which checks connections without HTTP.

use portcullis_integration_tests::{
    client::Request,
    portcullis::{Config, token_route},
    upstream::Received,
};
use serde_json::json;

use super::Gate;

#[tokio::test]
async fn a_connection_that_no_route_matches_is_closed() {
    let gate = Gate::new(&Config::new([token_route("all", &["*"])])).await;
    Request::get("/").try_send(gate.envoy.tcp()).await.unwrap_err();
    assert_eq!(gate.upstream.requests(), 0);
    // Portcullis still works.
    gate.refuse(Request::get("/"), 401).await;
}

#[tokio::test]
async fn a_connection_passes_if_a_connection_route_allows_it() {
    let route = json!({
        "name": "tcp", "match": {"tcp": true}, "token": "ignored", "allow_without_policy": true,
    });
    let gate = Gate::new(&Config::new([route])).await;
    let response = Request::get("/").send(gate.envoy.tcp()).await;
    assert_eq!(Received::from_response(&response).target, "/");
    // The route is not for HTTP.
    gate.refuse(Request::get("/"), 403).await;
}
