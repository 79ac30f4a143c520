//! Tests of the primary: only the Redis that the sentinels report as the primary counts as the
//! store.

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::Portcullis,
    services::{RedisClient, RedisSentinel, sentinel},
    token::Claims,
};
use serde_json::json;

use super::{check, config};

/// A Portcullis that queries Redis about each token that is not in its set.
async fn start(redis: &RedisSentinel) -> Portcullis {
    let sentinels: Vec<_> = redis.sentinels().iter().map(ToString::to_string).collect();
    let settings = json!({
        "sentinels": sentinels,
        "master_name": sentinel::MASTER_NAME,
    });
    Portcullis::start(&config("redis-on-miss", settings)).await
}

async fn revoke(redis: &RedisClient, claims: &Claims) {
    let _: String =
        redis.command(&["SETEX", &format!("blacklist:{}", claims.jti()), "3600", "{}"]).await;
}

#[tokio::test]
async fn a_replaced_primary_that_still_serves_does_not_count() {
    let redis = RedisSentinel::start_patient().await;
    let portcullis = start(&redis).await;
    let claims = Claims::default();
    assert_eq!(check(&portcullis, &claims).await, 200);
    let primary = redis.fail_over_unheard().await;
    revoke(&redis.client(primary), &claims).await;
    eventually::holds("the new primary is queried", async || {
        check(&portcullis, &claims).await == 403
    })
    .await;
}

#[tokio::test]
async fn acknowledged_revocations_are_in_the_majoritys_primary() {
    let redis = RedisSentinel::start_patient().await;
    let portcullis = start(&redis).await;
    let revoke = async |jti: &str| {
        let request = Request::post("/v1/revocations", json!({"jti": jti}).to_string());
        portcullis.admin().call(request).await.status
    };
    eventually::holds("it is revoked", async || revoke("before").await == 201).await;
    let primary = redis.client(redis.fail_over_unheard().await);
    let mut tries = 0;
    // Without a replica, the old primary acknowledges nothing.
    eventually::holds("a revocation is in the new primary", || {
        tries += 1;
        let jti = format!("after-{tries}");
        let (revoke, primary) = (&revoke, &primary);
        async move {
            let status = revoke(&jti).await;
            let is_there = primary.get(&format!("blacklist:{jti}")).await.is_some();
            assert!(is_there || status != 201, "acknowledged, and not where it counts");
            is_there
        }
    })
    .await;
}

#[tokio::test]
async fn a_primary_of_a_minority_of_sentinels_does_not_count() {
    let redis = RedisSentinel::start_patient().await;
    let portcullis = start(&redis).await;
    let claims = Claims::default();
    assert_eq!(check(&portcullis, &claims).await, 200);
    redis.kill_sentinel(0).await;
    redis.kill_sentinel(1).await;
    eventually::holds("it allows no request", async || {
        matches!(check(&portcullis, &claims).await, 500 | 503)
    })
    .await;
    redis.restart_sentinel(1).await;
    eventually::holds("two of three are enough", async || check(&portcullis, &claims).await == 200)
        .await;
}

#[tokio::test]
async fn each_replica_of_the_store_has_what_was_acknowledged() {
    let redis = RedisSentinel::start_with_two_replicas().await;
    let portcullis = start(&redis).await;
    // Either replica may be promoted, so both must have it.
    for _ in 0..3 {
        let primary = eventually::some("there is a primary", || redis.primary()).await;
        redis.settled(primary).await;
        let claims = Claims::default();
        let revocation = json!({"jti": claims.jti()}).to_string();
        eventually::holds("it is revoked", async || {
            let request = Request::post("/v1/revocations", revocation.clone());
            portcullis.admin().call(request).await.status == 201
        })
        .await;
        redis.kill(primary).await;
        let promoted = eventually::some("another one is promoted", async || {
            redis.primary().await.filter(|promoted| *promoted != primary)
        })
        .await;
        redis.elected(promoted).await;
        let key = format!("blacklist:{}", claims.jti());
        assert!(redis.client(promoted).get(&key).await.is_some(), "{promoted:?}");
        eventually::holds("it is denied", async || check(&portcullis, &claims).await == 403).await;
        redis.restart(primary).await;
    }
}
