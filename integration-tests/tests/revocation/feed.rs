//! Tests of the feed from RabbitMQ, with a broker that is unavailable, silent or changed.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Portcullis},
    publisher::{self, Event, OUTBOX, Publisher},
    services::{Link, RabbitMq, Redis, rabbitmq},
    token::Claims,
    undisturbed,
};
use serde_json::{Value, json};

use super::{check, config, is_logged, logs, metric, reaches};

/// The stream, and the dead-letter queue for malformed messages.
const STREAM: &str = "portcullis.blacklist";
const DEAD_LETTERS: &str = "portcullis.blacklist.dead";
/// Messages per batch to make a stream drop its oldest ones.
const PADDING: usize = 200;

/// A broker that Portcullis reaches over a link, and publishers without one; and a store.
struct World {
    rabbitmq: RabbitMq,
    redis: Redis,
    link: Link,
    publisher: Publisher,
}

// === impl World ===

impl World {
    async fn start() -> Self {
        let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
        let link = Link::to(rabbitmq.address()).await;
        let publisher = Publisher::new(&rabbitmq.url(), redis.client()).patient();
        Self { rabbitmq, redis, link, publisher }
    }

    fn config(&self) -> Config {
        config("authoritative", json!({"url": self.redis.url()}))
            .with("blacklist.rabbitmq.url", rabbitmq::url(self.link.address()))
            // Generous, so that a busy machine does not make the broker look silent.
            .with("blacklist.rabbitmq.probe_timeout", "10s")
    }

    /// A replica with a live feed.
    async fn replica(&self) -> Portcullis {
        self.replica_with(&self.config()).await
    }

    /// The same, with another configuration. Readiness is not enough: it does not need the broker.
    async fn replica_with(&self, config: &Config) -> Portcullis {
        let replica = Portcullis::start(config).await;
        reaches(&replica, "live").await;
        replica
    }

    /// Publishes until the stream drops what it had before.
    async fn trim_stream(&self) {
        let padding = json!({"jti": "padding", "padding": "x".repeat(1 << 16)}).to_string();
        let first = self.rabbitmq.first_offset(STREAM).await;
        eventually::holds("the stream drops its oldest messages", || async {
            for _ in 0..PADDING {
                self.publisher.publish_raw(padding.as_bytes()).await;
            }
            self.rabbitmq.first_offset(STREAM).await > first
        })
        .await;
    }
}

fn event(claims: &Claims) -> Event {
    Event::add_for_an_hour(claims.jti())
}

async fn status(portcullis: &Portcullis) -> Value {
    portcullis.admin().revocations().await
}

async fn is_denied_soon(portcullis: &Portcullis, claims: &Claims) {
    eventually::holds("the token is denied", || async { check(portcullis, claims).await == 403 })
        .await;
}

#[tokio::test]
async fn published_events_are_applied_and_garbage_is_harmless() {
    let world = World::start().await;
    let portcullis = world.replica().await;
    let [first, second, third, bare] = std::array::from_fn(|_| Claims::default());
    assert_eq!(check(&portcullis, &first).await, 200);

    world.publisher.publish(&event(&first)).await;
    is_denied_soon(&portcullis, &first).await;
    let garbage: [&[u8]; 6] = [
        b"",
        b"{invalid",
        b"\xff\xfe",
        b"[]",
        br#"{"type":"delete","jti":"a-token-id-that-must-not-be-logged"}"#,
        br#"{"type":"add","jti":""}"#,
    ];
    for message in garbage {
        world.publisher.publish_raw(message).await;
    }
    world.publisher.publish_raw(br#"{"type":"probe","from":"other","n":1}"#).await;
    world.publisher.publish(&event(&second).with_user("user", "logout")).await;
    world.publisher.publish_raw(json!({"jti": bare.jti()}).to_string().as_bytes()).await;
    for claims in [&second, &bare] {
        is_denied_soon(&portcullis, claims).await;
    }
    world.publisher.publish(&Event::remove(first.jti())).await;
    eventually::holds("the token passes", || async { check(&portcullis, &first).await == 200 })
        .await;
    assert_eq!(check(&portcullis, &third).await, 200);

    assert_eq!(metric::<u64>(&portcullis, "ext_authz_mq_events_failed_total").await, 6);
    let received = "ext_authz_mq_events_received_total{type=\"add\"}";
    assert_eq!(metric::<u64>(&portcullis, received).await, 3);
    assert_eq!(metric::<u64>(&portcullis, "ext_authz_mq_connection_status").await, 1);
    eventually::holds("garbage is dead-lettered", || async {
        let queues = world.rabbitmq.queues().await;
        queues.iter().any(|queue| queue.name == DEAD_LETTERS && queue.messages == 6)
    })
    .await;
    logs(&portcullis, "malformed message").await;
    assert!(!is_logged(&portcullis, "must-not-be-logged"));
}

#[tokio::test]
async fn events_during_a_cut_link_are_applied_before_the_feed_is_live() {
    let world = World::start().await;
    // Without the store: the replay of the stream must be sufficient.
    let strict = world.config().with("blacklist.while_stale", "deny");
    let (replica, strict) = tokio::join!(world.replica(), world.replica_with(&strict));
    let missed: Vec<_> = (0..20).map(|_| Claims::default()).collect();
    world.link.cut().await;
    reaches(&replica, "stale").await;
    eventually::holds("it is not ready", || async { !strict.is_ready().await }).await;
    assert!(replica.is_ready().await);
    assert_eq!(metric::<u64>(&replica, "ext_authz_mq_connection_status").await, 0);
    for claims in &missed {
        world.publisher.publish(&event(claims)).await;
    }
    world.link.restore().await;
    eventually::holds("it is ready again", || async {
        let ready = strict.is_ready().await;
        if ready {
            for claims in &missed {
                assert_eq!(check(&strict, claims).await, 403, "ready too early");
            }
        }
        ready
    })
    .await;
    reaches(&replica, "live").await;
    for claims in &missed {
        assert_eq!(check(&replica, claims).await, 403);
    }
    assert_eq!(metric::<u64>(&replica, "ext_authz_mq_reconnects_total").await, 1);
    assert!(!is_logged(&replica, "gap in the stream"), "there was no need for a snapshot");
}

#[tokio::test]
async fn ten_thousand_missed_events_are_replayed_before_the_feed_is_live() {
    const MISSED: usize = 10_000;
    let world = World::start().await;
    let replica = world.replica().await;
    world.link.cut().await;
    reaches(&replica, "stale").await;
    let events: Vec<_> =
        (0..MISSED).map(|number| Event::add_for_an_hour(&format!("missed-{number}"))).collect();
    world.publisher.publish_all(&events).await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(status(&replica).await["entries"], MISSED);
}

#[tokio::test]
async fn a_deleted_or_trimmed_stream_is_repaired_by_a_resnapshot() {
    let world = World::start().await;
    let config = world.config().with("blacklist.rabbitmq.stream_max_age", "1s");
    let replica = world.replica_with(&config).await;
    let [before, deleted, trimmed, after] = std::array::from_fn(|_| Claims::default());
    let gaps = || replica.log().matches("gap in the stream").count();
    world.publisher.revoke(&event(&before)).await;
    is_denied_soon(&replica, &before).await;

    world.link.cut().await;
    reaches(&replica, "stale").await;
    world.publisher.revoke(&event(&deleted)).await;
    world.rabbitmq.delete_queue(STREAM).await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(check(&replica, &deleted).await, 403);
    eventually::holds("the log names the gap", async || gaps() > 0).await;
    let seen = gaps();

    world.link.cut().await;
    reaches(&replica, "stale").await;
    world.publisher.revoke(&event(&trimmed)).await;
    world.trim_stream().await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(check(&replica, &trimmed).await, 403);
    eventually::holds("the log names the second gap", async || gaps() > seen).await;
    world.publisher.publish(&event(&after)).await;
    is_denied_soon(&replica, &after).await;
    assert_eq!(check(&replica, &before).await, 403);
}

#[tokio::test]
async fn a_stream_that_is_deleted_under_a_consumer_is_redeclared() {
    let world = World::start().await;
    let replica = world.replica().await;
    world.rabbitmq.delete_queue(STREAM).await;
    eventually::holds("the stream is there again", || async {
        world.rabbitmq.queues().await.iter().any(|queue| queue.name == STREAM)
    })
    .await;
    reaches(&replica, "live").await;
    let claims = Claims::default();
    world.publisher.publish(&event(&claims)).await;
    is_denied_soon(&replica, &claims).await;
}

#[tokio::test]
async fn the_feed_resumes_after_a_broker_kill_and_no_check_fails() {
    let world = World::start().await;
    let replica = world.replica().await;
    let [before, meanwhile, in_outbox, after, good] = std::array::from_fn(|_| Claims::default());
    world.publisher.publish(&event(&before)).await;
    is_denied_soon(&replica, &before).await;

    // The stream has just been declared, and must survive the kill.
    world.rabbitmq.written().await;
    world.rabbitmq.kill().await;
    reaches(&replica, "stale").await;
    assert!(replica.is_ready().await);
    world.publisher.store(&[event(&meanwhile)]).await;
    assert_eq!(check(&replica, &meanwhile).await, 403, "the store is queried");
    world.publisher.push_to_outbox(&event(&in_outbox).wire()).await;
    is_denied_soon(&replica, &in_outbox).await;
    assert_eq!(check(&replica, &good).await, 200);

    world.rabbitmq.restart().await;
    reaches(&replica, "live").await;
    for claims in [&before, &meanwhile, &in_outbox] {
        assert_eq!(check(&replica, claims).await, 403);
    }
    world.publisher.publish(&event(&after)).await;
    is_denied_soon(&replica, &after).await;
    let in_outbox = world.redis.client().list(OUTBOX).await;
    assert_eq!(in_outbox.len(), 1, "the entry stays in the outbox for the relay");
}

#[tokio::test]
async fn a_steady_stream_of_events_does_not_starve_the_outbox_reader() {
    let world = World::start().await;
    let replica = world.replica().await;
    let in_outbox = Claims::default();
    let publish = async {
        let mut turns = tokio::time::interval(Duration::from_millis(5));
        loop {
            turns.tick().await;
            world.publisher.publish(&event(&Claims::default())).await;
        }
    };
    let look = async {
        world.publisher.push_to_outbox(&event(&in_outbox).wire()).await;
        is_denied_soon(&replica, &in_outbox).await;
    };
    tokio::select! {
        () = look => {}
        () = publish => {}
    }
    reaches(&replica, "live").await;
}

#[tokio::test]
async fn a_silent_broker_is_detected_within_two_seconds() {
    let world = World::start().await;
    let config = world.config().with("blacklist.rabbitmq.probe_timeout", "1500ms");
    let replica = world.replica_with(&config).await;
    eventually::takes_at_most(Duration::from_secs(2), "noticing that it is silent", async || {
        world.link.freeze();
        let frozen = Instant::now();
        reaches(&replica, "stale").await;
        let took = frozen.elapsed();
        assert!(replica.is_ready().await);
        let claims = Claims::default();
        world.publisher.publish(&event(&claims)).await;
        world.link.restore().await;
        is_denied_soon(&replica, &claims).await;
        reaches(&replica, "live").await;
        took
    })
    .await;
}

#[tokio::test]
async fn a_late_broker_is_not_trusted_until_it_has_caught_up() {
    let world = World::start().await;
    // More than three seconds are late, and four count as silence.
    let config = world
        .config()
        .with("blacklist.rabbitmq.probe_interval", "1s")
        .with("blacklist.rabbitmq.probe_timeout", "4s");
    let replica = world.replica_with(&config).await;
    let events: Vec<_> = (0..500).map(|n| Event::add_for_an_hour(&format!("early-{n}"))).collect();
    let revoked = Cell::new(events.len());
    undisturbed::run(&[&replica], async || {
        world.link.restore().await;
        reaches(&replica, "live").await;
        world.link.slow(3300).await;
        world.publisher.publish_all(&events).await;
        let claims = Claims::default();
        world.publisher.revoke(&event(&claims)).await;
        revoked.set(revoked.get() + 1);
        reaches(&replica, "replay").await;
        let lost = status(&replica).await["lost"].clone();
        // On a busy machine, a slow broker may be silent for too long.
        let causes = ["the broker delivers late", "the broker is silent"].map(Value::from);
        assert!(causes.contains(&lost), "{lost}");
        assert_eq!(check(&replica, &claims).await, 403, "the store is queried");
        assert_eq!(check(&replica, &Claims::default()).await, 200);
    })
    .await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(status(&replica).await["entries"], revoked.get());
}

#[tokio::test]
async fn an_exclusive_queue_resnapshots_after_each_interruption() {
    let world = World::start().await;
    let config = world.config().with("blacklist.rabbitmq.topology", "exclusive-queue");
    let replica = Portcullis::start(&config).await;
    let [live, missed, after] = std::array::from_fn(|_| Claims::default());
    world.publisher.publish(&event(&live)).await;
    is_denied_soon(&replica, &live).await;
    let queues = world.rabbitmq.queues().await;
    assert!(queues.iter().all(|queue| queue.name != STREAM), "{queues:?}");

    world.link.cut().await;
    reaches(&replica, "stale").await;
    world.publisher.revoke(&event(&missed)).await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    for claims in [&live, &missed] {
        assert_eq!(check(&replica, claims).await, 403);
    }
    world.publisher.publish(&event(&after)).await;
    is_denied_soon(&replica, &after).await;
}

#[tokio::test]
async fn without_a_broker_at_start_only_ask_redis_serves() {
    let world = World::start().await;
    let [revoked, in_outbox, later] = std::array::from_fn(|_| Claims::default());
    world.publisher.revoke(&event(&revoked)).await;
    world.link.cut().await;
    world.publisher.push_to_outbox(&event(&in_outbox).wire()).await;
    let serve = world.config().with("blacklist.while_stale", "serve");
    let replica = world.config();
    let (replica, mut waiting) =
        tokio::join!(Portcullis::start(&replica), Portcullis::launch(&serve));
    assert_eq!(status(&replica).await["state"], "stale");
    for claims in [&revoked, &in_outbox] {
        assert_eq!(check(&replica, claims).await, 403);
    }
    world.publisher.store(&[event(&later)]).await;
    assert_eq!(check(&replica, &later).await, 403, "a miss is looked up");
    assert_eq!(check(&replica, &Claims::default()).await, 200);
    assert!(!waiting.is_ready().await);
    eventually::holds("it reports the cause", || async {
        status(&waiting).await["lost"] == "the broker cannot be reached"
    })
    .await;
    assert!(!waiting.is_ready().await);

    world.link.restore().await;
    waiting.ready().await;
    assert_eq!(check(&waiting, &later).await, 403);
    reaches(&replica, "live").await;
}

#[tokio::test]
async fn a_replica_is_not_ready_until_it_has_read_the_store() {
    let world = World::start().await;
    let revoked = Claims::default();
    world.publisher.store(&[event(&revoked)]).await;
    let way = Link::to(world.redis.address()).await;
    way.freeze();
    let config = world.config().with("blacklist.redis.url", format!("redis://{}", way.address()));
    let mut replica = Portcullis::launch(&config).await;
    reaches(&replica, "snapshot").await;
    assert!(!replica.is_ready().await);
    way.restore().await;
    replica.ready().await;
    assert_eq!(check(&replica, &revoked).await, 403);
    way.cut().await;
    let published = Claims::default();
    world.publisher.try_publish(&[event(&published).wire().as_bytes()]).await.unwrap();
    is_denied_soon(&replica, &published).await;
    // The loss of the store costs nothing.
    reaches(&replica, "live").await;
}

#[tokio::test]
async fn a_misconfigured_broker_is_reported_with_the_configuration_key() {
    let world = World::start().await;
    let (_connection, channel) = world.rabbitmq.channel().await;
    publisher::declare_exchange(&channel).await.unwrap();
    let cases = [
        ("exchange", json!("amq.direct"), "`blacklist.rabbitmq.exchange`: PRECONDITION_FAILED"),
        ("url", json!(wrong_password(&world)), "`blacklist.rabbitmq.url`: the broker refuses"),
    ];
    for (key, value, message) in cases {
        let config = world.config().with("blacklist.while_stale", "serve");
        let config = config.with(&format!("blacklist.rabbitmq.{key}"), value);
        let replica = Portcullis::launch(&config).await;
        logs(&replica, message).await;
        assert!(!replica.is_ready().await);
    }
}

fn wrong_password(world: &World) -> String {
    rabbitmq::url(world.link.address()).replace(rabbitmq::PASSWORD, "wrong")
}
