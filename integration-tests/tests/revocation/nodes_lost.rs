//! Tests of a RabbitMQ cluster that loses one node after the other, the leader of the stream among
//! them: each revocation still reaches all replicas.
use std::net::SocketAddr;

use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Replicas},
    publisher::{Event, Publisher},
    services::{RabbitMqCluster, Redis, rabbitmq},
    token::Claims,
};
use serde_json::json;

use super::{
    check, config, reaches,
    relay_process::{Relay, confirmed},
};

const STREAM: &str = "portcullis.blacklist";

fn with_cluster(cluster: &RabbitMqCluster, redis: &Redis) -> Config {
    let nodes: Vec<_> = cluster.addresses().iter().map(SocketAddr::to_string).collect();
    config("authoritative", json!({"url": redis.url()}))
        .with("blacklist.rabbitmq.url", rabbitmq::url(cluster.addresses()[0]))
        .with("blacklist.rabbitmq.nodes", nodes)
        .with("blacklist.rabbitmq.stream", STREAM)
}

async fn are_live(replicas: &Replicas) {
    for replica in replicas.iter() {
        reaches(replica, "live").await;
    }
}

async fn are_denied(replicas: &Replicas, claims: &Claims) {
    for replica in replicas.iter() {
        eventually::holds("it is denied", async || check(replica, claims).await == 403).await;
    }
}

#[tokio::test]
async fn revocations_arrive_whichever_node_is_lost() {
    let (cluster, redis) = tokio::join!(RabbitMqCluster::start(), Redis::start());
    let config = with_cluster(&cluster, &redis);
    let _relay = Relay::start(&config).await;
    let replicas = Replicas::start(3, &config).await;
    are_live(&replicas).await;
    let leader = cluster.leader(STREAM).await;
    let others = (0..cluster.size()).filter(|node| *node != leader);
    for lost in std::iter::once(leader).chain(others) {
        cluster.kill(lost).await;
        let left = (0..cluster.size()).find(|node| *node != lost).unwrap();
        // From a publisher that knows only the broker, and from one that waits for receipts.
        let publisher = Publisher::new(&rabbitmq::url(cluster.addresses()[left]), redis.client());
        let [by_event, by_command] = [Claims::default(), Claims::default()];
        publisher.patient().publish(&Event::add_for_an_hour(by_event.jti())).await;
        are_denied(&replicas, &by_event).await;
        are_live(&replicas).await;
        let ids = ["--jti", by_command.jti()];
        confirmed(&config, &ids, "revoked: applied by 3 replicas after ").await;
        are_denied(&replicas, &by_command).await;
        cluster.restart(lost).await;
    }
}
