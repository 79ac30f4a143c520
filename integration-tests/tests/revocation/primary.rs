//! Owns the tests of which Redis counts as the store where sentinels say who is the primary.

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::Portcullis,
    services::{RedisClient, RedisSentinel, sentinel},
    token::Claims,
};
use serde_json::json;

use super::{check, config};

/// A Portcullis that asks Redis about each token that it does not know.
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
async fn a_primary_that_was_replaced_and_did_not_hear_of_it_counts_no_more() {
    let redis = RedisSentinel::start().await;
    let portcullis = start(&redis).await;
    let claims = Claims::default();
    assert_eq!(check(&portcullis, &claims).await, 200);
    let primary = redis.fail_over_unheard().await;
    revoke(&redis.client(primary), &claims).await;
    eventually::holds("the new primary is asked", async || {
        check(&portcullis, &claims).await == 403
    })
    .await;
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_store_that_most_sentinels_name() {
    let redis = RedisSentinel::start().await;
    let portcullis = start(&redis).await;
    let revoke = async |jti: &str| {
        let request = Request::post("/v1/revocations", json!({"jti": jti}).to_string());
        portcullis.admin().call(request).await.status
    };
    assert_eq!(revoke("before").await, 201);
    let primary = redis.client(redis.fail_over_unheard().await);
    let mut tries = 0;
    // Without a replica it acknowledges nothing.
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
async fn a_primary_for_which_only_a_minority_of_the_sentinels_speaks_does_not_count() {
    let redis = RedisSentinel::start().await;
    let portcullis = start(&redis).await;
    let claims = Claims::default();
    assert_eq!(check(&portcullis, &claims).await, 200);
    redis.kill_sentinel(0).await;
    redis.kill_sentinel(1).await;
    eventually::holds("nobody is let in on its word", async || {
        matches!(check(&portcullis, &claims).await, 500 | 503)
    })
    .await;
    redis.restart_sentinel(1).await;
    eventually::holds("two of three are enough", async || check(&portcullis, &claims).await == 200)
        .await;
}
