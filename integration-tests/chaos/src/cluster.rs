//! Owns what a run happens to: the services, three replicas, each with a way of its own to the
//! broker, and a relay. It lives on from run to run, because services take long to start.

mod relay;

use std::{
    cell::Cell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use portcullis_integration_tests::{
    admin::Admin,
    client::Request,
    eventually,
    portcullis::{Config, Replicas, token_route},
    publisher::{Event, OUTBOX, Publisher},
    services::{
        Link, RabbitMq, RedisSentinel, rabbitmq,
        sentinel::{MASTER_NAME, Member},
    },
};
use tempfile::TempDir;

pub use self::relay::{Command, Relay};
use crate::{
    plan::{REPLICAS, Topology},
    workload::Store,
};

/// The stream that the replicas read.
pub const STREAM: &str = "portcullis.blacklist";
/// How long anything may take to be well again; a broker takes long to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// Something that was published and has not arrived after this long may be lost.
const SOON: Duration = Duration::from_secs(5);

/// Services, replicas and a relay.
#[derive(Debug)]
pub struct Cluster {
    // In this order: whoever uses something goes before it.
    replicas: Vec<Replicas>,
    relay: Relay,
    links: Vec<Link>,
    topology: Topology,
    publisher: Publisher,
    store: Arc<Store>,
    /// Redis, its replica and its sentinels.
    pub redis: RedisSentinel,
    /// The broker.
    pub rabbitmq: RabbitMq,
    markers: u64,
    _folder: TempDir,
}

/// Where everything is, for those who ask and revoke.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// The gRPC edges of the replicas.
    pub grpc: Vec<SocketAddr>,
    /// Their admin APIs.
    pub admins: Vec<Admin>,
    /// The primary Redis.
    pub store: Arc<Store>,
    /// `portcullis revoke`.
    pub command: Command,
    broker: String,
    redis: SocketAddr,
}

// === impl Endpoints ===

impl Endpoints {
    /// A publisher with a connection of its own.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        let client = portcullis_integration_tests::services::RedisClient::new(self.redis, None);
        Publisher::new(&self.broker, client)
    }
}

// === impl Cluster ===

impl Cluster {
    /// Starts everything, and waits until all is well.
    ///
    /// # Panics
    /// When something does not start.
    pub async fn start(topology: Topology) -> Self {
        let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), RedisSentinel::start());
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let mut links = Vec::new();
        for _ in 0..REPLICAS {
            links.push(Link::to(rabbitmq.address()).await);
        }
        let direct = config(topology, &rabbitmq.url(), &redis);
        let relay = Relay::start(&direct, folder.path());
        let publisher = Publisher::new(&rabbitmq.url(), redis.client(Member::First));
        let store = Arc::new(Store::new(&redis));
        let mut cluster = Self {
            replicas: Vec::new(),
            relay,
            links,
            topology,
            publisher,
            store,
            redis,
            rabbitmq,
            markers: 0,
            _folder: folder,
        };
        cluster.launch().await;
        cluster.settled().await;
        cluster
    }

    /// Has all replicas get their events in this way, from now on.
    pub async fn use_topology(&mut self, topology: Topology) {
        if self.topology == topology {
            return;
        }
        self.topology = topology;
        self.launch().await;
        self.settled().await;
    }

    async fn launch(&mut self) {
        self.replicas.clear();
        for link in &self.links {
            let config = config(self.topology, &rabbitmq::url(link.address()), &self.redis);
            self.replicas.push(Replicas::launch(1, &config).await);
        }
    }

    /// Where everything is.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            grpc: self.replicas.iter().flat_map(Replicas::grpc).collect(),
            admins: self.replicas.iter().flat_map(Replicas::admins).collect(),
            store: Arc::clone(&self.store),
            command: self.relay.command(),
            broker: self.rabbitmq.url(),
            redis: self.redis.address(Member::First),
        }
    }

    /// The way of a replica to the broker.
    #[must_use]
    pub fn link(&self, replica: usize) -> &Link {
        &self.links[replica]
    }

    /// The ways of all replicas to the broker.
    #[must_use]
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The relay.
    pub fn relay(&mut self) -> &mut Relay {
        &mut self.relay
    }

    /// A publisher that nobody else uses.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The primary Redis.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The present primary.
    pub async fn primary(&self) -> Member {
        eventually::some("there is a primary", || self.redis.primary()).await
    }

    /// A replica, as the only one of its kind.
    pub fn replica(&mut self, replica: usize) -> &mut Replicas {
        &mut self.replicas[replica]
    }

    /// Deletes the queue of a replica, if it has one of its own.
    pub async fn delete_queue_of(&self, replica: usize) {
        let queues = self.rabbitmq.queues().await;
        let own = queues.iter().filter(|queue| queue.name.starts_with("amq.gen-"));
        if let Some(queue) = own.cycle().nth(replica) {
            self.rabbitmq.delete_exclusive_queue(&queue.name).await;
        }
    }

    /// The admin API of a replica.
    #[must_use]
    pub fn admin(&self, replica: usize) -> Admin {
        self.replicas[replica].get(0).admin()
    }

    /// What the replicas and the relay have logged since their last start.
    pub fn logs(&mut self) -> String {
        let mut logs = format!("--- relay ---\n{}", self.relay.log());
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let log = replica.get_mut(0).process().output();
            logs.extend([&format!("--- replica {number} ---\n"), log.as_str()]);
        }
        logs
    }

    /// Waits until everything is well: services run, all replicas are live and ready, the outbox is
    /// empty, and what is published now arrives everywhere.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn settled(&mut self) {
        self.redis_settled().await;
        self.rabbitmq.ready().await;
        self.relay.assert_running();
        for replica in 0..REPLICAS {
            // First, because after a flood there is much to replay.
            self.live(replica).await;
            self.replicas[replica].ready().await;
        }
        self.drained().await;
        self.marked().await;
    }

    /// Waits until there is one primary, which the other Redis follows.
    ///
    /// # Panics
    /// When it does not become so.
    pub async fn redis_settled(&self) {
        // Sentinels that are about to choose another primary have not settled yet.
        eventually::holds_within(PATIENCE, "the sentinels settle", async || {
            let settling = async { self.redis.settled(self.primary().await).await };
            tokio::time::timeout(2 * SOON, settling).await.is_ok()
        })
        .await;
    }

    /// Waits until a replica is live.
    pub async fn live(&self, replica: usize) {
        let admin = self.admin(replica);
        let what = format!("replica {replica} is live");
        eventually::holds_within(PATIENCE, &what, || async {
            let summary = admin.try_call(Request::get("/v1/revocations")).await;
            summary.is_ok_and(|summary| {
                summary.status == 200 && summary.json()["state"].as_str() == Some("live")
            })
        })
        .await;
    }

    /// Waits until the relay has published everything.
    async fn drained(&self) {
        eventually::holds_within(PATIENCE, "the outbox is empty", || async {
            self.store.command::<u64>(&["LLEN", OUTBOX]).await == Some(0)
        })
        .await;
    }

    /// Publishes something, and waits until all replicas have it: events arrive in their order, so
    /// they have everything before it, too. A stream that is being deleted takes away what it is
    /// given, so what does not arrive is published again.
    async fn marked(&mut self) {
        self.markers += 1;
        let jti = format!("marker-{}-{}", std::process::id(), self.markers);
        let wire = Event::add_for_an_hour(&jti).wire();
        let published = Cell::new(None);
        eventually::holds_within(PATIENCE, "all replicas get events", async || {
            if published.get().is_none_or(|at: Instant| at.elapsed() > SOON) {
                let sent = self.publisher.try_publish(&[wire.as_bytes()]).await;
                published.set(sent.is_ok().then(Instant::now));
            }
            for replica in 0..REPLICAS {
                if !self.admin(replica).is_revoked(&jti).await {
                    return false;
                }
            }
            true
        })
        .await;
    }
}

/// A configuration for a broker at a URL.
fn config(topology: Topology, broker: &str, redis: &RedisSentinel) -> Config {
    let sentinels: Vec<_> = redis.sentinels().iter().map(ToString::to_string).collect();
    let topology = match topology {
        Topology::Stream => "stream",
        Topology::ExclusiveQueue => "exclusive-queue",
    };
    Config::new([token_route("all", &["/*"])])
        .with("blacklist.rabbitmq.url", broker)
        .with("blacklist.rabbitmq.topology", topology)
        .with("blacklist.rabbitmq.stream", STREAM)
        .with("blacklist.redis.sentinels", sentinels)
        .with("blacklist.redis.master_name", MASTER_NAME)
        // There are thousands of them, and the history has them anyway.
        .with("log.filter", "info,decision=off")
}
