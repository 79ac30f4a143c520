//! Owns what reaches a replica through RabbitMQ, and what it makes of a broker that is away, silent,
//! or not what it was.

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
};
use serde_json::{Value, json};

use super::{check, config, is_logged, metric};

/// The stream, and where messages go that are no events.
const STREAM: &str = "portcullis.blacklist";
const DEAD_LETTERS: &str = "portcullis.blacklist.dead";
/// Messages that are published at once where a stream is to drop its oldest ones.
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
            // Only a broker that means it is silent, however busy the machine.
            .with("blacklist.rabbitmq.probe_timeout", "10s")
    }

    /// A replica that is fed by the broker.
    async fn replica(&self) -> Portcullis {
        self.replica_with(&self.config()).await
    }

    /// The same, configured otherwise. To be ready is not enough: it may be so without the broker.
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

async fn reaches(portcullis: &Portcullis, state: &str) {
    eventually::holds(&format!("the feed is {state}"), || async {
        status(portcullis).await["state"] == state
    })
    .await;
}

async fn is_denied_soon(portcullis: &Portcullis, claims: &Claims) {
    eventually::holds("the token is denied", || async { check(portcullis, claims).await == 403 })
        .await;
}

#[tokio::test]
async fn what_is_published_is_denied_and_garbage_in_between_harms_nothing() {
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
    world.publisher.publish_raw(br#"{"type":"probe","from":"somebody","n":1}"#).await;
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
    eventually::holds("garbage is put aside", || async {
        let queues = world.rabbitmq.queues().await;
        queues.iter().any(|queue| queue.name == DEAD_LETTERS && queue.messages == 6)
    })
    .await;
    let mut portcullis = portcullis;
    assert!(is_logged(&mut portcullis, "a message is no event"));
    assert!(!is_logged(&mut portcullis, "must-not-be-logged"));
}

#[tokio::test]
async fn what_was_published_while_the_link_was_cut_is_denied_once_the_feed_is_live() {
    let world = World::start().await;
    // Without the store's help: what is read on from the stream must be enough.
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
    let mut replica = replica;
    assert!(!is_logged(&mut replica, "no longer holds"), "there was no need for a snapshot");
}

#[tokio::test]
async fn ten_thousand_missed_events_are_made_good_quickly() {
    let world = World::start().await;
    let replica = world.replica().await;
    let expected = Cell::new(0);
    eventually::takes_at_most(Duration::from_secs(2), "making them good", async || {
        world.link.cut().await;
        reaches(&replica, "stale").await;
        let missed = expected.get()..expected.get() + 10_000;
        expected.set(missed.end);
        let events: Vec<_> =
            missed.map(|n| Event::add_for_an_hour(&format!("missed-{n}"))).collect();
        world.publisher.publish_all(&events).await;
        world.link.restore().await;
        let begin = Instant::now();
        reaches(&replica, "live").await;
        let took = begin.elapsed();
        assert_eq!(status(&replica).await["entries"], expected.get());
        took
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_was_deleted_or_trimmed_is_made_good_by_the_store() {
    let world = World::start().await;
    let config = world.config().with("blacklist.rabbitmq.stream_max_age", "1s");
    let mut replica = world.replica_with(&config).await;
    let [before, deleted, trimmed, after] = std::array::from_fn(|_| Claims::default());
    world.publisher.revoke(&event(&before)).await;
    is_denied_soon(&replica, &before).await;

    world.link.cut().await;
    reaches(&replica, "stale").await;
    world.publisher.revoke(&event(&deleted)).await;
    world.rabbitmq.delete_queue(STREAM).await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(check(&replica, &deleted).await, 403);
    assert!(is_logged(&mut replica, "no longer holds"));
    let seen = replica.process().output().matches("no longer holds").count();

    world.link.cut().await;
    reaches(&replica, "stale").await;
    world.publisher.revoke(&event(&trimmed)).await;
    world.trim_stream().await;
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(check(&replica, &trimmed).await, 403);
    assert!(replica.process().output().matches("no longer holds").count() > seen);
    world.publisher.publish(&event(&after)).await;
    is_denied_soon(&replica, &after).await;
    assert_eq!(check(&replica, &before).await, 403);
}

#[tokio::test]
async fn a_stream_that_is_deleted_while_it_is_read_is_made_again() {
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
async fn a_broker_that_was_killed_is_read_on_when_it_is_back_and_no_check_fails_meanwhile() {
    let world = World::start().await;
    let replica = world.replica().await;
    let [before, meanwhile, parked, after, good] = std::array::from_fn(|_| Claims::default());
    world.publisher.publish(&event(&before)).await;
    is_denied_soon(&replica, &before).await;

    // The stream has just been made, and must survive.
    world.rabbitmq.written().await;
    world.rabbitmq.kill().await;
    reaches(&replica, "stale").await;
    assert!(replica.is_ready().await);
    world.publisher.store(&[event(&meanwhile)]).await;
    assert_eq!(check(&replica, &meanwhile).await, 403, "the store is asked");
    world.publisher.park(&event(&parked).wire()).await;
    is_denied_soon(&replica, &parked).await;
    assert_eq!(check(&replica, &good).await, 200);

    world.rabbitmq.restart().await;
    reaches(&replica, "live").await;
    for claims in [&before, &meanwhile, &parked] {
        assert_eq!(check(&replica, claims).await, 403);
    }
    world.publisher.publish(&event(&after)).await;
    is_denied_soon(&replica, &after).await;
    let parked = world.redis.client().list(OUTBOX).await;
    assert_eq!(parked.len(), 1, "what is parked is for the relay to take");
}

#[tokio::test]
async fn a_steady_stream_of_events_does_not_keep_parked_ones_from_being_read() {
    let world = World::start().await;
    let replica = world.replica().await;
    let parked = Claims::default();
    let publish = async {
        let mut turns = tokio::time::interval(Duration::from_millis(5));
        loop {
            turns.tick().await;
            world.publisher.publish(&event(&Claims::default())).await;
        }
    };
    let look = async {
        world.publisher.park(&event(&parked).wire()).await;
        is_denied_soon(&replica, &parked).await;
    };
    tokio::select! {
        () = look => {}
        () = publish => {}
    }
    assert_eq!(status(&replica).await["state"], "live");
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_noticed_within_two_seconds() {
    let world = World::start().await;
    let config = world.config().with("blacklist.rabbitmq.probe_timeout", "1500ms");
    let replica = world.replica_with(&config).await;
    eventually::takes_at_most(Duration::from_secs(2), "noticing that it is silent", async || {
        world.link.freeze();
        let frozen = Instant::now();
        reaches(&replica, "stale").await;
        let took = frozen.elapsed();
        let staleness: f64 = metric(&replica, "portcullis_blacklist_staleness_seconds").await;
        assert!(staleness > 1.0, "counted from the last sign of life: {staleness}");
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
async fn a_broker_that_delivers_late_is_not_relied_upon_until_it_has_caught_up() {
    let world = World::start().await;
    // More than three seconds are late, and four are silence.
    let config = world
        .config()
        .with("blacklist.rabbitmq.probe_interval", "1s")
        .with("blacklist.rabbitmq.probe_timeout", "4s");
    let replica = world.replica_with(&config).await;
    world.link.slow(3300).await;
    let events: Vec<_> = (0..500).map(|n| Event::add_for_an_hour(&format!("early-{n}"))).collect();
    world.publisher.publish_all(&events).await;
    let claims = Claims::default();
    world.publisher.revoke(&event(&claims)).await;
    reaches(&replica, "replay").await;
    assert_eq!(status(&replica).await["lost"], "the broker delivers late");
    assert_eq!(check(&replica, &claims).await, 403, "the store is asked");
    assert_eq!(check(&replica, &Claims::default()).await, 200);
    world.link.restore().await;
    reaches(&replica, "live").await;
    assert_eq!(status(&replica).await["entries"], 501);
}

#[tokio::test]
async fn a_queue_of_its_own_is_made_good_by_the_store_after_each_interruption() {
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
async fn a_replica_that_starts_without_the_broker_serves_only_where_the_store_is_asked() {
    let world = World::start().await;
    let [revoked, parked, later] = std::array::from_fn(|_| Claims::default());
    world.publisher.revoke(&event(&revoked)).await;
    world.link.cut().await;
    world.publisher.park(&event(&parked).wire()).await;
    let serve = world.config().with("blacklist.while_stale", "serve");
    let replica = world.config();
    let (replica, mut waiting) =
        tokio::join!(Portcullis::start(&replica), Portcullis::launch(&serve));
    assert_eq!(status(&replica).await["state"], "stale");
    for claims in [&revoked, &parked] {
        assert_eq!(check(&replica, claims).await, 403);
    }
    world.publisher.store(&[event(&later)]).await;
    assert_eq!(check(&replica, &later).await, 403, "a miss is looked up");
    assert_eq!(check(&replica, &Claims::default()).await, 200);
    assert!(!waiting.is_ready().await);
    eventually::holds("it says why", || async {
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
async fn a_replica_that_starts_without_the_store_is_not_ready_until_it_is_there() {
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
    assert_eq!(status(&replica).await["state"], "live", "the loss of the store costs nothing");
}

#[tokio::test]
async fn what_is_not_as_it_must_be_at_the_broker_is_named_with_its_key() {
    let world = World::start().await;
    let (_connection, channel) = world.rabbitmq.channel().await;
    publisher::declare_exchange(&channel).await.unwrap();
    let cases = [
        ("exchange", json!("amq.direct"), "`blacklist.rabbitmq.exchange`: PRECONDITION_FAILED"),
        ("url", json!(wrong_password(&world)), "`blacklist.rabbitmq.url`: the broker refuses"),
    ];
    for (key, value, complaint) in cases {
        let config = world.config().with("blacklist.while_stale", "serve");
        let config = config.with(&format!("blacklist.rabbitmq.{key}"), value);
        let mut replica = Portcullis::launch(&config).await;
        eventually::holds(complaint, || std::future::ready(is_logged(&mut replica, complaint)))
            .await;
        assert!(!replica.is_ready().await);
    }
}

fn wrong_password(world: &World) -> String {
    rabbitmq::url(world.link.address()).replace(rabbitmq::PASSWORD, "wrong")
}
