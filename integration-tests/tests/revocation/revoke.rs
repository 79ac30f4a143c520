//! Owns `portcullis revoke`: what it leaves in the store, for how long, and what it says.

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
async fn a_revocation_lasts_until_no_clock_and_no_leeway_lets_the_token_pass() {
    let services = Services::start().await;
    let client = services.redis.client();
    let said = services
        .revoked(&["--jti", "j", "--expires-at", &in_seconds(100), "--reason", "logout"])
        .await;
    assert_eq!(said, "revoked: stored\n");
    let left = pttl(&client, "blacklist:j").await;
    let whole = 100_000 + MARGIN_MS;
    assert!((whole - 5_000..=whole).contains(&left), "{left}");
    let value: Value = serde_json::from_str(&client.get("blacklist:j").await.unwrap()).unwrap();
    assert_eq!(value["reason"], "logout");
    let events = client.list(OUTBOX).await;
    let event: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!((&event["type"], &event["jti"]), (&"add".into(), &"j".into()));
    assert!(event["expires_at"].as_str().unwrap().ends_with("+00:00"), "{event}");

    // It has expired, and may still be accepted.
    services.revoked(&["--jti", "late", "--expires-at", &in_seconds(-2)]).await;
    assert!(pttl(&client, "blacklist:late").await > 0);
    // Nobody accepts it any more.
    let said = services.revoked(&["--jti", "over", "--expires-at", &in_seconds(-60)]).await;
    assert!(said.starts_with("nothing to do"), "{said}");
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
    assert_eq!(client.get("blacklist:j").await, value, "nor does it say so");
    services.revoked(&["--jti", "j", "--expires-at", &until(2000)]).await;
    assert!(pttl(&client, "blacklist:j").await > 1_900_000);
    services.revoked(&["--jti", "j"]).await;
    assert_eq!(pttl(&client, "blacklist:j").await, -1);
    services.revoked(&["--jti", "j", "--expires-at", &until(1000)]).await;
    assert_eq!(pttl(&client, "blacklist:j").await, -1, "for ever is for ever");

    let said = services.revoked(&["--jti", "j", "--remove"]).await;
    assert_eq!(said, "no longer revoked: stored\n");
    assert_eq!(client.get("blacklist:j").await, None);
    assert!(client.list(OUTBOX).await[0].contains(r#""type": "remove""#));
}

#[tokio::test]
async fn cut_offs_join_what_either_covers() {
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
async fn the_session_that_a_cut_off_spares_stays_within_what_an_earlier_one_covers() {
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
async fn a_cut_off_covers_an_issuer_that_is_ahead_and_may_spare_one_session() {
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
    let said = services.revoked(&[&wait[..], &["--except-sid", "kept"]].concat()).await;
    assert_eq!(check(&replica, &ahead).await, 403, "{said}");
    assert_eq!(check(&replica, &kept).await, 200);
    let (_, from) = said.trim_end().split_once("; new logins pass from ").unwrap();
    let from: jiff::Timestamp = from.strip_suffix(" on").unwrap().parse().unwrap();
    let [late, login] = [1, 0].map(|before| session("new", from.as_second() - before));
    eventually::holds("a login counts", async || check(&replica, &login).await == 200).await;
    assert_eq!(check(&replica, &late).await, 403, "the second before is covered");

    services.revoked(&wait).await;
    assert_eq!(check(&replica, &kept).await, 403);
}

#[tokio::test]
async fn a_token_from_a_file_is_revoked_until_it_expires_and_is_never_shown() {
    let services = Services::start().await;
    let client = services.redis.client();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let text = token::Claims::default().with("jti", "of-the-file").hs256();
    std::fs::write(&file, format!("{text}\n")).unwrap();
    let said = services.revoked(&["--token-file", file.to_str().unwrap()]).await;
    assert!(said.contains("signature was not checked"), "{said}");
    assert!(!said.contains(&text) && !said.contains("of-the-file"), "{said}");
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
async fn what_is_said_to_be_stored_survives_the_loss_of_the_primary() {
    let redis = RedisSentinel::start().await;
    let sentinels: Vec<_> = redis.sentinels().iter().map(ToString::to_string).collect();
    let config = Config::new([])
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.sentinels", sentinels)
        .with("blacklist.redis.master_name", sentinel::MASTER_NAME);
    let output = revoke(&config, &["--jti", "a"]).await;
    assert!(output.status.success(), "{output:?}");
    let replica = redis.client(Member::Second);
    assert!(replica.get("blacklist:a").await.is_some(), "at once");

    // A replica that does not answer cannot take over with what it has not got.
    is_refused_without_a_replica(&redis, &config, "b").await;
    let output = revoke(&config, &["--jti", "b"]).await;
    assert!(output.status.success(), "{output:?}");
    redis.kill(Member::First).await;
    redis.elected(Member::Second).await;
    // Whoever becomes the primary drops its clients.
    replica.ready().await;
    for key in ["blacklist:a", "blacklist:b"] {
        assert!(replica.get(key).await.is_some(), "{key}");
    }
    // Without a replica it might have been replaced by its only one, and not know.
    let output = revoke(&config, &["--jti", "c"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(replica.get("blacklist:c").await.is_some(), "in force all the same");
}

#[tokio::test]
async fn a_replica_of_the_store_has_it_also_where_no_sentinels_are_known() {
    let redis = RedisSentinel::start().await;
    let config = Config::new([])
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.url", format!("redis://{}/0", redis.address(Member::First)));
    let output = revoke(&config, &["--jti", "a"]).await;
    assert!(output.status.success(), "{output:?}");
    assert!(redis.client(Member::Second).get("blacklist:a").await.is_some(), "at once");
    is_refused_without_a_replica(&redis, &config, "b").await;
}

#[tokio::test]
async fn a_store_that_is_away_is_named_and_the_exit_code_says_that_nothing_is_certain() {
    let config = Config::new([])
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.url", "redis://127.0.0.1:1/0");
    let output = revoke(&config, &["--jti", "hush"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("cannot connect to Redis at 127.0.0.1:1"), "{error}");
    assert!(!error.contains("hush"), "{error}");
}
