//! Owns breaking things as planned, and mending them again.
//!
//! Each fault is written down from before it begins until all is well again, so that nothing it
//! causes falls into time that counts as quiet.

use std::time::Duration;

use portcullis_integration_tests::publisher::Event;

use crate::{
    cluster::{Cluster, STREAM},
    fault::FaultKind,
    history::{Clock, Fault, History, Span},
    plan::PlannedFault,
};

/// Where a relay can die.
pub const RELAY_STEPS: [&str; 4] =
    ["relay::locked", "relay::read", "relay::published", "relay::removed"];
/// Where a replica can be stopped while it starts.
pub const START_STEPS: [&str; 4] = ["feed::connect", "feed::bound", "feed::snapshot", "feed::live"];
/// Bytes per second of a slow link. Events come faster.
const SLOW: u64 = 1500;
/// How long a relay gets to reach the step at which it dies.
const RELAY_PATIENCE: Duration = Duration::from_secs(3);
/// Events of a flood that are published at once.
const WAVE: u64 = 5000;

/// Injects a fault, and waits until all is well again.
pub async fn inject(cluster: &mut Cluster, planned: &PlannedFault, clock: Clock) -> History {
    let mut history = History::default();
    let began = clock.now();
    if break_and_mend(cluster, planned).await {
        // Killed and, when everything is settled, ready again.
        cluster.settled().await;
        history.deaths.push((planned.replica, Span::new(began, clock.now())));
    } else {
        cluster.settled().await;
    }
    let replica = befalls_one(planned.kind).then_some(planned.replica);
    history.faults.push(Fault { kind: planned.kind, replica, span: Span::new(began, clock.now()) });
    history
}

const fn befalls_one(kind: FaultKind) -> bool {
    use FaultKind as Kind;
    matches!(
        kind,
        Kind::LinkCut
            | Kind::LinkFrozen
            | Kind::SlowConsumer
            | Kind::QueueDeleted
            | Kind::ReplicaKilled
            | Kind::ReplicaKilledAtStart
    )
}

/// Returns whether the planned replica was killed.
async fn break_and_mend(cluster: &mut Cluster, planned: &PlannedFault) -> bool {
    let PlannedFault { kind, lasts, replica, .. } = *planned;
    match kind {
        FaultKind::LinkCut | FaultKind::LinkFrozen | FaultKind::SlowConsumer => {
            let link = cluster.link(replica);
            match kind {
                FaultKind::LinkCut => link.cut().await,
                FaultKind::LinkFrozen => link.freeze(),
                _ => link.slow(SLOW).await,
            }
            tokio::time::sleep(lasts).await;
            link.restore().await;
        }
        FaultKind::LinksCut => cut_all(cluster, lasts).await,
        FaultKind::BrokerKilled => {
            cluster.rabbitmq.kill().await;
            tokio::time::sleep(lasts).await;
            cluster.rabbitmq.restart().await;
        }
        FaultKind::BrokerPaused => {
            cluster.rabbitmq.pause().await;
            tokio::time::sleep(lasts).await;
            cluster.rabbitmq.unpause().await;
        }
        FaultKind::StreamDeleted => cluster.rabbitmq.delete_queue(STREAM).await,
        FaultKind::QueueDeleted => cluster.delete_queue_of(replica).await,
        FaultKind::RedisKilled
        | FaultKind::RedisPaused
        | FaultKind::SentinelFailover
        | FaultKind::RedisFlushed => break_redis(cluster, kind, lasts).await,
        FaultKind::RelayKilled => kill_relay(cluster, planned).await,
        FaultKind::ReplicaKilled => {
            cluster.replica(replica).kill(0);
            tokio::time::sleep(lasts).await;
            cluster.replica(replica).restart(0).await;
        }
        FaultKind::ReplicaKilledAtStart => kill_at_start(cluster, planned).await,
        FaultKind::Flood => flood(cluster, planned).await,
    }
    matches!(kind, FaultKind::ReplicaKilled | FaultKind::ReplicaKilledAtStart)
}

async fn cut_all(cluster: &Cluster, lasts: Duration) {
    for link in cluster.links() {
        link.cut().await;
    }
    tokio::time::sleep(lasts).await;
    for link in cluster.links() {
        link.restore().await;
    }
}

async fn break_redis(cluster: &Cluster, kind: FaultKind, lasts: Duration) {
    let primary = cluster.primary().await;
    let redis = &cluster.redis;
    match kind {
        FaultKind::RedisKilled => {
            redis.kill(primary).await;
            redis.elected(primary.other()).await;
            redis.restart(primary).await;
        }
        // Longer than a second, and the sentinels replace it.
        FaultKind::RedisPaused => {
            redis.pause(primary).await;
            tokio::time::sleep(lasts).await;
            redis.unpause(primary).await;
        }
        FaultKind::SentinelFailover => drop(redis.fail_over().await),
        _ => drop(cluster.store().command::<String>(&["FLUSHALL"]).await),
    }
    // Until the old primary follows the new one, it takes writes that will be lost. Were the broker
    // to fail meanwhile, too, a revocation would be nowhere.
    cluster.redis_settled().await;
}

async fn kill_relay(cluster: &mut Cluster, planned: &PlannedFault) {
    let step = RELAY_STEPS[planned.step % RELAY_STEPS.len()];
    let relay = cluster.relay();
    relay.restart(Some(&format!("{step}=return")));
    // It may take a revocation that goes through the outbox to get there.
    relay.died_within(RELAY_PATIENCE).await;
    relay.kill();
    tokio::time::sleep(planned.lasts / 4).await;
    relay.restart(None);
}

async fn kill_at_start(cluster: &mut Cluster, planned: &PlannedFault) {
    let step = START_STEPS[planned.step % START_STEPS.len()];
    let replica = cluster.replica(planned.replica);
    replica.relaunch(0, |config| config.failpoint(&format!("{step}=pause"))).await;
    tokio::time::sleep(planned.lasts / 4).await;
    let ready = replica.get(0).is_ready().await;
    assert!(!ready, "stopped at {step} and yet ready");
    replica.restart(0).await;
}

async fn flood(cluster: &Cluster, planned: &PlannedFault) {
    let mut left = planned.events;
    while left > 0 {
        let wave = left.min(WAVE);
        let event = |number| Event::add_for_an_hour(&format!("flood-{number}"));
        let events: Vec<_> = (left - wave..left).map(event).collect();
        cluster.publisher().publish_all(&events).await;
        left -= wave;
    }
}
