//! RabbitMQ cluster of three nodes for one test.
//!
//! The nodes share one network, like the containers of a pod, and each is published under the port
//! that it listens on. The program by which they find each other runs in a container of its own, so
//! that it stays when a node is killed.

use std::{net::SocketAddr, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{
    container::{Container, Setup},
    images::IMAGES,
    rabbitmq::{connect, node_setup, url},
};
use crate::{eventually, ports::Port};

/// Names of the nodes.
const NAMES: [&str; 3] = ["first", "second", "third"];
/// The port at which a node listens for the others; each next node adds one.
const DISTRIBUTION: u16 = 25672;
/// The starts of three nodes take many seconds of processor time, and tests run in parallel.
const PATIENCE: Duration = Duration::from_mins(5);
/// The timeout of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A running cluster. It is removed when this is dropped.
#[derive(Debug)]
pub struct RabbitMqCluster {
    // The order matters for the drop: first the users of the network.
    nodes: Vec<Node>,
    _network: Container,
}

#[derive(Debug)]
struct Node {
    // Before the port, which others may take as soon as it is dropped.
    container: Container,
    port: Port,
}

/// A stream, as a node lists it. Queues of other types have a text in place of a list.
#[derive(Debug, Deserialize)]
struct Stream {
    name: String,
    leader: String,
    online: Vec<String>,
}

// === impl RabbitMqCluster ===

impl RabbitMqCluster {
    /// Starts it and waits until all nodes are members.
    pub async fn start() -> Self {
        let ports: Vec<_> = NAMES.iter().map(|_| Port::reserve()).collect();
        let network = Setup::new("network", &IMAGES.rabbitmq, "exec epmd")
            .user("rabbitmq")
            .publish(ports.iter().map(|port| (port, port.number())))
            .start()
            .await;
        let mut nodes = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            let container = node(index, &port).network_of(&network).start().await;
            nodes.push(Node { container, port });
        }
        let cluster = Self { nodes, _network: network };
        cluster.complete().await;
        cluster
    }

    /// The addresses of the nodes.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.port.address()).collect()
    }

    /// The number of nodes.
    #[must_use]
    pub const fn size(&self) -> usize {
        NAMES.len()
    }

    /// The node that leads a stream.
    pub async fn leader(&self, stream: &str) -> usize {
        eventually::some("the stream has a leader", async || {
            let streams = self.streams(0).await?;
            let found = streams.into_iter().find(|found| found.name == stream)?;
            NAMES.iter().position(|name| found.leader == full_name(name))
        })
        .await
    }

    /// Kills a node with SIGKILL.
    pub async fn kill(&self, node: usize) {
        self.nodes[node].container.kill().await;
    }

    /// Restarts a node, with its data, and waits until the cluster is complete.
    pub async fn restart(&self, node: usize) {
        self.nodes[node].container.start_again().await;
        self.complete().await;
    }

    /// Waits until each node accepts connections, and each stream is on all nodes: from then on, no
    /// data is lost with a node.
    ///
    /// # Panics
    /// When a node ends instead, or does not in time.
    async fn complete(&self) {
        for (node, name) in NAMES.iter().enumerate() {
            let what = format!("the {name} node is a member");
            eventually::holds_within(PATIENCE, &what, || async {
                self.nodes[node].container.assert_running().await;
                let address = self.nodes[node].port.address();
                connect(&url(address), TIMEOUT).await.is_ok() && self.knows_all(node).await
            })
            .await;
        }
    }

    async fn knows_all(&self, node: usize) -> bool {
        let command = ["rabbitmqctl", "--quiet", "eval", "length(rabbit_nodes:all_running())."];
        let running = self.nodes[node].container.try_exec(&command).await;
        let are_members = running.is_some_and(|count| count.trim() == NAMES.len().to_string());
        let streams = if are_members { self.streams(node).await } else { None };
        streams
            .is_some_and(|streams| streams.iter().all(|stream| stream.online.len() == NAMES.len()))
    }

    /// The streams that a node lists.
    async fn streams(&self, node: usize) -> Option<Vec<Stream>> {
        let command = ["rabbitmqctl", "--quiet", "list_queues", "--formatter", "json"];
        let columns = ["name", "leader", "online"];
        let command = [&command[..], &columns[..]].concat();
        let list = self.nodes[node].container.try_exec(&command).await?;
        let queues: Vec<Value> = serde_json::from_str(&list).ok()?;
        let streams = queues.into_iter().filter(|queue| queue["online"].is_array());
        streams.map(|stream| serde_json::from_value(stream).ok()).collect()
    }
}

/// The set-up of a node.
fn node(index: usize, port: &Port) -> Setup {
    let members: Vec<_> = (1..)
        .zip(NAMES)
        .map(|(place, name)| {
            format!("cluster_formation.classic_config.nodes.{place} = {}", full_name(name))
        })
        .collect();
    let lines = format!(
        "cluster_formation.peer_discovery_backend = classic_config\n{}",
        members.join("\n")
    );
    let distribution = DISTRIBUTION + u16::try_from(index).expect("there are three nodes");
    node_setup(NAMES[index], port.number(), &lines)
        .env("RABBITMQ_DIST_PORT", &distribution.to_string())
}

fn full_name(name: &str) -> String {
    format!("{name}@localhost")
}
