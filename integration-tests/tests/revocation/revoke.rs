//! Tests of `portcullis revoke`: what it writes to the store, with which expiry, and its output.

use std::time::Instant;

use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Portcullis},
    publisher::OUTBOX,
    services::{
        RedisClient, RedisSentinel,
        sentinel::{self, Member},
    },
    token,
};
use serde_json::{Value, json};

use super::{
    check, config,
    relay_process::{Relay, Services, revoke},
};

/// The leeway of the tests' issuer, the skew of the tests' configuration, and the last second.
const MARGIN_MS: i64 = 5_000 + 7_000 + 1_000;

async fn pttl(client: &RedisClient, key: &str) -> i64 {
    client.command(&["PTTL", key]).await
}

fn in_seconds(seconds: i64) -> String {
    (jiff::Timestamp::now().as_second() + seconds).to_string()
}

#[tokio::test]
async fn a_revocation_outlasts_leeway_and_clock_skew() {
    let services = Services::start().await;
    let client = services.redis.client();
    let begin = Instant::now();
    let printed = services
        .revoked(&["--jti", "j", "--expires-at", &in_seconds(100), "--reason", "logout"])
        .await;
    assert_eq!(printed, "revoked: stored\n");
    let left = pttl(&client, "blacklist:j").await;
    let whole = 100_000 + MARGIN_MS;
    // The expiry is in whole seconds.
    let passed = i64::try_from(begin.elapsed().as_millis()).unwrap() + 2_000;
    assert!((whole - passed..=whole).contains(&left), "{left}");
    let value: Value = serde_json::from_str(&client.get("blacklist:j").await.unwrap()).unwrap();
    assert_eq!(value["reason"], "logout");
    let events = client.list(OUTBOX).await;
    let event: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!((&event["type"], &event["jti"]), (&"add".into(), &"j".into()));
    assert!(event["expires_at"].as_str().unwrap().ends_with("+00:00"), "{event}");

    // The token has expired, but may still be accepted.
    services.revoked(&["--jti", "late", "--expires-at", &in_seconds(-2)]).await;
    assert!(pttl(&client, "blacklist:late").await > 0);
    // No replica accepts it now.
    let printed = services.revoked(&["--jti", "over", "--expires-at", &in_seconds(-60)]).await;
    assert!(printed.starts_with("nothing to do"), "{printed}");
    assert_eq!(client.get("blacklist:over").await, None);
    assert_eq!(client.list(OUTBOX).await.len(), 2);
}

#[tokio::test]
async fn a_shorter_revocation_never_shortens_a_longer_one() {
    let services = Services::start().await;
    let client = services.redis.client();
    let until = |seconds| in_seconds(seconds);
    services.revoked(&["--jti", "j", "--expires-at", &until(1000)]).await;
    let value = client.get("blacklist:j").await;
    services.revoked(&["--jti", "j", "--expires-at", &until(10)]).await;
    assert!(pttl(&client, "blacklist:j").await > 900_000);
    assert_eq!(client.get("blacklist:j").await, value, "the entry is unchanged");
    services.revoked(&["--jti", "j", "--expires-at", &until(2000)]).await;
    assert!(pttl(&client, "blacklist:j").await > 1_900_000);
    services.revoked(&["--jti", "j"]).await;
    assert_eq!(pttl(&client, "blacklist:j").await, -1);
    services.revoked(&["--jti", "j", "--expires-at", &until(1000)]).await;
    assert_eq!(pttl(&client, "blacklist:j").await, -1, "for ever is for ever");

    let printed = services.revoked(&["--jti", "j", "--remove"]).await;
    assert_eq!(printed, "no longer revoked: stored\n");
    assert_eq!(client.get("blacklist:j").await, None);
    assert!(client.list(OUTBOX).await[0].contains(r#""type": "remove""#));
}

#[tokio::test]
async fn merged_cut_offs_cover_what_either_covers() {
    let services = Services::start().await;
    let client = services.redis.client();
    let cut = async |issued_before: &str, more: &[&str]| {
        let arguments = ["--sub", "u", "--iss", "i", "--issued-before", issued_before];
        services.revoked(&[&arguments[..], more].concat()).await;
    };
    cut("1000", &["--expires-at", &in_seconds(1000)]).await;
    cut("500", &["--expires-at", &in_seconds(5000)]).await;
    let keys = client.keys("blacklist.cutoff:*").await;
    assert_eq!(keys.len(), 1);
    let stored =
        async || -> Value { serde_json::from_str(&client.get(&keys[0]).await.unwrap()).unwrap() };
    assert_eq!(stored().await["issued_before"], "1970-01-01T00:16:40+00:00");
    assert!(pttl(&client, &keys[0]).await > 4_900_000);
    cut("2000", &["--expires-at", &in_seconds(10)]).await;
    assert_eq!(stored().await["issued_before"], "1970-01-01T00:33:20+00:00");
    assert!(pttl(&client, &keys[0]).await > 4_900_000);
    cut("1", &[]).await;
    assert_eq!(pttl(&client, &keys[0]).await, -1);
    assert_eq!(stored().await["expires_at"], Value::Null);

    services.revoked(&["--sub", "u", "--iss", "i", "--remove"]).await;
    assert_eq!(client.get(&keys[0]).await, None);
}

#[tokio::test]
async fn an_earlier_cut_off_covers_a_session_that_a_later_one_excepts() {
    let services = Services::start().await;
    let client = services.redis.client();
    let cut = async |issued_before: &str, more: &[&str]| -> Value {
        let arguments = ["--sub", "u", "--issued-before", issued_before];
        services.revoked(&[&arguments[..], more].concat()).await;
        let keys = client.keys("blacklist.cutoff:*").await;
        serde_json::from_str(&client.get(&keys[0]).await.unwrap()).unwrap()
    };
    cut("1000", &[]).await;
    let joined = cut("2000", &["--except-sid", "s"]).await;
    assert_eq!(joined["issued_before"], "1970-01-01T00:33:20+00:00");
    assert_eq!(joined["except_sid"], "s");
    assert_eq!(joined["except_issued_before"], "1970-01-01T00:16:40+00:00");
    let joined = cut("1500", &["--except-sid", "t"]).await;
    assert_eq!(
        (&joined["except_sid"], &joined["except_issued_before"]),
        (&json!("s"), &json!("1970-01-01T00:25:00+00:00"))
    );
    let joined = cut("2000", &[]).await;
    assert_eq!(
        (&joined["except_sid"], &joined["except_issued_before"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn a_cut_off_covers_a_fast_issuer_and_may_except_one_session() {
    let services = Services::start().await;
    let _relay = Relay::start(&services.config()).await;
    let config = config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
        .with("blacklist.skew", "7s");
    let replica = Portcullis::start(&config).await;
    let now = jiff::Timestamp::now().as_second();
    let session = |sid: &str, issued_at: i64| {
        token::Claims::default().with("sid", sid).with("iat", issued_at)
    };
    let (kept, ahead) = (session("kept", now), session("other", now + 3));
    for claims in [&kept, &ahead] {
        assert_eq!(check(&replica, claims).await, 200);
    }
    let wait = ["--sub", token::SUBJECT, "--wait", "--timeout", "20s"];
    let printed = services.revoked(&[&wait[..], &["--except-sid", "kept"]].concat()).await;
    assert_eq!(check(&replica, &ahead).await, 403, "{printed}");
    assert_eq!(check(&replica, &kept).await, 200);
    let (_, from) = printed.trim_end().split_once("; new logins pass from ").unwrap();
    let from: jiff::Timestamp = from.strip_suffix(" on").unwrap().parse().unwrap();
    let [late, login] = [1, 0].map(|before| session("new", from.as_second() - before));
    eventually::holds("a login counts", async || check(&replica, &login).await == 200).await;
    assert_eq!(check(&replica, &late).await, 403, "the second before is covered");

    services.revoked(&wait).await;
    assert_eq!(check(&replica, &kept).await, 403);
}

#[tokio::test]
async fn a_token_from_a_file_is_revoked_until_expiry_and_never_shown() {
    let services = Services::start().await;
    let client = services.redis.client();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let text = token::Claims::default().with("jti", "of-the-file").hs256();
    std::fs::write(&file, format!("{text}\n")).unwrap();
    let printed = services.revoked(&["--token-file", file.to_str().unwrap()]).await;
    assert!(printed.contains("signature was not checked"), "{printed}");
    assert!(!printed.contains(&text) && !printed.contains("of-the-file"), "{printed}");
    let value: Value =
        serde_json::from_str(&client.get("blacklist:of-the-file").await.unwrap()).unwrap();
    assert_eq!(value["user_id"], token::SUBJECT);
    assert!(pttl(&client, "blacklist:of-the-file").await > 500_000);
}

/// Revokes while the replica of the store is silent.
async fn is_refused_without_a_replica(redis: &RedisSentinel, config: &Config, jti: &str) {
    redis.pause(Member::Second).await;
    let output = revoke(config, &["--jti", jti]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("only 0 of 1 replicas of the store have confirmed"), "{error}");
    redis.unpause(Member::Second).await;
}

#[tokio::test]
async fn an_acknowledged_revocation_survives_a_lost_primary() {
    let redis = RedisSentinel::start_patient().await;
    let sentinels: Vec<_> = redis.sentinels().iter().map(ToString::to_string).collect();
    let config = Config::new([])
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.sentinels", sentinels)
        .with("blacklist.redis.master_name", sentinel::MASTER_NAME);
    let output = revoke(&config, &["--jti", "a"]).await;
    assert!(output.status.success(), "{output:?}");
    let replica = redis.client(Member::Second);
    assert!(replica.get("blacklist:a").await.is_some(), "at once");

    // A replica that does not answer cannot become the primary without the write.
    is_refused_without_a_replica(&redis, &config, "b").await;
    let output = revoke(&config, &["--jti", "b"]).await;
    assert!(output.status.success(), "{output:?}");
    redis.kill(Member::First).await;
    redis.elected(Member::Second).await;
    // A Redis that becomes the primary drops its clients.
    replica.ready().await;
    for key in ["blacklist:a", "blacklist:b"] {
        assert!(replica.get(key).await.is_some(), "{key}");
    }
    // A primary without a replica may have been replaced without knowing it.
    let output = revoke(&config, &["--jti", "c"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(replica.get("blacklist:c").await.is_some(), "the replica of the store has it");
}

#[tokio::test]
async fn without_sentinels_a_replica_of_the_store_also_has_it() {
    let redis = RedisSentinel::start_patient().await;
    let config = Config::new([])
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.url", format!("redis://{}/0", redis.address(Member::First)));
    let output = revoke(&config, &["--jti", "a"]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(redis.client(Member::Second).get("blacklist:a").await.is_some(), "at once");
    is_refused_without_a_replica(&redis, &config, "b").await;
}

#[tokio::test]
async fn an_unavailable_store_is_named_with_exit_code_one() {
    let config = Config::new([])
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.url", "redis://127.0.0.1:1/0");
    let output = revoke(&config, &["--jti", "hush"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot connect to Redis at 127.0.0.1:1"), "{error}");
    assert!(!error.contains("hush"), "{error}");
}
