//! Inputs and outputs of a policy: it sees what its manifest asks for and nothing else, and what it
//! does to the query and to Envoy's metadata arrives.

use serde_json::{Value, json};

use crate::{
    check::{Ask, Client, ISSUER, SECRET, claims, sign},
    process::{Folder, Service, component},
};

const PRINCIPAL: &str = "spiffe://cluster.local/ns/foo/sa/a";

/// A service whose policy tells what it sees: `echo` asks for everything, `echo_nothing` for nothing.
fn told_by(guest: &str) -> Service {
    let folder = Folder::new();
    let settings = json!({"attack": guest, "when_path": ""});
    let mut config = folder.config_with_policy(&component("hostile_guest"), &settings);
    config["routes"][0]["token"] = json!("optional");
    Service::start(folder, &config)
}

/// A request that has everything `echo` asks for, with something beside each that it does not.
fn full(claims: &Value) -> Ask {
    Ask::get("/shop/a%20b/?x=1&debug=%26")
        .method("POST")
        .host("Shop.Test:8443")
        .bearer(&sign(claims, SECRET))
        .header("x-asked", "asked")
        .header("x-other", "not asked")
        .header("content-length", "2")
        .context("tenant", "acme")
        .metadata("asked.filter", &json!({"found": {"deep": "inside", "other": "no"}, "b": "no"}))
        .metadata("other.filter", &json!({"found": {"deep": "no"}}))
        .peer("10.0.0.1", 5000, PRINCIPAL)
        .body("hi")
}

fn full_claims() -> Value {
    let mut claims = claims("alice");
    claims["scope"] = json!("read write");
    claims["realm_access"] = json!({"roles": ["admin"], "other": "no"});
    claims["email"] = json!("alice@example.com");
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_sees_everything_that_its_manifest_asks_for_and_nothing_else() {
    let service = told_by("echo");
    let client = Client::connect(service.addresses.grpc).await;
    let claims = full_claims();
    let expected = json!({
        "route": "everything",
        "method": "POST",
        "scheme": "https",
        "host": "shop.test",
        "path": "/shop/a b",
        "raw_path": "/shop/a%20b/?x=1&debug=%26",
        "query": "x=1&debug=%26",
        "headers": [["x-asked", "asked"]],
        "context": [["tenant", "acme"]],
        "metadata": [{"text": "inside"}],
        "identity": {
            "subject": "alice",
            "issuer": ISSUER,
            "token_id": claims["jti"],
            "scopes": ["read", "write"],
            "expires_at": claims["exp"],
            "claims": [{"texts": ["admin"]}],
        },
        "source": ["10.0.0.1", 5000, PRINCIPAL],
        "body": {"bytes": b"hi", "truncated": false},
    });
    let ask = full(&claims);
    // Once with the token verified, once with it remembered.
    for _ in 0..2 {
        assert_eq!(client.ask(&ask).await.seen(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_asks_for_nothing_sees_only_what_every_policy_sees() {
    let service = told_by("echo_nothing");
    let client = Client::connect(service.addresses.grpc).await;
    let claims = full_claims();
    let expected = json!({
        "route": "everything",
        "method": "POST",
        "scheme": "https",
        "host": "shop.test",
        "path": "/shop/a b",
        "raw_path": null,
        "query": null,
        "headers": [],
        "context": [],
        "metadata": [],
        "identity": {
            "subject": "alice",
            "issuer": ISSUER,
            "token_id": claims["jti"],
            "scopes": ["read", "write"],
            "expires_at": claims["exp"],
            "claims": [],
        },
        "source": null,
        "body": null,
    });
    assert_eq!(client.ask(&full(&claims)).await.seen(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_does_not_have_is_absent_and_not_made_up() {
    let service = told_by("echo");
    let client = Client::connect(service.addresses.grpc).await;
    let expected = json!({
        "route": "everything",
        "method": "GET",
        "scheme": "https",
        "host": "api.test",
        "path": "/",
        "raw_path": "/",
        "query": null,
        "headers": [],
        "context": [],
        "metadata": [null],
        "identity": null,
        "source": ["", 0, ""],
        "body": null,
    });
    assert_eq!(client.ask(&Ask::get("/")).await.seen(), expected);
    let seen = client.ask(&Ask::get("/").bearer(&sign(&claims("bob"), SECRET))).await.seen();
    assert_eq!(
        (&seen["identity"]["scopes"], &seen["identity"]["claims"]),
        (&json!([]), &json!([null]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_arrives_byte_by_byte_and_says_whether_it_goes_on() {
    let service = told_by("echo");
    let client = Client::connect(service.addresses.grpc).await;
    let bytes = [0, b'\n', b'"', 0xff, 0xfe];
    let raw = || Ask::get("/").raw_body(&bytes);
    let partial = "x-envoy-auth-partial-body";
    let body = |bytes: &[u8], truncated: bool| json!({"bytes": bytes, "truncated": truncated});
    for (ask, expected) in [
        (raw(), body(&bytes, false)),
        (raw().header(partial, "false"), body(&bytes, false)),
        (raw().header(partial, "true"), body(&bytes, true)),
        (raw().header("content-length", "5"), body(&bytes, false)),
        (raw().header("content-length", "6"), body(&bytes, true)),
        (Ask::get("/").body("\u{e9}"), body(&[0xc3, 0xa9], false)),
        (Ask::get("/").header(partial, "false"), body(&[], false)),
        // Envoy was not told to pass bodies.
        (Ask::get("/").header("content-length", "6"), Value::Null),
    ] {
        assert_eq!(client.ask(&ask).await.seen()["body"], expected, "{ask:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_arrives_from_where_it_was_asked_for_with_its_type() {
    let service = told_by("echo");
    let client = Client::connect(service.addresses.grpc).await;
    for (found, expected) in [
        (json!({"deep": "7"}), json!({"text": "7"})),
        (json!({"deep": 7}), json!({"integer": 7})),
        (json!({"deep": -0.5}), json!({"number": -0.5})),
        (json!({"deep": true}), json!({"boolean": true})),
        (json!({"deep": null}), json!("null")),
        (json!({"deep": ["a", "b"]}), json!({"texts": ["a", "b"]})),
        (json!({"deep": ["a", 1]}), json!({"json": "[\"a\",1]"})),
        (json!({"deep": {"er": true}}), json!({"json": "{\"er\":true}"})),
        (json!({"Deep": "other"}), Value::Null),
        (json!("deep"), Value::Null),
        (json!(["deep"]), Value::Null),
    ] {
        let ask = Ask::get("/").metadata("asked.filter", &json!({"found": found}));
        assert_eq!(client.ask(&ask).await.seen()["metadata"], json!([expected]), "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_comes_twice_is_seen_whole() {
    let service = told_by("echo");
    let client = Client::connect(service.addresses.grpc).await;
    let ask = Ask::get("/").raw_header("X-Asked", "a").raw_header("x-asked", "b,c");
    assert_eq!(client.ask(&ask).await.seen()["headers"], json!([["x-asked", "a,b,c"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_does_to_the_query_and_to_the_metadata_reaches_envoy() {
    let service = told_by("echo");
    let client = Client::connect(service.addresses.grpc).await;
    let answer = client.ask(&Ask::get("/?debug=1")).await;
    assert_eq!(json!(answer.set_query), json!({"added": "yes%20%26%20no"}));
    assert_eq!(answer.remove_query, ["debug"]);
    let expected = json!({
        "null": null,
        "boolean": true,
        "integer": 7.0,
        "number": 0.5,
        "text": "plain",
        "texts": ["a", "b"],
        "json": {"deep": [1.0, null]},
    });
    assert_eq!(answer.metadata, expected);
}
