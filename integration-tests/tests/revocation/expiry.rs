//! Owns the end of a revoked token: it is refused, second by second, until no leeway and no clock
//! can let it pass any more.

#![expect(clippy::expect_used, reason = "a panic is how a test reports")]

use jiff::{SignedDuration, Timestamp};
use portcullis_integration_tests::{
    eventually,
    portcullis::Portcullis,
    publisher::{Event, Publisher},
    services::{RabbitMq, Redis},
    token::Claims,
};
use serde_json::json;

use super::{check, config, metric};

/// How long the tokens live, and for how long they are accepted after that: the leeway of the tests'
/// issuer.
const LIFETIME: i64 = 4;
const LEEWAY: i64 = 5;
const SKEW: i64 = 2;

/// In which mode, and whether a token that nobody revoked is accepted in its leeway: not where the
/// store decides, whose entries end with their tokens.
const MODES: [(&str, bool); 3] =
    [("authoritative", true), ("redis-on-miss", false), ("redis-always", false)];

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(number).expect("the time is near")
}

/// Waits for the middle of a second, in which it is clear which second it is, and returns it.
async fn middle_of_a_second() -> i64 {
    let now = Timestamp::now();
    let middle = second(now.as_second()) + SignedDuration::from_millis(1500);
    tokio::time::sleep(now.duration_until(middle).unsigned_abs()).await;
    middle.as_second()
}

/// Today's publishers give a key the life of its token, and not a second more.
fn event(claims: &Claims, expires_at: i64) -> Event {
    Event::add(claims.jti(), second(expires_at))
}

#[tokio::test]
async fn a_revoked_token_stays_refused_through_its_expiry_and_its_leeway() {
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
        let mut answers = Vec::new();
        for replica in &replicas {
            let pair = [check(replica, &revoked).await, check(replica, &good).await];
            assert_ne!(pair[0], 200, "{second} s after its expiry");
            answers.push(pair);
        }
        if Timestamp::now().as_second() != second + expires_at {
            eprintln!("{second:>3} s after its expiry: the machine stood still, so nobody knows");
            continue;
        }
        samples += 1;
        let mut line = Vec::new();
        for ([refused, other], (mode, has_leeway)) in answers.into_iter().zip(MODES) {
            let lives = second < if has_leeway { LEEWAY } else { 0 };
            assert_eq!(other == 200, lives, "{mode}, {second} s after its expiry: {other}");
            // Revoked for as long as it would be accepted; then it has expired, and is nothing else.
            let expected = if second < LEEWAY && (has_leeway || second < 0) { 403 } else { 401 };
            line.push(format!("{mode} {refused} (another token {other})"));
            if mode == "authoritative" || second >= LEEWAY {
                assert_eq!(refused, expected, "{mode}, {second} s after its expiry");
            }
        }
        eprintln!("{second:>3} s after its expiry: {}", line.join(", "));
    }
    assert!(samples > LIFETIME, "{samples} seconds are too few to tell");
}

#[tokio::test]
async fn an_expiry_that_stands_for_none_is_none_and_one_that_is_over_is_counted() {
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
