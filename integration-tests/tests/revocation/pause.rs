//! Tests of process pauses: a replica that was paused does not trust its own set, even if
//! `portcullis revoke` has reported that the revocation is applied.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};
use portcullis_integration_tests::{
    eventually,
    portcullis::{Portcullis, Replicas},
    token::Claims,
};
use rustix::process::Signal;

use super::{
    check, config,
    relay_process::{Relay, Services, revoke},
};

/// The number of stops. `PORTCULLIS_TEST_ROUNDS` sets another one.
const ROUNDS: usize = 3;
/// The number of checks that wait for the replica to resume.
const WAITING: usize = 40;

#[expect(clippy::disallowed_methods, reason = "the caller of the tests sets the number")]
fn rounds() -> usize {
    let rounds = std::env::var("PORTCULLIS_TEST_ROUNDS");
    rounds.ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS)
}

#[tokio::test]
async fn a_replica_after_a_stop_denies_an_applied_revocation() {
    let services = Services::start().await;
    let config = config("authoritative", serde_json::json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url());
    let _relay = Relay::start(&config).await;
    let replicas = Replicas::start(2, &config).await;
    for index in 0..2 {
        is_live(replicas.get(index)).await;
    }
    for round in 0..rounds() {
        let claims = Claims::default();
        assert_eq!(check(replicas.get(1), &claims).await, 200);
        replicas.get(1).signal(Signal::STOP);
        let output = revoke(&config, &["--jti", claims.jti(), "--wait", "--timeout", "20s"]).await;
        assert!(output.status.success(), "{output:?}");

        // They begin after the command has ended, and wait in the kernel of the replica's machine.
        let replica = replicas.get(1);
        let mut waiting: FuturesUnordered<_> =
            (0..WAITING).map(|_| check(replica, &claims)).collect();
        let sent = tokio::time::timeout(Duration::from_millis(300), waiting.next()).await;
        assert!(sent.is_err(), "a process that is stopped does not answer");
        replica.signal(Signal::CONT);
        let mut denied = 0;
        while let Some(status) = waiting.next().await {
            assert_eq!(status, 403, "round {round}, after {denied} denials");
            denied += 1;
        }
        drop(waiting);
        is_live(replicas.get(1)).await;
        assert_eq!(check(replicas.get(1), &Claims::default()).await, 200);
    }
}

async fn is_live(replica: &Portcullis) {
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
}
