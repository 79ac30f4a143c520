//! Faults of the cluster: how each kind is injected and healed.

use std::time::Duration;

use portcullis_integration_tests::publisher::{EXCHANGE, Event};
use rustix::process::Signal;

use super::{Cluster, STREAM};
use crate::{
    endpoints::Endpoints,
    fault::FaultKind,
    plan::{PlannedFault, REPLICAS},
    setup::Setup,
    site::{Broken, Site},
};

/// The failpoints at which a relay can die.
const RELAY_STEPS: [&str; 4] =
    ["relay::locked", "relay::read", "relay::published", "relay::removed"];
/// The failpoints at which a replica can stop during its start.
const START_STEPS: [&str; 4] = ["feed::connect", "feed::bound", "feed::snapshot", "feed::live"];
/// Bytes per second of a slow link, less than the rate of the events.
const SLOW: u64 = 1500;
/// How long a relay may take to reach the failpoint.
const RELAY_PATIENCE: Duration = Duration::from_secs(3);
/// Events per batch of a flood.
const WAVE: u64 = 5000;

impl Site for Cluster {
    async fn use_setup(&mut self, setup: Setup) {
        Self::use_setup(self, setup).await;
    }

    fn endpoints(&self) -> Endpoints {
        Self::endpoints(self)
    }

    async fn break_one(&mut self, planned: &PlannedFault) -> Broken {
        let mut broken = Broken::default();
        break_one(self, planned, &mut broken).await;
        broken
    }

    async fn heal(&mut self, planned: &PlannedFault, broken: &Broken) {
        heal(self, planned, *broken).await;
    }

    async fn recovered(&mut self) {
        Self::recovered(self).await;
    }
}

async fn break_one(cluster: &mut Cluster, planned: &PlannedFault, broken: &mut Broken) {
    let PlannedFault { kind, replica, .. } = *planned;
    match kind {
        FaultKind::LinkCut => cluster.ways(replica).broker.cut().await,
        FaultKind::LinkFrozen => cluster.ways(replica).broker.freeze(),
        FaultKind::SlowConsumer => cluster.ways(replica).broker.slow(SLOW).await,
        FaultKind::LinksCut => {
            for ways in cluster.all_ways() {
                ways.broker.cut().await;
            }
        }
        FaultKind::BrokerKilled => cluster.rabbitmq.kill().await,
        FaultKind::BrokerPaused => cluster.rabbitmq.pause().await,
        FaultKind::BrokerAlarm => cluster.rabbitmq.raise_alarm().await,
        FaultKind::Unbound => cluster.rabbitmq.unbind(STREAM, EXCHANGE).await,
        FaultKind::StreamDeleted => cluster.rabbitmq.delete_queue(STREAM).await,
        FaultKind::QueueDeleted => cluster.delete_queue_of(replica).await,
        FaultKind::RedisKilled
        | FaultKind::RedisPaused
        | FaultKind::SentinelFailover
        | FaultKind::RedisFlushed => break_redis(cluster, kind, broken).await,
        FaultKind::StoreLinkCut => cluster.ways(replica).cut_redis().await,
        FaultKind::StoreLinkFrozen => cluster.ways(replica).freeze_redis(),
        FaultKind::SentinelLinksCut => cluster.ways(replica).cut_sentinels().await,
        FaultKind::Isolated => {
            let ways = cluster.ways(replica);
            ways.broker.cut().await;
            ways.cut_redis().await;
            ways.cut_sentinels().await;
        }
        FaultKind::RelayKilled => kill_relay(cluster, planned).await,
        FaultKind::ReplicaKilled => cluster.replica(replica).kill(0),
        FaultKind::ReplicaKilledAtStart => stop_at_start(cluster, planned).await,
        FaultKind::ReplicaStopped => cluster.signal(replica, Signal::STOP),
        FaultKind::ReplicasStopped => {
            (0..REPLICAS).for_each(|replica| cluster.signal(replica, Signal::STOP));
        }
        FaultKind::ClockOff | FaultKind::ClockJump => cluster.set_clock(replica, planned.offset),
        FaultKind::Flood => flood(cluster, planned).await,
        kind => assert!(!kind.is_of_cluster(), "{kind} is injected"),
    }
}

async fn heal(cluster: &mut Cluster, planned: &PlannedFault, broken: Broken) {
    let PlannedFault { kind, replica, .. } = *planned;
    match kind {
        FaultKind::LinkCut | FaultKind::LinkFrozen | FaultKind::SlowConsumer => {
            cluster.ways(replica).broker.restore().await;
        }
        FaultKind::LinksCut => {
            for ways in cluster.all_ways() {
                ways.broker.restore().await;
            }
        }
        FaultKind::BrokerKilled => cluster.rabbitmq.restart().await,
        FaultKind::BrokerPaused => cluster.rabbitmq.unpause().await,
        FaultKind::BrokerAlarm => cluster.rabbitmq.clear_alarm().await,
        FaultKind::RedisKilled
        | FaultKind::RedisPaused
        | FaultKind::SentinelFailover
        | FaultKind::RedisFlushed => heal_redis(cluster, kind, broken).await,
        FaultKind::StoreLinkCut | FaultKind::StoreLinkFrozen | FaultKind::SentinelLinksCut => {
            cluster.ways(replica).restore_store().await;
        }
        FaultKind::Isolated => {
            let ways = cluster.ways(replica);
            ways.restore_store().await;
            ways.broker.restore().await;
        }
        FaultKind::RelayKilled => cluster.relay().restart(None),
        FaultKind::ReplicaKilled => cluster.replica(replica).relaunch(0, |config| config).await,
        FaultKind::ReplicaKilledAtStart => {
            let replica = cluster.replica(replica);
            assert!(
                !replica.get(0).is_ready().await,
                "a replica that stopped during its start is ready"
            );
            replica.relaunch(0, |config| config).await;
        }
        FaultKind::ReplicaStopped => cluster.signal(replica, Signal::CONT),
        FaultKind::ReplicasStopped => {
            (0..REPLICAS).for_each(|replica| cluster.signal(replica, Signal::CONT));
        }
        FaultKind::ClockOff | FaultKind::ClockJump => cluster.set_clock(replica, 0),
        // A replica that resnapshots declares the stream again and binds it.
        FaultKind::Unbound
        | FaultKind::StreamDeleted
        | FaultKind::QueueDeleted
        | FaultKind::Flood => {}
        kind => assert!(!kind.is_of_cluster(), "{kind} is healed"),
    }
}

async fn break_redis(cluster: &Cluster, kind: FaultKind, broken: &mut Broken) {
    let primary = cluster.primary().await;
    broken.primary = Some(primary);
    match kind {
        FaultKind::RedisKilled => cluster.redis.kill(primary).await,
        // After more than a second, the sentinels replace it.
        FaultKind::RedisPaused => cluster.redis.pause(primary).await,
        FaultKind::SentinelFailover => drop(cluster.redis.fail_over().await),
        _ => drop(cluster.store().command::<String>(&["FLUSHALL"]).await),
    }
}

async fn heal_redis(cluster: &Cluster, kind: FaultKind, broken: Broken) {
    let redis = &cluster.redis;
    match (kind, broken.primary) {
        (FaultKind::RedisKilled, Some(primary)) => {
            redis.elected(primary.other()).await;
            redis.restart(primary).await;
        }
        (FaultKind::RedisPaused, Some(primary)) => redis.unpause(primary).await,
        _ => {}
    }
    // Until the old primary replicates the new one, it accepts writes that will be lost. If the
    // broker also failed in that time, a revocation would be lost.
    cluster.redis_recovered().await;
}

async fn kill_relay(cluster: &mut Cluster, planned: &PlannedFault) {
    let step = RELAY_STEPS[planned.step % RELAY_STEPS.len()];
    let relay = cluster.relay();
    relay.restart(Some(&format!("{step}=return")));
    // It may reach the failpoint only when a revocation goes through the outbox.
    relay.died_within(RELAY_PATIENCE).await;
    relay.kill();
}

/// Restarts a replica, and stops it in the middle of a step of its start.
async fn stop_at_start(cluster: &mut Cluster, planned: &PlannedFault) {
    let step = START_STEPS[planned.step % START_STEPS.len()];
    let replica = cluster.replica(planned.replica);
    replica.relaunch(0, |config| config.failpoint(&format!("{step}=pause"))).await;
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
