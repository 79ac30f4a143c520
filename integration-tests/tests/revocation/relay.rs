//! Tests of the relay: events in the outbox reach the broker after any failure at any time.

mod rejected;

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use portcullis_integration_tests::{
    eventually,
    publisher::{Event, OUTBOX, Publisher},
};
use rustix::process::Signal;

use super::relay_process::{Relay, Services, Tap};

const DEAD_LETTERS: &str = "outbox:blacklist:dlq";
const UNKNOWN: &str = "outbox:blacklist:unknown";
const LOCK: &str = "portcullis:relay:lock";

/// How long the lock of a killed relay blocks a takeover, plus time for the takeover.
const TAKEOVER: Duration = Duration::from_secs(4);

#[tokio::test]
async fn entries_of_existing_publishers_are_relayed_unchanged_in_order() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let mut tap = Tap::open(&services.rabbitmq).await;
    let mut sent = Vec::new();
    for number in 0..300 {
        let event = match number % 3 {
            0 => Event::add_for_an_hour(&format!("jti-{number}")),
            1 => Event::add_for_an_hour(&format!("jti-{number}")).with_user("\u{c720}", "logout"),
            _ => Event::remove(&format!("jti-{}", number - 1)),
        };
        let wire = event.wire();
        publisher.push_to_outbox(&wire).await;
        sent.push(wire);
    }
    let relay = Relay::start(&services.config()).await;
    // If the relay is paused, some of them may be published again, in order.
    let mut seen = HashSet::new();
    for wire in &sent {
        let mut next = tap.next().await;
        while seen.contains(&next) {
            next = tap.next().await;
        }
        assert_eq!(next, *wire);
        seen.insert(next);
    }
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    eventually::holds("all are counted", async || {
        relay.metric("portcullis_relay_relayed_total").await >= Some(300.0)
    })
    .await;
}

#[tokio::test]
async fn a_malformed_entry_is_dead_lettered_and_blocks_nothing() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let mut tap = Tap::open(&services.rabbitmq).await;
    let good = Event::add_for_an_hour("good").wire();
    let last = Event::add_for_an_hour("last").wire();
    for entry in ["{bad json", &good, "[]", r#"{"type": "unheard-of", "jti": "j"}"#, &last] {
        publisher.push_to_outbox(entry).await;
    }
    let relay = Relay::start(&services.config()).await;
    assert_eq!((tap.next().await, tap.next().await), (good, last));
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(services.redis.client().list(DEAD_LETTERS).await, ["[]", "{bad json"]);
    assert_eq!(
        services.redis.client().list(UNKNOWN).await,
        [r#"{"type": "unheard-of", "jti": "j"}"#]
    );
    eventually::holds("they are counted", async || {
        relay.metric("portcullis_relay_dead_lettered_total").await == Some(2.0)
            && relay.metric("portcullis_relay_unknown_total").await == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn a_newer_relay_relays_events_from_the_unknown_list() {
    let services = Services::start().await;
    let client = services.redis.client();
    let mut tap = Tap::open(&services.rabbitmq).await;
    let unheard_of = r#"{"type": "unheard-of", "jti": "j"}"#;
    let known = Event::add_for_an_hour("a").wire();
    // As an older relay leaves them.
    let _: u64 = client.command(&["LPUSH", UNKNOWN, unheard_of, &known, unheard_of]).await;
    let _relay = Relay::start(&services.config()).await;
    assert_eq!(tap.next().await, known);
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(client.list(UNKNOWN).await, [unheard_of, unheard_of]);
}

#[tokio::test]
async fn dead_letters_are_bounded_and_the_newest_are_kept() {
    const KEPT: usize = 10_000;
    let services = Services::start().await;
    let client = services.redis.client();
    let mut commands = redis::pipe();
    for number in 0..KEPT + 100 {
        commands.lpush(OUTBOX, format!("no event {number}")).ignore();
    }
    client.try_pipeline(&commands).await.unwrap();
    let _relay = Relay::start(&services.config()).await;
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    let dead = client.list(DEAD_LETTERS).await;
    assert_eq!((dead.len(), dead.last().unwrap().as_str()), (KEPT, "no event 100"));
}

#[tokio::test]
async fn large_entries_are_relayed_however_many_there_are() {
    const ENTRIES: usize = 300;
    let services = Services::start().await;
    let client = services.redis.client();
    let mut tap = Tap::open(&services.rabbitmq).await;
    for first in (0..ENTRIES).step_by(10) {
        let mut commands = redis::pipe();
        for number in first..first + 10 {
            commands.lpush(OUTBOX, large(&number.to_string(), 1_000_000)).ignore();
        }
        client.try_pipeline(&commands).await.unwrap();
    }
    let _relay = Relay::start(&services.config()).await;
    let mut missing: HashSet<String> = (0..ENTRIES).map(|number| number.to_string()).collect();
    while !missing.is_empty() {
        let message: serde_json::Value = serde_json::from_str(&tap.next().await).unwrap();
        missing.remove(message["jti"].as_str().unwrap());
    }
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(client.list(DEAD_LETTERS).await, [""; 0]);
}

#[tokio::test]
async fn a_relay_rereads_its_password_on_connect() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let client = services.redis.client();
    let mut tap = Tap::open(&services.rabbitmq).await;
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "old").unwrap();
    let _: String = client.command(&["ACL", "SETUSER", "relay", "on", ">old", "~*", "+@all"]).await;
    let config = services
        .config()
        .with("blacklist.redis.username", "relay")
        .with("blacklist.redis.password_file", password_file.to_str().unwrap());
    let mut relay = Relay::start(&config).await;
    let _: String = client.command(&["ACL", "SETUSER", "relay", "resetpass", ">new"]).await;
    let _: u64 = client.command(&["CLIENT", "KILL", "USER", "relay"]).await;
    eventually::holds("the relay knows", async || !relay.is_ready().await).await;
    std::fs::write(&password_file, "new").unwrap();
    let wire = Event::add_for_an_hour("a").wire();
    publisher.push_to_outbox(&wire).await;
    assert_eq!(tap.next().await, wire);
    relay.ready().await;
}

#[tokio::test]
async fn a_relay_waits_for_an_unavailable_broker_and_loses_nothing() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let mut relay = Relay::start(&services.config()).await;
    // The stream exists now, and must survive.
    services.rabbitmq.written().await;
    services.rabbitmq.kill().await;
    let wires: Vec<_> =
        (0..50).map(|number| Event::add_for_an_hour(&number.to_string()).wire()).collect();
    for wire in &wires {
        publisher.push_to_outbox(wire).await;
    }
    eventually::holds("the relay knows", async || !relay.is_ready().await).await;
    assert_eq!(services.backlog().await, 50);
    let backlog_metric = async || relay.metric("portcullis_relay_backlog").await;
    eventually::holds("the metric shows the backlog", async || {
        backlog_metric().await == Some(50.0)
    })
    .await;
    services.rabbitmq.restart().await;
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    eventually::holds("the metric shows an empty backlog", async || {
        backlog_metric().await == Some(0.0)
    })
    .await;
    relay.ready().await;
    let mut tap = Tap::of_stream(&services.rabbitmq, "portcullis.blacklist").await;
    let mut missing: HashSet<_> = wires.into_iter().collect();
    while !missing.is_empty() {
        missing.remove(&tap.next().await);
    }
}

#[tokio::test]
async fn a_relay_resumes_when_the_store_is_back() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let mut tap = Tap::open(&services.rabbitmq).await;
    let mut relay = Relay::start(&services.config()).await;
    services.redis.kill().await;
    eventually::holds("the relay knows", async || !relay.is_ready().await).await;
    services.redis.restart().await;
    let wire = Event::add_for_an_hour("a").wire();
    publisher.push_to_outbox(&wire).await;
    assert_eq!(tap.next().await, wire);
    relay.ready().await;
}

#[tokio::test]
async fn a_relay_that_is_killed_a_hundred_times_loses_nothing() {
    const REVOCATIONS: usize = 10_000;
    const KILLS: usize = 100;
    let services = Services::start().await;
    let mut tap = Tap::open(&services.rabbitmq).await;
    let client = services.redis.client();
    let writing = async {
        for first in (0..REVOCATIONS).step_by(20) {
            let mut commands = redis::pipe();
            for number in first..first + 20 {
                let wire = Event::add_for_an_hour(&format!("jti-{number}")).wire();
                commands.lpush(OUTBOX, wire).ignore();
            }
            client.try_pipeline(&commands).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let killing = async {
        let mut relay = Relay::launch(&services.config());
        // Random by the scheduling of the machine, plus a random pause.
        let mut random = 12_345_u64;
        for _ in 0..KILLS {
            // A killed relay still holds the lock; without it the next becomes the leader sooner.
            let _: u64 = services.redis.client().command(&["DEL", LOCK]).await;
            eventually::holds("the relay is the leader", async || relay.is_leader().await).await;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            tokio::time::sleep(Duration::from_micros((random >> 33) % 30_000)).await;
            relay.restart();
        }
        relay
    };
    let reading = async {
        let mut missing: HashSet<String> =
            (0..REVOCATIONS).map(|number| format!("jti-{number}")).collect();
        let mut seen = 0_usize;
        while !missing.is_empty() {
            let message: serde_json::Value = serde_json::from_str(&tap.next().await).unwrap();
            missing.remove(message["jti"].as_str().unwrap());
            seen += 1;
        }
        seen
    };
    let ((), _relay, seen) = tokio::join!(writing, killing, reading);
    eprintln!("{KILLS} kills, {REVOCATIONS} revocations, {seen} messages, none lost");
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(client.list(DEAD_LETTERS).await, [""; 0]);
}

#[tokio::test]
async fn a_standby_relay_takes_over_when_the_leader_dies() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    eventually::takes_at_most(TAKEOVER, "taking over", async || {
        let mut tap = Tap::open(&services.rabbitmq).await;
        let mut first = Relay::start(&services.config()).await;
        eventually::holds("the first is the leader", async || first.is_leader().await).await;
        let second = Relay::start(&services.config()).await;
        // It stands by, and is ready; unless the first was stalled, and has lost the lock.
        if second.is_leader().await {
            return Duration::MAX;
        }
        first.kill();
        let wire = Event::add_for_an_hour("a").wire();
        publisher.push_to_outbox(&wire).await;
        let begin = Instant::now();
        assert_eq!(tap.next().await, wire);
        let took = begin.elapsed();
        eventually::holds("the second is the leader", async || second.is_leader().await).await;
        took
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_gets_sigterm_hands_over_at_once() {
    let services = Services::start().await;
    eventually::takes_at_most(Duration::from_millis(1500), "handing over", async || {
        let mut first = Relay::start(&services.config()).await;
        eventually::holds("the first is the leader", async || first.is_leader().await).await;
        let second = Relay::start(&services.config()).await;
        first.process().signal(Signal::TERM);
        assert!(first.process().end().await.success());
        let begin = Instant::now();
        eventually::holds("the second is the leader", async || second.is_leader().await).await;
        begin.elapsed()
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_has_lost_its_lock_stands_by() {
    let services = Services::start().await;
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client());
    let mut tap = Tap::open(&services.rabbitmq).await;
    let mut relay = Relay::start(&services.config()).await;
    eventually::holds("it is the leader", async || relay.is_leader().await).await;
    // It is paused, and another relay takes over.
    relay.process().signal(Signal::STOP);
    let client = services.redis.client();
    let _: String = client.command(&["SET", LOCK, "another relay", "PX", "60000"]).await;
    relay.process().signal(Signal::CONT);
    eventually::holds("it stands by", async || !relay.is_leader().await).await;
    let wire = Event::add_for_an_hour("a").wire();
    publisher.push_to_outbox(&wire).await;
    assert_eq!(client.get(LOCK).await.as_deref(), Some("another relay"));
    assert_eq!(services.backlog().await, 1);
    let _: u64 = client.command(&["DEL", LOCK]).await;
    assert_eq!(tap.next().await, wire);
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
}

#[tokio::test]
async fn concurrent_relays_lose_nothing() {
    const REVOCATIONS: usize = 2_000;
    let services = Services::start().await;
    let client = services.redis.client();
    let mut tap = Tap::open(&services.rabbitmq).await;
    let relays = [Relay::start(&services.config()).await, Relay::start(&services.config()).await];
    let mut missing: HashSet<String> = HashSet::new();
    for first in (0..REVOCATIONS).step_by(20) {
        let mut commands = redis::pipe();
        for number in first..first + 20 {
            let wire = Event::add_for_an_hour(&format!("jti-{number}")).wire();
            commands.lpush(OUTBOX, &wire).ignore();
            missing.insert(wire);
        }
        // The other one takes over while the first still acts as the leader.
        commands.del(LOCK).ignore();
        client.try_pipeline(&commands).await.unwrap();
    }
    while !missing.is_empty() {
        missing.remove(&tap.next().await);
    }
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
    assert_eq!(client.list(DEAD_LETTERS).await, [""; 0]);
    drop(relays);
}

#[tokio::test]
async fn relays_of_other_systems_may_share_the_outbox() {
    let services = Services::start().await;
    let mut tap = Tap::open(&services.rabbitmq).await;
    let client = services.redis.client();
    let _relay = Relay::start(&services.config()).await;
    let mut missing = HashSet::new();
    let (mut popped, mut pushed) = (HashSet::new(), 0);
    while pushed < 2_000 {
        let mut commands = redis::pipe();
        for _ in 0..50 {
            let wire = Event::add_for_an_hour(&format!("jti-{pushed}")).wire();
            commands.lpush(OUTBOX, &wire).ignore();
            missing.insert(wire);
            pushed += 1;
        }
        client.try_pipeline(&commands).await.unwrap();
        // As another system's relay: it pops some entries, and publishes them itself.
        let taken: Option<Vec<String>> = client.command(&["RPOP", OUTBOX, "10"]).await;
        popped.extend(taken.unwrap_or_default());
    }
    missing.retain(|wire| !popped.contains(wire));
    while !missing.is_empty() {
        missing.remove(&tap.next().await);
    }
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
}

/// This many revocations on the wire, the oldest first.
fn adds(count: usize) -> Vec<String> {
    (0..count).map(|number| Event::add_for_an_hour(&format!("jti-{number}")).wire()).collect()
}

/// A revocation on the wire, with a reason of this many bytes.
fn large(jti: &str, bytes: usize) -> String {
    Event::add_for_an_hour(jti).with_user("u", &"x".repeat(bytes)).wire()
}
