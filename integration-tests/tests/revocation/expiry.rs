//! Tests of the expiry of a revoked token: it is refused in every second until neither leeway nor
//! clock skew can let it pass.

#![expect(clippy::expect_used, reason = "a panic is how a test reports")]

use jiff::{SignedDuration, Timestamp};
use portcullis_integration_tests::{
    eventually,
    portcullis::Portcullis,
    publisher::{Event, KEY_PREFIX, Publisher},
    services::{Link, RabbitMq, Redis},
    token::Claims,
};
use serde_json::json;

use super::{check, config, metric};

/// The lifetime of the tokens, and how long they are accepted after that: the leeway of the tests'
/// issuer.
const LIFETIME: i64 = 10;
const LEEWAY: i64 = 5;
const SKEW: i64 = 2;

/// The mode, and whether a token that is not revoked is accepted in its leeway: not where the
/// store decides, whose keys expire with their tokens.
const MODES: [(&str, bool); 3] =
    [("authoritative", true), ("redis-on-miss", false), ("redis-always", false)];

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(number).expect("the time is near")
}

/// Waits for the middle of a second, so that the second is unambiguous, and returns it.
async fn middle_of_a_second() -> i64 {
    let now = Timestamp::now();
    let middle = second(now.as_second()) + SignedDuration::from_millis(1500);
    tokio::time::sleep(now.duration_until(middle).unsigned_abs()).await;
    middle.as_second()
}

/// Existing publishers give a key exactly the lifetime of its token.
fn event(claims: &Claims, expires_at: i64) -> Event {
    Event::add(claims.jti(), second(expires_at))
}

#[tokio::test]
async fn a_revoked_token_is_refused_through_expiry_and_leeway() {
    let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
    let mut replicas = Vec::new();
    for (mode, _) in MODES {
        let mut config =
            config(mode, json!({"url": redis.url()})).with("blacklist.skew", format!("{SKEW}s"));
        if mode == "authoritative" {
            config = config.with("blacklist.rabbitmq.url", rabbitmq.url());
        }
        replicas.push(Portcullis::start(&config).await);
    }
    let publisher = Publisher::new(&rabbitmq.url(), redis.client()).patient();
    let expires_at = middle_of_a_second().await + LIFETIME;
    let [revoked, good] = std::array::from_fn(|_| Claims::default().with("exp", expires_at));
    publisher.revoke(&event(&revoked, expires_at)).await;
    eventually::holds("it is refused", || async { check(&replicas[0], &revoked).await == 403 })
        .await;

    let mut samples = 0;
    loop {
        let second = middle_of_a_second().await - expires_at;
        if second > LEEWAY + SKEW + 1 {
            break;
        }
        let Some(answers) = sample(&replicas, &revoked, &good, second + expires_at).await else {
            eprintln!("{second:>3} s after its expiry: the machine was stalled, no result");
            continue;
        };
        samples += 1;
        let mut line = Vec::new();
        for ([refused, other], (mode, has_leeway)) in answers.into_iter().zip(MODES) {
            let lives = second < if has_leeway { LEEWAY } else { 0 };
            assert_eq!(other == 200, lives, "{mode}, {second} s after its expiry: {other}");
            // Denied as revoked as long as it would be accepted; then denied as expired.
            let expected = if second < LEEWAY && (has_leeway || second < 0) { 403 } else { 401 };
            line.push(format!("{mode} {refused} (another token {other})"));
            if mode == "authoritative" || second >= LEEWAY {
                assert_eq!(refused, expected, "{mode}, {second} s after its expiry");
            }
        }
        eprintln!("{second:>3} s after its expiry: {}", line.join(", "));
    }
    assert!(samples > LEEWAY, "{samples} seconds are too few samples");
}

/// The answers of each replica to both tokens in this second, of which the first is refused. None
/// if the second is over, or if a replica is cut off from what its answers depend on.
async fn sample(
    replicas: &[Portcullis],
    revoked: &Claims,
    good: &Claims,
    second: i64,
) -> Option<Vec<[u16; 2]>> {
    let were_sound = are_sound(replicas).await;
    let mut answers = Vec::new();
    for replica in replicas {
        let pair = [check(replica, revoked).await, check(replica, good).await];
        assert_ne!(pair[0], 200, "at {second}");
        answers.push(pair);
    }
    let is_in_time = Timestamp::now().as_second() == second;
    (were_sound && is_in_time && are_sound(replicas).await).then_some(answers)
}

/// Whether the first replica is live, and all have a connection to Redis.
async fn are_sound(replicas: &[Portcullis]) -> bool {
    for replica in replicas {
        if metric::<u8>(replica, "portcullis_redis_up").await != 1 {
            return false;
        }
    }
    replicas[0].admin().revocations().await["state"] == "live"
}

#[tokio::test]
async fn a_placeholder_expiry_is_no_expiry_and_a_past_one_is_counted() {
    let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
    let config = config("authoritative", json!({"url": redis.url()}))
        .with("blacklist.rabbitmq.url", rabbitmq.url());
    let replica = Portcullis::start(&config).await;
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
    let publisher = Publisher::new(&rabbitmq.url(), redis.client()).patient();
    let [zero, epoch] = std::array::from_fn(|_| Claims::default());
    for event in [
        json!({"jti": zero.jti(), "exp": 0}),
        json!({"jti": epoch.jti(), "expires_at": "1970-01-01T00:00:00Z"}),
        json!({"jti": "over", "expires_at": "2020-01-01T00:00:00"}),
    ] {
        publisher.publish_raw(event.to_string().as_bytes()).await;
    }
    for claims in [&zero, &epoch] {
        eventually::holds("it is refused", || async { check(&replica, claims).await == 403 }).await;
    }
    eventually::holds("all are counted", || async {
        let unset: u64 = metric(&replica, "portcullis_blacklist_unset_expiry_total").await;
        let over: u64 = metric(&replica, "portcullis_blacklist_over_total").await;
        (unset, over) == (2, 1)
    })
    .await;
}

#[tokio::test]
async fn a_key_counts_although_the_event_has_an_expiry_in_the_past() {
    let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), Redis::start());
    let way = Link::to(redis.address()).await;
    way.cut().await;
    let config = config("authoritative", json!({"url": format!("redis://{}", way.address())}))
        .with("blacklist.rabbitmq.url", rabbitmq.url());
    let replica = Portcullis::launch(&config).await;
    eventually::holds("the broker is connected", || async {
        metric::<u64>(&replica, "ext_authz_mq_connection_status").await == 1
    })
    .await;
    let claims = Claims::default();
    let publisher = Publisher::new(&rabbitmq.url(), redis.client()).patient();
    let over = json!({"jti": claims.jti(), "expires_at": "2020-01-01T00:00:00"});
    publisher.publish_raw(over.to_string().as_bytes()).await;
    eventually::holds("the event is applied", || async {
        replica.admin().revocations().await["entries"] == 1
    })
    .await;
    let key = format!("{KEY_PREFIX}{}", claims.jti());
    let _: String = redis.client().command(&["SETEX", &key, "3600", "{}"]).await;
    way.restore().await;
    eventually::holds("it is ready", || replica.is_ready()).await;
    assert_eq!(check(&replica, &claims).await, 403, "the first reading names it");
}

#[tokio::test]
async fn a_token_that_expires_during_a_redis_query_is_refused() {
    let redis = Redis::start().await;
    let config = config("redis-always", json!({"url": redis.url(), "timeout": "5s"}));
    let replica = Portcullis::start(&config).await;
    // A keeper that is stalled during the pause loses the connection.
    eventually::succeeds(5, "it is refused as expired", async || {
        let expires_at = middle_of_a_second().await + 1;
        let claims = Claims::default().with("exp", expires_at);
        // The token lives for half a second, and the answer takes longer.
        let _: String = redis.client().command(&["CLIENT", "PAUSE", "700", "ALL"]).await;
        let status = check(&replica, &claims).await;
        assert_ne!(status, 200);
        if status == 401 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}
