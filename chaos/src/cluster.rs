//! Cluster of a run: the services, three replicas, each with its own links to the services, and a
//! relay. It is reused from run to run, because services are slow to start.

mod faults;
mod relay;
mod ways;

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
        RabbitMq, RedisSentinel, rabbitmq,
        sentinel::{MASTER_NAME, Member},
    },
    wall_clock::WallClock,
};
use rustix::process::Signal;
use tempfile::TempDir;

pub use self::{relay::Relay, ways::Ways};
use crate::{
    endpoints::{Endpoints, Source},
    plan::REPLICAS,
    primary::PrimaryClient,
    setup::{Mode, Setup},
};

/// The stream that the replicas read.
pub const STREAM: &str = "portcullis.blacklist";
/// The longest time that any recovery may take; a broker is slow to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// A published event that has not arrived after this time may be lost.
const SOON: Duration = Duration::from_secs(5);

/// Services, replicas and a relay.
#[derive(Debug)]
pub struct Cluster {
    // The order matters: fields drop in it, users before what they use.
    replicas: Vec<Replicas>,
    relay: Relay,
    ways: Vec<Ways>,
    clocks: Vec<WallClock>,
    setup: Setup,
    publisher: Publisher,
    store: Arc<PrimaryClient>,
    /// Redis, its replica and its sentinels.
    pub redis: RedisSentinel,
    /// The broker.
    pub rabbitmq: RabbitMq,
    markers: u64,
    _folder: TempDir,
}

// === impl Cluster ===

impl Cluster {
    /// Starts everything, and waits until it is ready.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(setup: Setup) -> Self {
        let (rabbitmq, redis) = tokio::join!(RabbitMq::start(), RedisSentinel::start());
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let mut ways = Vec::new();
        for _ in 0..REPLICAS {
            ways.push(Ways::to(rabbitmq.address(), &redis).await);
        }
        let clocks = (0..REPLICAS)
            .map(|replica| WallClock::new(folder.path(), &format!("clock-{replica}")))
            .collect();
        let direct = config(&setup, &rabbitmq.url(), &redis.sentinels());
        let relay = Relay::start(&direct, folder.path());
        let publisher = Publisher::new(&rabbitmq.url(), redis.client(Member::First)).patient();
        let store = Arc::new(PrimaryClient::new(&redis));
        let mut cluster = Self {
            replicas: Vec::new(),
            relay,
            ways,
            clocks,
            setup,
            publisher,
            store,
            redis,
            rabbitmq,
            markers: 0,
            _folder: folder,
        };
        cluster.launch().await;
        cluster.recovered().await;
        cluster
    }

    /// Restarts all replicas with this set-up, if it differs from the current one.
    pub async fn use_setup(&mut self, setup: Setup) {
        if self.setup == setup {
            return;
        }
        self.setup = setup;
        self.launch().await;
        self.recovered().await;
    }

    /// The set-up of the replicas.
    #[must_use]
    pub const fn setup(&self) -> Setup {
        self.setup
    }

    async fn launch(&mut self) {
        self.replicas.clear();
        for (ways, clock) in self.ways.iter().zip(&self.clocks) {
            let broker = rabbitmq::url(ways.broker.address());
            let mut config = config(&self.setup, &broker, &ways.sentinel_addresses());
            if self.setup.clocks {
                config = clock.apply(config);
            }
            self.replicas.push(Replicas::launch(1, &config).await);
        }
    }

    /// The addresses and clients of the cluster.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints {
            grpc: self.replicas.iter().flat_map(Replicas::grpc).collect(),
            admins: self.replicas.iter().flat_map(Replicas::admins).collect(),
            source: Source::Broker {
                store: Arc::clone(&self.store),
                command: self.relay.command(),
                broker: self.rabbitmq.url(),
                redis: self.redis.address(Member::First),
            },
        }
    }

    /// The links of a replica to the services.
    #[must_use]
    pub fn ways(&self, replica: usize) -> &Ways {
        &self.ways[replica]
    }

    /// The links of all replicas to the services.
    #[must_use]
    pub fn all_ways(&self) -> &[Ways] {
        &self.ways
    }

    /// Sets the offset of the wall clock of a replica, in seconds. The set-up must allow it.
    pub fn set_clock(&self, replica: usize, offset: i64) {
        self.clocks[replica].set(offset);
    }

    /// The relay.
    pub fn relay(&mut self) -> &mut Relay {
        &mut self.relay
    }

    /// A publisher for floods and markers.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The client of the primary Redis.
    #[must_use]
    pub fn store(&self) -> &PrimaryClient {
        &self.store
    }

    /// The current primary.
    pub async fn primary(&self) -> Member {
        eventually::some("there is a primary", || self.redis.primary()).await
    }

    /// A replica, as a group of one.
    pub fn replica(&mut self, replica: usize) -> &mut Replicas {
        &mut self.replicas[replica]
    }

    /// Sends a signal to the process of a replica.
    pub fn signal(&self, replica: usize, signal: Signal) {
        self.replicas[replica].get(0).signal(signal);
    }

    /// Deletes the exclusive queue of a replica, if it has one.
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

    /// The logs of the replicas and the relay since their last start.
    pub fn logs(&mut self) -> String {
        let mut logs = format!("--- relay ---\n{}", self.relay.log());
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let log = replica.get_mut(0).process().output();
            logs.extend([&format!("--- replica {number} ---\n"), log.as_str()]);
        }
        logs
    }

    /// How often replicas stopped trusting their sets, as they do after a pause; by their logs.
    pub fn losses(&mut self) -> usize {
        let logs = self.logs();
        let lost = ["blacklist feed lost", "process was paused"];
        lost.iter().map(|text| logs.matches(*text).count()).sum()
    }

    /// Waits until everything has recovered: services run, all replicas are live and ready, the
    /// outbox is empty, and new events arrive at all replicas.
    ///
    /// # Panics
    /// If this takes too long.
    pub async fn recovered(&mut self) {
        self.redis_recovered().await;
        self.rabbitmq.ready().await;
        self.relay.assert_running();
        for replica in 0..REPLICAS {
            // First, because after a flood the replay is long.
            self.live(replica).await;
            self.replicas[replica].ready().await;
            self.connected_to_store(replica).await;
        }
        self.drained().await;
        self.marked().await;
    }

    /// Waits until there is one primary, and the other Redis replicates it.
    ///
    /// # Panics
    /// If this takes too long.
    pub async fn redis_recovered(&self) {
        // Sentinels may still be about to elect another primary.
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

    /// Waits until a replica has a connection to the primary Redis.
    async fn connected_to_store(&self, replica: usize) {
        let admin = self.admin(replica);
        let what = format!("replica {replica} is connected to Redis");
        eventually::holds_within(PATIENCE, &what, || async {
            let metrics = admin.try_call(Request::get("/metrics")).await;
            metrics.is_ok_and(|metrics| metrics.text().contains("\nportcullis_redis_up 1\n"))
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

    /// Publishes a marker event, and waits until all replicas have it. Events arrive in order, so
    /// the replicas then have all earlier events. A stream that is being deleted loses events, so a
    /// marker that does not arrive is published again.
    async fn marked(&mut self) {
        self.markers += 1;
        let jti = format!("marker-{}-{}", std::process::id(), self.markers);
        let wire = Event::add_for_an_hour(&jti).wire();
        let published = Cell::new(None);
        eventually::holds_within(PATIENCE, "all replicas get events", async || {
            if published.get().is_none_or(|at: Instant| at.elapsed() > SOON) {
                let body = [wire.as_bytes()];
                let sent = tokio::time::timeout(SOON, self.publisher.try_publish(&body)).await;
                published.set(matches!(sent, Ok(Ok(()))).then(Instant::now));
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

/// A configuration with the broker at a URL and sentinels at these addresses.
fn config(setup: &Setup, broker: &str, sentinels: &[SocketAddr]) -> Config {
    let sentinels: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    let config = Config::new([token_route("all", &["/*"])])
        .with("blacklist.mode", setup.mode.as_str())
        .with("blacklist.max_staleness", millis(setup.max_staleness))
        .with("blacklist.rabbitmq.url", broker)
        .with("blacklist.rabbitmq.topology", setup.topology.as_str())
        .with("blacklist.rabbitmq.stream", STREAM)
        .with("blacklist.redis.sentinels", sentinels)
        .with("blacklist.redis.master_name", MASTER_NAME)
        .with("blacklist.redis.timeout", millis(setup.store_timeout))
        // There are thousands of decisions, and the history has them.
        .with("log.filter", "info,decision=off");
    match setup.mode {
        Mode::Authoritative => config
            .with("blacklist.redis.resnapshot_interval", millis(setup.resnapshot))
            .with("blacklist.while_stale", setup.while_stale.as_str()),
        Mode::RedisOnMiss => {
            config.with("blacklist.redis.resnapshot_interval", millis(setup.resnapshot))
        }
        // There is no local set, so there are no snapshots.
        Mode::RedisAlways => config,
    }
}
