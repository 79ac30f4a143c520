//! Tests of the modes: Redis is queried never, on a miss, or always; it is available, unavailable,
//! or moved.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::Portcullis,
    services::{RabbitMq, Redis, RedisClient, RedisSentinel, sentinel},
    token::Claims,
    undisturbed,
};
use serde_json::{Value, json};

use super::{check, config, is_logged, logs, metric, reaches};

/// A Portcullis whose only route needs a token.
async fn start(mode: &str, redis: Value) -> Portcullis {
    Portcullis::start(&config(mode, redis)).await
}

fn settings(redis: &Redis) -> Value {
    json!({"url": redis.url()})
}

/// As existing publishers write it.
async fn revoke(redis: &RedisClient, claims: &Claims) {
    let key = format!("blacklist:{}", claims.jti());
    let value = r#"{"user_id":"u","reason":"logout","blacklisted_at":"2026-11-22T03:32:40.069443","expires_at":"2033-05-18T03:33:19+00:00"}"#;
    let _: String = redis.command(&["SETEX", &key, "3600", value]).await;
}

async fn restore(redis: &RedisClient, claims: &Claims) {
    let _: u64 = redis.command(&["DEL", &format!("blacklist:{}", claims.jti())]).await;
}

async fn lookups(portcullis: &Portcullis, result: &str) -> u64 {
    metric(portcullis, &format!("portcullis_redis_lookups_total{{result=\"{result}\"}}")).await
}

#[tokio::test]
async fn a_hit_in_redis_is_added_to_the_set() {
    let redis = Redis::start().await;
    let portcullis = start("redis-on-miss", settings(&redis)).await;
    let (revoked, other) = (Claims::default(), Claims::default());
    assert_eq!(check(&portcullis, &revoked).await, 200);
    revoke(&redis.client(), &revoked).await;
    assert_eq!(check(&portcullis, &revoked).await, 403);
    restore(&redis.client(), &revoked).await;
    assert_eq!(check(&portcullis, &revoked).await, 403, "it was put on the set");
    assert_eq!(check(&portcullis, &other).await, 200);
    assert_eq!(lookups(&portcullis, "found").await, 1);
    assert_eq!(lookups(&portcullis, "clear").await, 2);
    assert_eq!(metric::<u8>(&portcullis, "portcullis_redis_up").await, 1);
}

#[tokio::test]
async fn in_redis_always_an_answer_counts_for_one_request() {
    let redis = Redis::start().await;
    let portcullis = start("redis-always", settings(&redis)).await;
    let claims = Claims::default();
    for _ in 0..2 {
        assert_eq!(check(&portcullis, &claims).await, 200);
        revoke(&redis.client(), &claims).await;
        assert_eq!(check(&portcullis, &claims).await, 403);
        restore(&redis.client(), &claims).await;
    }
}

#[tokio::test]
async fn a_query_without_redis_is_denied_until_redis_is_back() {
    for mode in ["redis-on-miss", "redis-always"] {
        let redis = Redis::start().await;
        let portcullis = start(mode, settings(&redis)).await;
        let (claims, revoked) = (Claims::default(), Claims::default());
        revoke(&redis.client(), &revoked).await;
        assert_eq!(check(&portcullis, &revoked).await, 403);
        assert_eq!(check(&portcullis, &claims).await, 200);

        redis.kill().await;
        eventually::holds("the loss is noticed", || async {
            metric::<u8>(&portcullis, "portcullis_redis_up").await == 0
        })
        .await;
        assert_eq!(check(&portcullis, &claims).await, 500, "{mode}");
        assert!(lookups(&portcullis, "error").await >= 1, "{mode}");
        let known = if mode == "redis-on-miss" { 403 } else { 500 };
        assert_eq!(check(&portcullis, &revoked).await, known, "{mode}");

        redis.restart().await;
        eventually::holds("it is queried again", || async {
            check(&portcullis, &claims).await == 200
        })
        .await;
        assert_eq!(check(&portcullis, &revoked).await, 403, "{mode}");
    }
}

#[tokio::test]
async fn a_silent_redis_costs_one_timeout_and_later_requests_nothing() {
    let redis = Redis::start().await;
    let mut settings = settings(&redis);
    let timeout = Duration::from_millis(500);
    for key in ["timeout", "connect_timeout"] {
        settings[key] = json!("500ms");
    }
    let portcullis = start("redis-on-miss", settings).await;
    let claims = Claims::default();
    eventually::holds("Redis is queried", async || check(&portcullis, &claims).await == 200).await;
    redis.pause().await;
    eventually::holds("the silence is noticed", || async {
        assert_eq!(check(&portcullis, &claims).await, 500);
        metric::<u8>(&portcullis, "portcullis_redis_up").await == 0
    })
    .await;
    let begin = Instant::now();
    for _ in 0..50 {
        assert_eq!(check(&portcullis, &claims).await, 500);
    }
    assert!(begin.elapsed() < timeout * 50, "each has cost its timeout");
    redis.unpause().await;
}

#[tokio::test]
async fn a_live_set_is_authoritative_and_redis_is_not_queried() {
    let (redis, rabbitmq) = (Redis::start().await, RabbitMq::start().await);
    let (early, other) = (Claims::default(), Claims::default());
    revoke(&redis.client(), &early).await;
    let config =
        config("authoritative", settings(&redis)).with("blacklist.rabbitmq.url", rabbitmq.url());
    let config = config.with("blacklist.rabbitmq.probe_timeout", "10s");
    let portcullis = Portcullis::start(&config).await;
    reaches(&portcullis, "live").await;
    // The expiry of the early one is read a little later.
    eventually::holds("all that was left out has been read", async || {
        redis.client().calls().await.contains_key("pttl")
    })
    .await;
    undisturbed::run(&[&portcullis], async || {
        reaches(&portcullis, "live").await;
        // It was not published: only a query to Redis can find it, and puts it on the set.
        let late = Claims::default();
        revoke(&redis.client(), &late).await;
        redis.client().forget_calls().await;
        for _ in 0..100 {
            assert_eq!(check(&portcullis, &early).await, 403);
            assert_eq!(check(&portcullis, &late).await, 200);
            assert_eq!(check(&portcullis, &other).await, 200);
        }
        let calls = redis.client().calls().await;
        // The outbox is read periodically, with or without requests.
        let lookups = ["pttl", "mget", "get", "exists"];
        assert!(lookups.iter().all(|call| !calls.contains_key(*call)), "{calls:?}");
    })
    .await;
}

#[tokio::test]
async fn the_first_snapshot_revokes_at_once_with_the_expiries_of_redis() {
    let redis = Redis::start().await;
    let (revoked, lasting) = (Claims::default(), Claims::default());
    revoke(&redis.client(), &revoked).await;
    let key = format!("blacklist:{}", lasting.jti());
    let _: String = redis.client().command(&["SET", &key, "{}"]).await;
    let began = Timestamp::now().as_second();
    let portcullis = start("redis-on-miss", settings(&redis)).await;
    assert_eq!(check(&portcullis, &revoked).await, 403);
    assert_eq!(check(&portcullis, &lasting).await, 403);
    let admin = portcullis.admin();
    let until = async |claims: &Claims| {
        let path = format!("/v1/revocations/{}", claims.jti());
        admin.call(Request::get(&path)).await.json()["until"].clone()
    };
    // Before that, each entry has the longest lifetime of a token.
    eventually::holds("it is known how long", async || until(&lasting).await.is_null()).await;
    // The lifetime of the key, plus leeway and skew.
    let lifetime = until(&revoked).await.as_i64().unwrap_or_default() - began;
    assert!((3_600..3_700).contains(&lifetime), "{lifetime}");
    for claims in [&revoked, &lasting] {
        assert_eq!(check(&portcullis, claims).await, 403);
    }
    assert_eq!(lookups(&portcullis, "found").await, 0, "no query was necessary");
}

#[tokio::test]
async fn a_new_primary_is_queried_after_the_election() {
    let redis = RedisSentinel::start_patient().await;
    let sentinels: Vec<_> = redis.sentinels().iter().map(ToString::to_string).collect();
    let settings = json!({
        "sentinels": sentinels,
        "master_name": sentinel::MASTER_NAME,
    });
    let portcullis = start("redis-on-miss", settings).await;
    let (before, after, other) = (Claims::default(), Claims::default(), Claims::default());
    let first = redis.primary_client().await;
    revoke(&first, &before).await;
    let copied: u64 = first.command(&["WAIT", "1", "10000"]).await;
    assert_eq!(copied, 1, "the replica has it");

    let member = eventually::some("there is a primary", || redis.primary()).await;
    redis.kill(member).await;
    redis.elected(member.other()).await;
    eventually::holds("the new primary is queried", || async {
        check(&portcullis, &other).await == 200
    })
    .await;
    assert_eq!(check(&portcullis, &before).await, 403);
    revoke(&redis.primary_client().await, &after).await;
    assert_eq!(check(&portcullis, &after).await, 403);
}

#[tokio::test]
async fn a_redis_password_is_used_and_a_wrong_one_is_logged() {
    let redis = Redis::start_with_password("secret of the test").await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let settings = |password_file| json!({"url": redis.url(), "password_file": password_file});
    let portcullis = start("redis-always", settings(file("good", "secret of the test\n"))).await;
    let claims = Claims::default();
    revoke(&redis.client(), &claims).await;
    assert_eq!(check(&portcullis, &claims).await, 403);

    let config = config("redis-always", settings(file("bad", "hush")));
    let portcullis = Portcullis::launch(&config).await;
    logs(&portcullis, "wrong user or password").await;
    assert!(!is_logged(&portcullis, "hush"));
}

#[tokio::test]
async fn a_redis_with_an_evicting_policy_is_reported() {
    let redis = Redis::start().await;
    for (name, value) in [("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")] {
        let _: String = redis.client().command(&["CONFIG", "SET", name, value]).await;
    }
    let portcullis = start("redis-on-miss", settings(&redis)).await;
    assert_eq!(metric::<u8>(&portcullis, "portcullis_redis_evicts").await, 1);
    logs(&portcullis, "maxmemory-policy noeviction").await;
}

#[tokio::test]
async fn concurrent_queries_are_batched() {
    let redis = Redis::start().await;
    let portcullis = start("redis-always", settings(&redis)).await;
    let (revoked, other) = (Claims::default(), Claims::default());
    revoke(&redis.client(), &revoked).await;
    let asked = (0..200).map(|index| {
        let (portcullis, claims) = (&portcullis, if index % 2 == 0 { &revoked } else { &other });
        async move { check(portcullis, claims).await }
    });
    let limit = Duration::from_secs(20);
    let statuses = tokio::time::timeout(limit, futures_util::future::join_all(asked)).await;
    for (index, status) in statuses.unwrap().into_iter().enumerate() {
        assert_eq!(status, if index % 2 == 0 { 403 } else { 200 });
    }
}
