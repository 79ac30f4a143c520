//! Tests of resnapshots: the next snapshot of Redis finds what a live replica has missed.

use std::time::{Duration, Instant};

use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Portcullis},
    publisher::{EXCHANGE, Event, Publisher},
    token::Claims,
    undisturbed,
};
use serde_json::json;

use super::{check, config, metric, reaches, relay_process::Services};

const STREAM: &str = "portcullis.blacklist";
/// What a replica logs when the broker blocks it.
const ALARM: &str = "the broker has an alarm";
/// After this time a silent broker counts as lost; longer than by default, for a busy machine.
const SILENCE: Duration = Duration::from_secs(4);

fn publisher(services: &Services) -> Publisher {
    Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient()
}

fn replica_config(services: &Services, interval: &str) -> Config {
    config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
        .with("blacklist.redis.resnapshot_interval", interval)
}

#[tokio::test]
async fn a_lost_binding_is_restored_and_its_events_are_found() {
    let services = Services::start().await;
    let replica = Portcullis::start(&replica_config(&services, "2s")).await;
    reaches(&replica, "live").await;
    let publisher = publisher(&services);
    services.rabbitmq.unbind(STREAM, EXCHANGE).await;
    let missed = Claims::default();
    publisher.revoke(&Event::add_for_an_hour(missed.jti())).await;
    eventually::holds("the token is denied", async || check(&replica, &missed).await == 403).await;
    // Events that are only in the stream are delivered after the bind.
    let streamed = Claims::default();
    let event = Event::add_for_an_hour(streamed.jti());
    eventually::holds("the stream is bound again", async || {
        publisher.publish(&event).await;
        check(&replica, &streamed).await == 403
    })
    .await;
}

#[tokio::test]
async fn an_expiry_in_the_past_is_corrected_by_the_key() {
    let services = Services::start().await;
    let replica = Portcullis::start(&replica_config(&services, "1s")).await;
    reaches(&replica, "live").await;
    let publisher = publisher(&services);
    let claims = Claims::default();
    // As from a publisher with a wrong clock or time zone.
    let event = json!({"type": "add", "jti": claims.jti(), "expires_at": "2020-01-01T00:00:00Z"});
    publisher.publish_raw(event.to_string().as_bytes()).await;
    publisher.store(&[Event::add_for_an_hour(claims.jti())]).await;
    eventually::holds("the token is denied", async || check(&replica, &claims).await == 403).await;
}

#[tokio::test]
async fn a_broker_alarm_affects_neither_the_feed_nor_the_store() {
    let services = Services::start().await;
    let publisher = publisher(&services);
    let events: Vec<_> = (0..2_000).map(|n| Event::add_for_an_hour(&n.to_string())).collect();
    publisher.store(&events).await;
    let config = replica_config(&services, "1h");
    let config = config.with("blacklist.rabbitmq.probe_timeout", format!("{}s", SILENCE.as_secs()));
    let replica = Portcullis::start(&config).await;
    reaches(&replica, "live").await;
    eventually::holds("expiries are known", async || {
        services.redis.client().calls().await.get("pttl").is_some_and(|calls| *calls >= 2_000)
    })
    .await;
    undisturbed::run(&[&replica], async || {
        services.rabbitmq.clear_alarm().await;
        eventually::holds("no alarm is left", async || {
            let log = replica.log();
            log.matches("alarm is over").count() == log.matches(ALARM).count()
        })
        .await;
        reaches(&replica, "live").await;
        stays_live_during_an_alarm(&services, &replica).await;
    })
    .await;
    services.rabbitmq.clear_alarm().await;
    let after = Claims::default();
    publisher.publish(&Event::add_for_an_hour(after.jti())).await;
    eventually::holds("the token is denied", async || check(&replica, &after).await == 403).await;
    reaches(&replica, "live").await;
}

/// Raises an alarm and watches the replica for longer than the broker may be silent.
async fn stays_live_during_an_alarm(services: &Services, replica: &Portcullis) {
    let alarms = || replica.log().matches(ALARM).count();
    let before = alarms();
    services.rabbitmq.raise_alarm().await;
    eventually::holds("the broker blocks the replica", async || alarms() > before).await;
    services.redis.client().forget_calls().await;
    let reconnects: u64 = metric(replica, "ext_authz_mq_reconnects_total").await;
    let begin = Instant::now();
    while begin.elapsed() < SILENCE + Duration::from_secs(2) {
        assert_eq!(replica.admin().revocations().await["state"], "live");
        assert_eq!(check(replica, &Claims::default()).await, 200);
    }
    assert_eq!(metric::<u64>(replica, "ext_authz_mq_reconnects_total").await, reconnects);
    let calls = services.redis.client().calls().await;
    assert_eq!((calls.get("scan"), calls.get("pttl"), calls.get("exists")), (None, None, None));
}

#[tokio::test]
async fn a_replica_that_may_not_publish_reports_it_and_is_not_live() {
    let services = Services::start().await;
    let replica = Portcullis::start(&replica_config(&services, "1h")).await;
    reaches(&replica, "live").await;
    // Probes go to the default exchange.
    services.rabbitmq.restrict_writing("^portcullis").await;
    services.rabbitmq.close_connections().await;
    eventually::holds("the log names the refusal", async || {
        replica.log().contains("ACCESS_REFUSED")
    })
    .await;
    assert!(replica.is_ready().await, "Redis is queried");
    services.rabbitmq.restrict_writing(".*").await;
    reaches(&replica, "live").await;
}
