//! Tests of the Redis container.

use std::time::Duration;

use portcullis_integration_tests::services::{Redis, RedisClient};

#[tokio::test]
async fn a_killed_redis_restarts_on_its_port_with_confirmed_writes() {
    let redis = Redis::start().await;
    let client = redis.client();
    let _: String = client.command(&["SET", "key", "value"]).await;
    redis.kill().await;
    assert!(client.try_command::<String>(&["PING"]).await.is_err(), "it is gone");
    redis.restart().await;
    assert_eq!(client.get("key").await.as_deref(), Some("value"));
    redis.flush().await;
    assert_eq!(client.keys("*").await, [""; 0]);
}

#[tokio::test]
async fn a_paused_redis_is_silent_until_it_resumes() {
    let redis = Redis::start().await;
    let client = redis.client();
    redis.pause().await;
    let silent = client.try_command::<String>(&["PING"]).await.unwrap_err();
    assert!(silent.is_timeout(), "{silent}");
    redis.unpause().await;
    client.ready().await;
}

#[tokio::test]
async fn calls_that_only_keep_a_connection_are_not_counted() {
    let redis = Redis::start().await;
    let client = redis.client();
    client.forget_calls().await;
    client.ready().await;
    assert!(client.calls().await.is_empty());
    for _ in 0..3 {
        client.get("key").await;
    }
    assert_eq!(client.calls().await.into_iter().collect::<Vec<_>>(), [("get".to_owned(), 3)]);
}

#[tokio::test]
async fn a_password_is_required() {
    let redis = Redis::start_with_password("secret of the test").await;
    let stranger = RedisClient::new(redis.address(), None);
    let refused = stranger.try_command::<String>(&["PING"]).await.unwrap_err();
    assert!(refused.to_string().contains("NOAUTH"), "{refused}");
    let known = redis.client();
    let _: String = known.command(&["SET", "key", "value", "EX", "100"]).await;
    assert!(Duration::from_secs(100).as_secs() >= u64::try_from(known.ttl("key").await).unwrap());
}
