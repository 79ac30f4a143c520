//! Tests of the index of revocations: in a shared keyspace, the cost of a snapshot depends on the
//! number of revocations alone.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Portcullis},
    publisher::{Event, Publisher},
    services::RedisClient,
    token::Claims,
};
use serde_json::json;

use super::{
    check, config,
    relay_process::{Services, revoke},
};

const INDEX: &str = "portcullis:index:blacklist";
/// Foreign keys in the same database.
const FOREIGN: usize = 100_000;

fn index_config(services: &Services) -> Config {
    config("authoritative", json!({"url": services.redis.url(), "snapshot": "index"}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
        .with("blacklist.skew", "0s")
}

async fn is_live(replica: &Portcullis) {
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
}

async fn revoked(config: &Config, arguments: &[&str]) {
    let output = revoke(config, arguments).await;
    assert!(output.status.success(), "{output:?}");
}

/// Keys of other applications.
async fn fill(client: &RedisClient, count: usize) {
    let numbers: Vec<_> = (0..count).collect();
    for batch in numbers.chunks(10_000) {
        let mut commands = redis::pipe();
        for number in batch {
            commands.set(format!("session:{number}"), "of another service").ignore();
        }
        client.try_pipeline(&commands).await.unwrap();
    }
}

/// A replica that has completed the index.
async fn first_replica(config: &Config) -> Portcullis {
    let replica = Portcullis::launch(config).await;
    has_logged(&replica, "the index of revocations in Redis is complete", 1).await;
    is_live(&replica).await;
    replica
}

/// Waits until the log has this text so many times. A scan of a million keys is slow.
async fn has_logged(replica: &Portcullis, words: &str, times: usize) {
    let what = format!("`{words}` is logged {times} times");
    eventually::holds_within(Duration::from_mins(3), &what, async || {
        replica.log().matches(words).count() >= times
    })
    .await;
}

async fn score(client: &RedisClient, member: &str) -> Option<f64> {
    client.command(&["ZSCORE", INDEX, member]).await
}

#[tokio::test]
async fn foreign_keys_are_not_scanned() {
    let services = Services::start().await;
    let client = services.redis.client();
    let config = index_config(&services);
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    let [old, timed, permanent, of_subject, good] = std::array::from_fn(|_| Claims::default());
    let of_subject = of_subject.with("sub", "alice");
    // Written without an index, by an existing publisher.
    publisher.store(&[Event::add_for_an_hour(old.jti())]).await;
    let _first = first_replica(&config).await;
    let in_an_hour = Timestamp::now().checked_add(1.hour()).unwrap().to_string();
    revoked(&config, &["--jti", timed.jti(), "--expires-at", &in_an_hour]).await;
    revoked(&config, &["--jti", permanent.jti()]).await;
    revoked(&config, &["--sub", "alice"]).await;
    // Only the keys have the information.
    let _: u64 = client.command(&["DEL", "outbox:blacklist"]).await;
    fill(&client, FOREIGN).await;

    client.forget_calls().await;
    // The first replica resnapshots seconds after its start.
    let second = Portcullis::start(&config).await;
    is_live(&second).await;
    for claims in [&old, &timed, &permanent, &of_subject] {
        assert_eq!(check(&second, claims).await, 403);
    }
    assert_eq!(check(&second, &good).await, 200);
    let in_55_minutes = Timestamp::now().checked_add(55.minutes()).unwrap().as_second();
    assert!(second.admin().until(timed.jti()).await > in_55_minutes, "with its expiry");
    let calls = client.calls().await;
    let count = |name: &str| calls.get(name).copied().unwrap_or_default();
    assert_eq!(count("scan"), 0, "{calls:?}");
    assert!((1..=20).contains(&count("zscan")), "{calls:?}");
    assert!(count("pttl") <= 20, "cut-offs only: {calls:?}");
}

#[tokio::test]
async fn the_key_decides_and_expired_entries_leave_the_index() {
    let services = Services::start().await;
    let client = services.redis.client();
    let config = index_config(&services);
    let _first = first_replica(&config).await;
    let [deleted, withdrawn, short, kept] = std::array::from_fn(|_| Claims::default());
    let key = |claims: &Claims| format!("blacklist:{}", claims.jti());
    for claims in [&deleted, &withdrawn, &kept] {
        revoked(&config, &["--jti", claims.jti()]).await;
        assert_eq!(score(&client, &key(claims)).await, Some(f64::INFINITY));
    }
    revoked(&config, &["--jti", withdrawn.jti(), "--remove"]).await;
    assert_eq!(score(&client, &key(&withdrawn)).await, None);
    // Last: each revocation takes out what has expired.
    let soon = Timestamp::now().checked_add(4.seconds()).unwrap().to_string();
    revoked(&config, &["--jti", short.jti(), "--expires-at", &soon]).await;
    // An existing publisher, without the index.
    let _: u64 = client.command(&["DEL", &key(&deleted)]).await;
    let _: u64 = client.command(&["DEL", "outbox:blacklist"]).await;
    assert!(score(&client, &key(&deleted)).await.is_some(), "it stays in the index");

    let second = Portcullis::start(&config).await;
    is_live(&second).await;
    assert_eq!(check(&second, &deleted).await, 200, "the key decides");
    assert_eq!(check(&second, &withdrawn).await, 200);
    assert_eq!(check(&second, &kept).await, 403);

    // The key outlives its token by leeway, skew and a second.
    eventually::holds("the key has expired", async || client.get(&key(&short)).await.is_none())
        .await;
    assert!(score(&client, &key(&short)).await.is_some());
    revoked(&config, &["--jti", "another"]).await;
    assert_eq!(score(&client, &key(&short)).await, None, "the next revocation takes it out");
}

#[tokio::test]
async fn a_lost_index_is_rebuilt_from_the_keys() {
    let services = Services::start().await;
    let client = services.redis.client();
    let config = index_config(&services).with("blacklist.redis.resnapshot_interval", "1s");
    let replica = first_replica(&config).await;
    let claims = Claims::default();
    revoked(&config, &["--jti", claims.jti()]).await;
    let _: u64 = client.command(&["DEL", INDEX]).await;
    eventually::holds("the index is complete", async || score(&client, "complete").await.is_some())
        .await;
    let key = format!("blacklist:{}", claims.jti());
    assert_eq!(score(&client, &key).await, Some(f64::INFINITY));
    eventually::holds("it is denied", async || check(&replica, &claims).await == 403).await;
}

/// The number of keys. `PORTCULLIS_TEST_KEYS` sets another one.
const KEYS: usize = 2_000;

#[expect(clippy::disallowed_methods, reason = "the caller of the tests sets the number")]
fn keys() -> usize {
    let keys = std::env::var("PORTCULLIS_TEST_KEYS");
    keys.ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS)
}

/// The time that Redis spent on commands since the last reset, in microseconds, and the top
/// commands.
async fn spent(client: &RedisClient) -> (u64, String) {
    let statistics: String = client.command(&["INFO", "commandstats"]).await;
    let of = |line: &str| {
        let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let usec = figures.split("usec=").nth(1)?.split(',').next()?.parse::<u64>().ok()?;
        Some((usec, name.to_owned()))
    };
    let mut all: Vec<_> = statistics.lines().filter_map(of).collect();
    all.sort();
    let most = all.iter().rev().take(3).map(|(usec, name)| format!("{name} {usec}"));
    (all.iter().map(|(usec, _)| usec).sum(), most.collect::<Vec<_>>().join(", "))
}

#[tokio::test]
async fn the_cost_of_a_snapshot_for_redis_is_printed() {
    let services = Services::start().await;
    let client = services.redis.client();
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    let events: Vec<_> = (0..keys()).map(|n| Event::add_for_an_hour(&format!("{n:032}"))).collect();
    publisher.store(&events).await;
    for snapshot in ["scan", "index"] {
        let config = index_config(&services).with("blacklist.redis.snapshot", snapshot);
        if snapshot == "index" {
            let first = first_replica(&config).await;
            drop(first);
            let memory: u64 = client.command(&["MEMORY", "USAGE", INDEX]).await;
            eprintln!("{} keys: the index takes {memory} bytes", events.len());
        }
        // A start: ids, and seconds later expiries, if they are separate snapshots.
        client.forget_calls().await;
        let replica = Portcullis::launch(&config).await;
        has_read(&replica, 2).await;
        let (usec, most) = spent(&client).await;
        eprintln!(
            "{} keys, {snapshot}, start and second reading: {usec} us ({most})",
            events.len()
        );
        assert_eq!(replica.admin().revocations().await["entries"], events.len());
        drop(replica);

        // Snapshots that find nothing new.
        let config = config.with("blacklist.redis.resnapshot_interval", "2s");
        let replica = Portcullis::launch(&config).await;
        has_read(&replica, 2).await;
        client.forget_calls().await;
        has_read(&replica, 4).await;
        let (usec, most) = spent(&client).await;
        eprintln!("{} keys, {snapshot}, two readings again: {usec} us ({most})", events.len());
    }
}

async fn has_read(replica: &Portcullis, times: usize) {
    has_logged(replica, "everything in Redis was read", times).await;
}
