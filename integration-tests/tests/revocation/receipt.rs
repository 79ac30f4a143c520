//! Tests of receipts: a caller that waits for one learns that every ready replica has applied the
//! revocation.

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Portcullis, Replicas},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::relay_process::{Relay, Services};

async fn announced(services: &Services) -> u64 {
    // Entries with a negative score are not replicas.
    services.redis.client().command(&["ZCOUNT", "portcullis:replicas", "0", "+inf"]).await
}

async fn all_announced(services: &Services, count: u64) {
    let what = format!("{count} replicas have announced themselves");
    eventually::holds(&what, async || announced(services).await == count).await;
}

/// Waits until the feed is live: before that, a replica confirms from Redis on its own.
async fn is_live(replica: &Portcullis) {
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
}

async fn post(portcullis: &Portcullis, target: &str, body: impl Into<Vec<u8>>) -> (u16, String) {
    let response = portcullis.admin().call(Request::post(target, body)).await;
    (response.status, response.text())
}

#[tokio::test]
async fn a_wait_ends_once_every_ready_replica_has_applied_it() {
    let services = Services::start().await;
    let _relay = Relay::start(&services.config()).await;
    let mut replicas = Replicas::start(3, &services.config()).await;
    all_announced(&services, 3).await;
    let printed = services.revoked(&["--jti", "a", "--wait"]).await;
    eprint!("{printed}");
    assert!(printed.starts_with("revoked: applied by 3 replicas after "), "{printed}");
    for admin in replicas.admins() {
        assert!(admin.is_revoked("a").await);
    }
    let printed = services.revoked(&["--jti", "a", "--remove", "--wait"]).await;
    assert!(printed.starts_with("no longer revoked: applied by 3 replicas after "), "{printed}");

    // A replica that is registered, and confirms nothing.
    let client = services.redis.client();
    let in_a_minute = (jiff::Timestamp::now().as_millisecond() + 60_000).to_string();
    let _: u64 = client.command(&["ZADD", "portcullis:replicas", &in_a_minute, "ghost"]).await;
    let output = services.revoke(&["--jti", "b", "--wait", "--timeout", "5s"]).await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("1 of 4 ready replicas have not confirmed"), "{error}");
    let _: u64 = client.command(&["ZREM", "portcullis:replicas", "ghost"]).await;

    // A replica without heartbeats counts until its registration expires.
    replicas.get_mut(1).process().signal(Signal::STOP);
    let printed = services.revoked(&["--jti", "c", "--wait", "--timeout", "20s"]).await;
    assert!(printed.starts_with("revoked: applied by 2 replicas after "), "{printed}");
    replicas.get_mut(1).process().signal(Signal::CONT);
    eventually::holds("it has caught up", async || replicas.get(1).admin().is_revoked("c").await)
        .await;
}

#[tokio::test]
async fn a_lost_registry_does_not_count_as_complete() {
    let services = Services::start().await;
    let _relay = Relay::start(&services.config()).await;
    let _replicas = Replicas::start(3, &services.config()).await;
    all_announced(&services, 3).await;
    for round in 0..3 {
        services.redis.client().flush().await;
        let jti = round.to_string();
        let printed = services.revoked(&["--jti", &jti, "--wait", "--timeout", "20s"]).await;
        assert!(printed.starts_with("revoked: applied by 3 replicas after "), "{printed}");
    }
}

#[tokio::test]
async fn a_long_wait_does_not_load_the_store() {
    let services = Services::start().await;
    let replica = Portcullis::start(&services.config()).await;
    all_announced(&services, 1).await;
    is_live(&replica).await;
    let client = services.redis.client();
    client.forget_calls().await;
    // There is no relay.
    let (status, text) = post(&replica, "/v1/revocations?wait=3s", r#"{"jti": "a"}"#).await;
    assert_eq!(status, 504, "{text}");
    let looks = client.calls().await["eval"];
    assert!((5..150).contains(&looks), "{looks} looks in three seconds");
}

#[tokio::test]
async fn a_replica_that_ends_leaves_the_registry() {
    let services = Services::start().await;
    let mut replicas = Replicas::start(2, &services.config()).await;
    all_announced(&services, 2).await;
    replicas.get(0).terminate();
    assert!(replicas.get_mut(0).process().end().await.success());
    assert_eq!(announced(&services).await, 1);
}

#[tokio::test]
async fn the_admin_api_revokes_for_all_replicas_with_receipts() {
    let services = Services::start().await;
    let _relay = Relay::start(&services.config()).await;
    let replicas = Replicas::start(2, &services.config()).await;
    all_announced(&services, 2).await;
    let (one, other) = (replicas.get(0), replicas.get(1));

    let (status, text) = post(one, "/v1/revocations", r#"{"jti": "a"}"#).await;
    assert_eq!((status, text.as_str()), (201, r#"{"applied":1}"#));
    assert!(one.admin().is_revoked("a").await, "at once");
    assert!(services.redis.client().get("blacklist:a").await.is_some());
    eventually::holds("the other knows", async || other.admin().is_revoked("a").await).await;

    let events = "{\"jti\": \"b\"}\n{\"sub\": \"u\", \"issued_before\": 5, \"type\": \"cutoff\"}\n\
                  {\"jti\": \"over\", \"exp\": 1000000000}\n";
    let request = Request::post("/v1/revocations?wait=10s", events)
        .header("Content-Type", "application/x-ndjson");
    let answer = one.admin().call(request).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["applied"], 2);
    assert_eq!((&answer["expired"], &answer["replicas"]), (&json!(1), &json!(2)));
    assert_eq!(answer["missing"], 0);
    assert!(answer["milliseconds"].is_u64());
    assert!(other.admin().is_revoked("b").await, "the receipt confirms it");

    let answer = one.admin().call(Request::new("DELETE", "/v1/revocations/b?wait=10s")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!other.admin().is_revoked("b").await);
    let replica: Value = one.admin().revocations().await;
    assert_eq!(replica["replica"].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn nothing_is_applied_unless_all_lines_are_events() {
    let services = Services::start().await;
    let replica = Portcullis::start(&services.config()).await;
    all_announced(&services, 1).await;
    let request = Request::post("/v1/revocations", "{\"jti\": \"a\"}\n{\"jti\": 5}\n")
        .header("Content-Type", "application/x-ndjson");
    let answer = replica.admin().call(request).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().starts_with("line 2: "), "{}", answer.text());
    assert!(!replica.admin().is_revoked("a").await);
    assert_eq!(services.redis.client().keys("*").await, ["portcullis:replicas"]);
}

#[tokio::test]
async fn no_receipt_without_a_relay_and_no_effect_without_a_store() {
    let services = Services::start().await;
    let replica = Portcullis::start(&services.config()).await;
    all_announced(&services, 1).await;
    is_live(&replica).await;
    let (status, text) = post(&replica, "/v1/revocations?wait=300ms", r#"{"jti": "a"}"#).await;
    assert_eq!(status, 504, "{text}");
    assert!(text.contains(r#""missing":1"#), "{text}");
    assert!(replica.admin().is_revoked("a").await, "it is applied at this replica");

    services.redis.pause().await;
    let (status, text) = post(&replica, "/v1/revocations", r#"{"jti": "b"}"#).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("did not answer within") && text.contains("0 of 1"), "{text}");
    services.redis.unpause().await;
    // Whether it was stored is unknown: it takes effect once that is certain.
    eventually::holds("it can be revoked again", async || {
        post(&replica, "/v1/revocations", r#"{"jti": "b"}"#).await.0 == 201
    })
    .await;
    assert!(replica.admin().is_revoked("b").await);
}
