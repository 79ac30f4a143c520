//! Tests of receipts: a caller that waits for one learns that every ready replica has applied the
//! revocation.

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Portcullis, Replicas},
    token::Claims,
    undisturbed,
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{
    reaches,
    relay_process::{Relay, Services, confirmed, receipt_of_two, revoked_at, waited},
};

async fn announced(services: &Services) -> u64 {
    // Entries with a negative score are not replicas.
    services.redis.client().command(&["ZCOUNT", "portcullis:replicas", "0", "+inf"]).await
}

async fn all_announced(services: &Services, count: u64) {
    let what = format!("{count} replicas have announced themselves");
    eventually::holds(&what, async || announced(services).await == count).await;
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
    let config = services.config();
    let claims = revoked_at(&config, 3).await;
    for admin in replicas.admins() {
        assert!(admin.is_revoked(claims.jti()).await);
    }
    let expected = "no longer revoked: applied by 3 replicas after ";
    confirmed(&config, &["--jti", claims.jti(), "--remove"], expected).await;
    is_incomplete_with_a_ghost(&services).await;

    // A replica without heartbeats counts until its registration expires.
    replicas.get_mut(1).process().signal(Signal::STOP);
    let claims = revoked_at(&config, 2).await;
    replicas.get_mut(1).process().signal(Signal::CONT);
    eventually::holds("it has caught up", async || {
        replicas.get(1).admin().is_revoked(claims.jti()).await
    })
    .await;
}

/// Beside three replicas, registers one that confirms nothing, for some time.
async fn is_incomplete_with_a_ghost(services: &Services) {
    let client = services.redis.client();
    let expected = "1 of 4 ready replicas have not confirmed";
    eventually::succeeds(3, expected, async || {
        let in_a_minute = (jiff::Timestamp::now().as_millisecond() + 60_000).to_string();
        let _: u64 = client.command(&["ZADD", "portcullis:replicas", &in_a_minute, "ghost"]).await;
        let claims = Claims::default();
        let arguments = ["--jti", claims.jti(), "--wait", "--timeout", "5s"];
        let output = services.revoke(&arguments).await;
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        error.contains(expected).then_some(()).ok_or(error)
    })
    .await;
    let _: u64 = client.command(&["ZREM", "portcullis:replicas", "ghost"]).await;
}

#[tokio::test]
async fn a_lost_registry_does_not_count_as_complete() {
    let services = Services::start().await;
    let _relay = Relay::start(&services.config()).await;
    let replicas = Replicas::start(3, &services.config()).await;
    all_announced(&services, 3).await;
    let all: Vec<_> = replicas.iter().collect();
    for _ in 0..3 {
        undisturbed::run(&all, async || {
            all_announced(&services, 3).await;
            services.redis.client().flush().await;
            let claims = Claims::default();
            let printed = waited(&services.config(), &["--jti", claims.jti()]).await;
            assert!(printed.starts_with("revoked: applied by 3 replicas after "), "{printed}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_long_wait_does_not_load_the_store() {
    let services = Services::start().await;
    let replica = Portcullis::start(&services.config()).await;
    all_announced(&services, 1).await;
    let client = services.redis.client();
    undisturbed::run(&[&replica], async || {
        // Before that, a replica confirms from Redis on its own.
        reaches(&replica, "live").await;
        client.forget_calls().await;
        // There is no relay.
        let event = json!({"jti": Claims::default().jti()}).to_string();
        let (status, text) = post(&replica, "/v1/revocations?wait=3s", event).await;
        assert_eq!(status, 504, "{text}");
        let looks = client.calls().await["eval"];
        assert!((5..150).contains(&looks), "{looks} looks in three seconds");
    })
    .await;
}

#[tokio::test]
async fn a_replica_that_ends_leaves_the_registry() {
    let services = Services::start().await;
    // A replica that ends waits only a second for the store.
    eventually::succeeds(3, "it leaves", async || {
        let _: u64 = services.redis.client().command(&["DEL", "portcullis:replicas"]).await;
        let mut replicas = Replicas::start(2, &services.config()).await;
        all_announced(&services, 2).await;
        replicas.get(0).terminate();
        assert!(replicas.get_mut(0).process().end().await.success());
        let left = announced(&services).await;
        (left == 1).then_some(()).ok_or_else(|| format!("{left} replicas are registered"))
    })
    .await;
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
    let answer = receipt_of_two(one, &request, 201).await;
    assert_eq!((&answer["applied"], &answer["expired"]), (&json!(2), &json!(1)));
    assert_eq!(answer["missing"], 0);
    assert!(answer["milliseconds"].is_u64());
    assert!(other.admin().is_revoked("b").await, "the receipt confirms it");

    let request = Request::new("DELETE", "/v1/revocations/b?wait=10s");
    receipt_of_two(one, &request, 200).await;
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
    undisturbed::run(&[&replica], async || {
        reaches(&replica, "live").await;
        let claims = Claims::default();
        let event = json!({"jti": claims.jti()}).to_string();
        let (status, text) = post(&replica, "/v1/revocations?wait=300ms", event).await;
        assert_eq!(status, 504, "{text}");
        assert!(text.contains(r#""missing":1"#), "{text}");
        assert!(replica.admin().is_revoked(claims.jti()).await, "it is applied at this replica");
    })
    .await;

    services.redis.pause().await;
    let (status, text) = post(&replica, "/v1/revocations", r#"{"jti": "b"}"#).await;
    assert_eq!(status, 503, "{text}");
    // The silence may be noticed before.
    let causes = ["did not answer within", "connection to Redis broke", "cannot connect to Redis"];
    assert!(causes.iter().any(|cause| text.contains(cause)), "{text}");
    assert!(text.contains("0 of 1"), "{text}");
    services.redis.unpause().await;
    // Whether it was stored is unknown: it takes effect once that is certain.
    eventually::holds("it can be revoked again", async || {
        post(&replica, "/v1/revocations", r#"{"jti": "b"}"#).await.0 == 201
    })
    .await;
    assert!(replica.admin().is_revoked("b").await);
}
