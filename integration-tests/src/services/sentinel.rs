//! Redis Sentinel set-up for one test: a primary, one or two replicas and three sentinels.
//!
//! They share one network, like the containers of a pod, and each is published under the port
//! that it listens on, so that the addresses from a sentinel are valid inside and outside.

use std::{net::SocketAddr, time::Duration};

use super::{
    RedisClient,
    container::{Container, Setup},
    images::IMAGES,
};
use crate::{eventually, ports::Port};

/// The name of the primary at the sentinels.
pub const MASTER_NAME: &str = "mymaster";
/// The quorum that replaces the primary.
const QUORUM: usize = 2;
/// The number of sentinels.
const SENTINELS: usize = 3;
/// All Redis, in the order of the list.
const MEMBERS: [Member; 3] = [Member::First, Member::Second, Member::Third];
/// Long, because sentinels that were paused for two seconds do nothing for half a minute.
const LONG: Duration = Duration::from_mins(2);
/// After so long without an answer the sentinels replace the primary: soon, or only if it has
/// failed, and not because a busy machine was stalled.
const SOON: Duration = Duration::from_secs(1);
const PATIENTLY: Duration = Duration::from_secs(5);

/// A primary, its replicas and three sentinels. They are removed when this is dropped.
#[derive(Debug)]
pub struct RedisSentinel {
    // The order matters for the drop: first the users of the network, then the network, then the
    // ports.
    redis: Vec<Node>,
    sentinels: Vec<Node>,
    _network: Container,
}

/// One of the Redis, by its initial role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// The initial primary.
    First,
    /// The initial replica.
    Second,
    /// The second replica, where there is one.
    Third,
}

#[derive(Debug)]
struct Node {
    container: Container,
    port: Port,
}

// === impl RedisSentinel ===

impl RedisSentinel {
    /// Starts them, and waits until the replica has the primary's data and each sentinel knows all
    /// members. A primary that is silent for a second is replaced.
    pub async fn start() -> Self {
        Self::launch(SOON, 1).await
    }

    /// The same; a primary is replaced after five seconds.
    pub async fn start_patient() -> Self {
        Self::launch(PATIENTLY, 1).await
    }

    /// The same with two replicas.
    pub async fn start_with_two_replicas() -> Self {
        Self::launch(SOON, 2).await
    }

    async fn launch(down_after: Duration, replicas: usize) -> Self {
        let ports: Vec<_> = (0..1 + replicas + SENTINELS).map(|_| Port::reserve()).collect();
        let network = Setup::new("network", &IMAGES.redis, "exec sleep infinity")
            .publish(ports.iter().map(|port| (port, port.number())))
            .start()
            .await;
        let mut ports = ports.into_iter();
        let first = ports.next().expect("there is a port for each");
        let primary = first.number();
        let mut redis = vec![Node::start("redis", first, &network, &server(None)).await];
        for port in ports.by_ref().take(replicas) {
            redis.push(Node::start("replica", port, &network, &server(Some(primary))).await);
        }
        let mut sentinels = Vec::new();
        for port in ports {
            let script = sentinel(primary, down_after);
            sentinels.push(Node::start("sentinel", port, &network, &script).await);
        }
        let all = Self { redis, sentinels, _network: network };
        all.settled(Member::First).await;
        all
    }

    /// The addresses of the sentinels.
    #[must_use]
    pub fn sentinels(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(|node| node.port.address()).collect()
    }

    /// The address of one of them.
    #[must_use]
    pub fn address(&self, member: Member) -> SocketAddr {
        self.node(member).port.address()
    }

    /// Which of them a majority of the sentinels report as the primary.
    pub async fn primary(&self) -> Option<Member> {
        let mut votes = [0; MEMBERS.len()];
        for address in self.sentinels() {
            let named = self.named_by(&RedisClient::new(address, None)).await;
            for (votes, member) in votes.iter_mut().zip(MEMBERS) {
                *votes += usize::from(named == Some(member));
            }
        }
        let most = votes.iter().position(|votes| *votes >= QUORUM)?;
        Some(MEMBERS[most])
    }

    /// Which of them a sentinel reports as the primary.
    async fn named_by(&self, sentinel: &RedisClient) -> Option<Member> {
        let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME];
        let answer = sentinel.try_command::<Vec<String>>(&question).await.ok()?;
        let port = answer.get(1)?.parse::<u16>().ok()?;
        self.members().find(|member| self.node(*member).port.number() == port)
    }

    /// A client of one of them.
    #[must_use]
    pub fn client(&self, member: Member) -> RedisClient {
        RedisClient::new(self.address(member), None)
    }

    /// A client of the current primary.
    pub async fn primary_client(&self) -> RedisClient {
        let primary = eventually::some("there is a primary", || self.primary()).await;
        self.client(primary)
    }

    /// Kills one of them, as a crash would. Confirmed writes stay.
    pub async fn kill(&self, member: Member) {
        self.node(member).container.kill().await;
    }

    /// Restarts one of them on its port, with its data, and waits until it answers. If another one
    /// is the primary by now, the sentinels make it a replica soon after.
    pub async fn restart(&self, member: Member) {
        self.node(member).container.start_again().await;
        self.client(member).ready().await;
    }

    /// Pauses one of them: it accepts connections, and does not answer.
    pub async fn pause(&self, member: Member) {
        self.node(member).container.pause().await;
    }

    /// Resumes one of them.
    pub async fn unpause(&self, member: Member) {
        self.node(member).container.unpause().await;
    }

    /// Kills a sentinel, by its place in [`sentinels`](Self::sentinels).
    pub async fn kill_sentinel(&self, index: usize) {
        self.sentinels[index].container.kill().await;
    }

    /// Restarts a sentinel, with its state.
    pub async fn restart_sentinel(&self, index: usize) {
        self.sentinels[index].container.start_again().await;
        RedisClient::new(self.sentinels[index].port.address(), None).ready().await;
    }

    /// Orders the sentinels to fail over, and waits until the other one is the primary. Returns the
    /// new primary.
    pub async fn fail_over(&self) -> Member {
        let before = eventually::some("there is a primary", || self.primary()).await;
        let after = before.other();
        let sentinel = RedisClient::new(self.sentinels[0].port.address(), None);
        eventually::holds_within(LONG, "the sentinels replace the primary", || async {
            // Refused during a failover, and silently aborted on a slow machine: so it is repeated.
            if self.named_by(&sentinel).await == Some(before) {
                let failover = ["SENTINEL", "FAILOVER", MASTER_NAME];
                drop(sentinel.try_command::<String>(&failover).await);
            }
            self.is_elected(after).await
        })
        .await;
        after
    }

    /// Split brain: makes the sentinels report the other one as the primary, as after a failover
    /// from which the old primary and its clients were cut off. From then on, both are primaries.
    /// Returns the one that the sentinels report.
    pub async fn fail_over_unheard(&self) -> Member {
        let before = eventually::some("there is a primary", || self.primary()).await;
        let after = before.other();
        // While no sentinel monitors them, neither is made a replica of the other.
        for address in self.sentinels() {
            let sentinel = RedisClient::new(address, None);
            let _: String = sentinel.command(&["SENTINEL", "REMOVE", MASTER_NAME]).await;
        }
        let _: String = self.client(after).command(&["REPLICAOF", "NO", "ONE"]).await;
        let (port, quorum) = (self.node(after).port.number().to_string(), QUORUM.to_string());
        for address in self.sentinels() {
            let watch = ["SENTINEL", "MONITOR", MASTER_NAME, "127.0.0.1", &port, &quorum];
            let _: String = RedisClient::new(address, None).command(&watch).await;
        }
        self.elected(after).await;
        assert!(self.has_role(before, "master").await, "the old primary is still a primary");
        after
    }

    /// Waits until a majority of the sentinels report `member` as the primary, and it agrees.
    pub async fn elected(&self, member: Member) {
        eventually::holds_within(LONG, "the sentinels have elected another primary", || {
            self.is_elected(member)
        })
        .await;
    }

    async fn is_elected(&self, member: Member) -> bool {
        self.primary().await == Some(member) && self.has_role(member, "master").await
    }

    /// Waits until `primary` is the primary, the others have its data, and each sentinel knows
    /// all members: from then on, a failover is possible.
    ///
    /// # Panics
    /// When one of them ends instead.
    pub async fn settled(&self, primary: Member) {
        for node in self.redis.iter().chain(&self.sentinels) {
            node.container.assert_running().await;
        }
        self.elected(primary).await;
        for replica in self.members().filter(|member| *member != primary) {
            eventually::holds_within(LONG, "the replica has the primary's data", || async {
                let state = self.client(replica);
                let state = state.try_command::<String>(&["INFO", "replication"]).await;
                state.is_ok_and(|state| state.contains("master_link_status:up"))
            })
            .await;
        }
        for address in self.sentinels() {
            let client = RedisClient::new(address, None);
            eventually::holds_within(LONG, "each sentinel knows all members", || async {
                let state = client.try_command::<String>(&["INFO", "sentinel"]).await;
                let all_members = format!(
                    "status=ok,address={},slaves={},sentinels={SENTINELS}",
                    self.address(primary),
                    self.redis.len() - 1
                );
                state.is_ok_and(|state| state.contains(&all_members))
            })
            .await;
        }
    }

    async fn has_role(&self, member: Member, role: &str) -> bool {
        self.client(member).role().await.is_ok_and(|found| found == role)
    }

    /// All Redis.
    fn members(&self) -> impl Iterator<Item = Member> {
        MEMBERS.into_iter().take(self.redis.len())
    }

    fn node(&self, member: Member) -> &Node {
        &self.redis[member as usize]
    }
}

// === impl Member ===

impl Member {
    /// The other one of two.
    ///
    /// # Panics
    /// If there are three.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
            Self::Third => panic!("of three there are two others"),
        }
    }
}

// === impl Node ===

impl Node {
    async fn start(name: &'static str, port: Port, network: &Container, script: &str) -> Self {
        let container = Setup::new(name, &IMAGES.redis, script)
            .env("PORT", &port.number().to_string())
            .network_of(network)
            .start()
            .await;
        Self { container, port }
    }
}

/// A Redis, optionally as a replica of another one.
fn server(of: Option<u16>) -> String {
    let following = of.map(|port| format!("'replicaof 127.0.0.1 {port}'")).unwrap_or_default();
    configured(
        "redis-server",
        &format!(
            "'save \"\"' 'appendonly yes' 'repl-diskless-sync-delay 0' \
             'replica-announce-ip 127.0.0.1' \"replica-announce-port $PORT\" {following}"
        ),
    )
}

/// A sentinel that replaces the primary after this time without an answer.
fn sentinel(primary: u16, down_after: Duration) -> String {
    configured(
        "redis-sentinel",
        &format!(
            "'sentinel announce-ip 127.0.0.1' \"sentinel announce-port $PORT\" \
             'sentinel monitor {MASTER_NAME} 127.0.0.1 {primary} {QUORUM}' \
             'sentinel down-after-milliseconds {MASTER_NAME} {}' \
             'sentinel failover-timeout {MASTER_NAME} 3000'",
            down_after.as_millis()
        ),
    )
}

/// A program with a configuration file, given as shell words, one per line. The file also keeps the
/// replication state, so a restart must not overwrite it.
fn configured(program: &str, lines: &str) -> String {
    format!(
        "[ -s /tmp/configuration ] || printf '%s\\n' \"port $PORT\" 'dir /tmp' 'bind 0.0.0.0' \
         'protected-mode no' {lines} >/tmp/configuration; exec {program} /tmp/configuration"
    )
}
