//! Tests of entries that the broker rejects: they are dead-lettered, and the others are published.

use portcullis_integration_tests::{
    eventually,
    publisher::{Event, Publisher},
};

use super::{DEAD_LETTERS, adds, large};
use crate::revocation::relay_process::{Relay, Services, Tap};

/// What a relay has published.
struct Relayed {
    relay: Relay,
    expected: Vec<String>,
    /// Up to the last of those.
    seen: Vec<String>,
}

impl Relayed {
    fn repeated(&self) -> String {
        format!("{} messages in place of {}", self.seen.len(), self.expected.len())
    }
}

/// Starts a relay for an outbox with 200 revocations, this entry, and a last revocation. A relay
/// that is stalled may publish some of them again.
async fn relay_around(services: &Services, entry: &str) -> Relayed {
    services.redis.flush().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let mut tap = Tap::open(&services.rabbitmq).await;
    let mut expected = adds(200);
    let last = Event::add_for_an_hour("last").wire();
    for wire in expected.iter().map(String::as_str).chain([entry, last.as_str()]) {
        publisher.push_to_outbox(wire).await;
    }
    expected.push(last.clone());
    let relay = Relay::start(&services.config()).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.push(tap.next().await);
    }
    Relayed { relay, expected, seen }
}

#[tokio::test]
async fn a_rejected_entry_is_dead_lettered_and_blocks_nothing() {
    let services = Services::start().await;
    services.rabbitmq.limit_message_size(100_000).await;
    let rejected = large("rejected", 200_000);
    let relay = eventually::succeeds(3, "each is published, and once", async || {
        let relayed = relay_around(&services, &rejected).await;
        let is_each_once = relayed.seen == relayed.expected;
        if is_each_once { Ok(relayed.relay) } else { Err(relayed.repeated()) }
    })
    .await;
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(services.redis.client().list(DEAD_LETTERS).await, [rejected]);
    eventually::holds("it is counted", async || {
        relay.metric("portcullis_relay_rejected_total").await == Some(1.0)
            && relay.metric("portcullis_relay_dead_lettered_total").await == Some(1.0)
            && relay.metric("portcullis_relay_relayed_total").await == Some(201.0)
    })
    .await;
}

#[tokio::test]
async fn a_batch_with_a_rejected_entry_is_published_at_most_twice() {
    let services = Services::start().await;
    services.rabbitmq.limit_message_size(10_000).await;
    let rejected = large("rejected", 20_000);
    let _relay = eventually::succeeds(3, "each is published at most twice", async || {
        let relayed = relay_around(&services, &rejected).await;
        let times = |wire: &String| relayed.seen.iter().filter(|seen| *seen == wire).count();
        let is_as_promised = relayed.expected.iter().all(|wire| (1..=2).contains(&times(wire)));
        if is_as_promised { Ok(relayed.relay) } else { Err(relayed.repeated()) }
    })
    .await;
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(services.redis.client().list(DEAD_LETTERS).await, [rejected]);
}
