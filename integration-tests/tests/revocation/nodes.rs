//! Tests of a broker with several nodes: a node that accepts connections and stays silent does not
//! keep a replica or a relay from the next one.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use portcullis_integration_tests::{
    eventually,
    portcullis::{Config, Portcullis},
    publisher::{Event, Publisher},
    services::rabbitmq,
    token::Claims,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    check, config, metric,
    relay_process::{Relay, Services},
};

/// A node that accepts connections, but reads and sends nothing.
struct Swallower {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    // The task ends when this is dropped.
    _task: JoinSet<()>,
}

// === impl Swallower ===

impl Swallower {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                connections.push(connection);
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, taken, _task: task }
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A configuration with these nodes. The host and port of the URL are unreachable.
fn with_nodes(services: &Services, nodes: &[SocketAddr]) -> Config {
    let nodes: Vec<_> = nodes.iter().map(SocketAddr::to_string).collect();
    config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", rabbitmq::url("127.0.0.1:1".parse().unwrap()))
        .with("blacklist.rabbitmq.nodes", nodes)
}

async fn is_live(replica: &Portcullis) {
    eventually::holds("the feed is live", || async {
        replica.admin().revocations().await["state"] == "live"
    })
    .await;
}

#[tokio::test]
async fn a_silent_node_does_not_keep_a_replica_from_the_next_node() {
    let services = Services::start().await;
    let swallower = Swallower::start().await;
    let nodes = [swallower.address, services.rabbitmq.address()];
    let replica = Portcullis::start(&with_nodes(&services, &nodes)).await;
    is_live(&replica).await;
    // Which node comes first is random: repeat until it was the silent one.
    while swallower.taken() == 0 {
        let before: u64 = metric(&replica, "ext_authz_mq_reconnects_total").await;
        services.rabbitmq.close_connections().await;
        eventually::holds("it has connected again", || async {
            metric::<u64>(&replica, "ext_authz_mq_reconnects_total").await > before
        })
        .await;
        is_live(&replica).await;
    }
    let claims = Claims::default();
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    publisher.publish(&Event::add_for_an_hour(claims.jti())).await;
    eventually::holds("it is denied", async || check(&replica, &claims).await == 403).await;
}

#[tokio::test]
async fn a_relay_publishes_through_the_node_that_answers() {
    let services = Services::start().await;
    let swallower = Swallower::start().await;
    // Nothing listens at the last one.
    let nodes = [swallower.address, services.rabbitmq.address(), "127.0.0.1:1".parse().unwrap()];
    let _relay = Relay::start(&with_nodes(&services, &nodes)).await;
    let replica = Portcullis::start(&services.config()).await;
    is_live(&replica).await;
    let printed = services.revoked(&["--jti", "a", "--wait", "--timeout", "30s"]).await;
    assert!(printed.starts_with("revoked: applied by 1 replica after "), "{printed}");
    eventually::holds("the outbox is empty", async || services.backlog().await == 0).await;
}
