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

/// The number of rounds, and of replicas that are stopped in each of them.
/// `PORTCULLIS_TEST_ROUNDS` and `PORTCULLIS_TEST_STOPPED` set others.
const ROUNDS: usize = 3;
const STOPPED: usize = 1;
/// The number of checks that wait for each replica to resume.
const WAITING: usize = 40;

#[expect(clippy::disallowed_methods, reason = "the caller of the tests sets the number")]
fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|number| number.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn a_replica_after_a_stop_denies_an_applied_revocation() {
    let services = Services::start().await;
    let config = config("authoritative", serde_json::json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url());
    let _relay = Relay::start(&config).await;
    let replicas = Replicas::start(1 + number("PORTCULLIS_TEST_STOPPED", STOPPED), &config).await;
    // The first one is not stopped.
    let stopped: Vec<_> = replicas.iter().skip(1).collect();
    for replica in &stopped {
        is_live(replica).await;
    }
    for round in 0..number("PORTCULLIS_TEST_ROUNDS", ROUNDS) {
        let claims = Claims::default();
        for replica in &stopped {
            assert_eq!(check(replica, &claims).await, 200);
        }
        for replica in &stopped {
            replica.signal(Signal::STOP);
        }
        let output = revoke(&config, &["--jti", claims.jti(), "--wait", "--timeout", "20s"]).await;
        assert!(output.status.success(), "{output:?}");

        // They begin after the command has ended, and wait in the kernel of the replica's machine.
        let waiting =
            stopped.iter().flat_map(|replica| (0..WAITING).map(|_| check(replica, &claims)));
        let mut waiting: FuturesUnordered<_> = waiting.collect();
        let sent = tokio::time::timeout(Duration::from_millis(300), waiting.next()).await;
        assert!(sent.is_err(), "a process that is stopped does not answer");
        for replica in &stopped {
            replica.signal(Signal::CONT);
        }
        let mut statuses = Vec::new();
        while let Some(status) = waiting.next().await {
            assert_ne!(status, 200, "round {round}, after {statuses:?}");
            statuses.push(status);
        }
        // A failed query is a denial too.
        assert!(statuses.contains(&403), "round {round}: {statuses:?}");
        drop(waiting);
        for replica in &stopped {
            is_live(replica).await;
            assert_eq!(check(replica, &Claims::default()).await, 200);
        }
    }
}

async fn is_live(replica: &Portcullis) {
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
}
