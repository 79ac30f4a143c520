//! Tests of the Redis Sentinel set-up.

use portcullis_integration_tests::{
    eventually,
    services::{RedisSentinel, sentinel::Member},
};

#[tokio::test]
async fn after_a_kill_the_replica_takes_over_and_the_old_primary_follows() {
    let redis = RedisSentinel::start_patient().await;
    let before = redis.primary_client().await;
    let _: String = before.command(&["SET", "key", "value"]).await;
    let copied: u64 = before.command(&["WAIT", "1", "10000"]).await;
    assert_eq!(copied, 1, "the replica has it");

    redis.kill(Member::First).await;
    redis.elected(Member::Second).await;
    let after = redis.primary_client().await;
    assert_eq!(after.get("key").await.as_deref(), Some("value"));
    let _: String = after.command(&["SET", "later", "value"]).await;

    redis.restart(Member::First).await;
    redis.settled(Member::Second).await;
    let old = redis.client(Member::First);
    eventually::holds("the old primary has what it missed", || async {
        old.get("later").await.is_some()
    })
    .await;
}

#[tokio::test]
async fn the_replica_takes_over_on_failover_or_when_the_primary_is_paused() {
    let redis = RedisSentinel::start_patient().await;
    assert_eq!(redis.primary().await, Some(Member::First));
    assert_eq!(redis.fail_over().await, Member::Second);
    redis.settled(Member::Second).await;

    redis.pause(Member::Second).await;
    redis.elected(Member::First).await;
    redis.unpause(Member::Second).await;
    redis.settled(Member::First).await;
}

#[tokio::test]
async fn two_sentinels_are_enough() {
    let redis = RedisSentinel::start_patient().await;
    redis.kill_sentinel(2).await;
    redis.kill(Member::First).await;
    redis.elected(Member::Second).await;
    redis.restart_sentinel(2).await;
    redis.restart(Member::First).await;
    redis.settled(Member::Second).await;
}
