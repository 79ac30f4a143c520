//! Tests of a wrong wall clock: no revocation is lost or shortened by an offset of some seconds.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use jiff::{Timestamp, ToSpan};
use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Portcullis},
    publisher::{Event, Publisher},
    token::Claims,
    wall_clock::WallClock,
};
use serde_json::json;

use super::{check, config, relay_process::Services};

/// Longer than tokens and entries live.
const FAR: i64 = 90 * 60;

fn publisher(services: &Services) -> Publisher {
    Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient()
}

/// For a replica that sweeps often, and resnapshots only on a cause.
fn replica_config(services: &Services, clock: &WallClock) -> Config {
    let config = config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
        .with("blacklist.redis.resnapshot_interval", "24h")
        .with("blacklist.sweep_interval", "200ms");
    clock.apply(config)
}

async fn is_live(replica: &Portcullis) {
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
}

/// The number of entries of the set, including expired ones that are not swept yet.
async fn entries(replica: &Portcullis) -> u64 {
    replica.admin().revocations().await["entries"].as_u64().unwrap()
}

/// Waits for the `count`th snapshot of Redis with all expiries.
async fn has_read_expiries(replica: &Portcullis, count: usize) {
    let what = format!("all expiries have been read {count} times");
    eventually::holds(&what, async || {
        let log = replica.log();
        let read = |line: &&str| line.contains("was read") && line.contains("AllExpiries");
        log.lines().filter(read).count() >= count
    })
    .await;
}

fn in_minutes(minutes: i64) -> Timestamp {
    Timestamp::now().checked_add(minutes.minutes()).unwrap()
}

#[tokio::test]
async fn a_clock_ahead_by_seconds_loses_no_revocation() {
    let services = Services::start().await;
    let publisher = publisher(&services);
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::new(folder.path(), "clock");
    let replica = Portcullis::start(&replica_config(&services, &clock)).await;
    is_live(&replica).await;
    let [revoked, swept] = std::array::from_fn(|_| Claims::default());
    publisher.revoke(&Event::add(revoked.jti(), in_minutes(60))).await;
    // Only in the stream, so that its removal shows that the sweep has reached the end.
    publisher.publish(&Event::add(swept.jti(), in_minutes(60))).await;
    for claims in [&revoked, &swept] {
        eventually::holds("it is denied", async || check(&replica, claims).await == 403).await;
    }

    clock.set(FAR);
    eventually::holds("the token has expired by the clock of the replica", async || {
        check(&replica, &Claims::default()).await == 401
    })
    .await;
    has_read_expiries(&replica, 1).await;
    eventually::holds("what has expired by it is swept", async || entries(&replica).await == 1)
        .await;
    clock.set(0);
    has_read_expiries(&replica, 2).await;
    eventually::holds("it is denied", async || check(&replica, &revoked).await == 403).await;
    is_live(&replica).await;
    // Sweeps with the corrected clock: a marker is added and swept.
    let marker = Claims::default();
    publisher.publish(&Event::add(marker.jti(), Timestamp::now())).await;
    eventually::holds("the marker is there", async || entries(&replica).await == 2).await;
    eventually::holds("the marker is swept", async || entries(&replica).await == 1).await;
    assert_eq!(check(&replica, &revoked).await, 403);
}

#[tokio::test]
async fn a_start_with_a_slow_clock_shortens_no_entry() {
    let services = Services::start().await;
    let publisher = publisher(&services);
    let revoked = Claims::default();
    let end = in_minutes(30);
    publisher.store(&[Event::add(revoked.jti(), end)]).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = WallClock::new(folder.path(), "clock");
    clock.set(-FAR);
    let replica = Portcullis::start(&replica_config(&services, &clock)).await;
    is_live(&replica).await;
    assert!(replica.admin().is_revoked(revoked.jti()).await);
    assert_eq!(check(&replica, &Claims::default()).await, 401, "it is issued in the future");
    eventually::holds("its expiry by that clock is known", async || {
        services.redis.client().calls().await.contains_key("pttl")
    })
    .await;

    clock.set(0);
    has_read_expiries(&replica, 1).await;
    eventually::holds("it is denied", async || check(&replica, &revoked).await == 403).await;
    assert_eq!(check(&replica, &Claims::default()).await, 200);
    let until = replica.admin().until(revoked.jti()).await;
    assert!(until >= end.as_second() - 2, "{until} is before {end}");
}
