//! Site with a table in PostgreSQL as the source: three replicas, each with its own link to it.

use std::time::Duration;

use portcullis_integration_tests::{
    client::Request,
    eventually,
    portcullis::{Config, Replicas, token_route},
    services::{
        Link,
        postgres::{self, Postgres, PostgresClient},
    },
    wall_clock::WallClock,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    endpoints::{Endpoints, Source},
    fault::FaultKind,
    plan::{PlannedFault, REPLICAS},
    setup::Setup,
    site::{Broken, Site},
};

/// PostgreSQL and replicas.
#[derive(Debug)]
pub struct TableSite {
    // The order matters: fields drop in it, users before what they use.
    replicas: Vec<Replicas>,
    links: Vec<Link>,
    clocks: Vec<WallClock>,
    setup: Setup,
    /// Holds the lock on the table.
    lock: Option<PostgresClient>,
    postgres: Postgres,
    markers: u64,
    _folder: TempDir,
}

/// The table of the writers.
const TABLE: &str = "CREATE TABLE revoked_tokens (token_id TEXT PRIMARY KEY, \
                     revoked_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP)";
/// The trigger that is shipped with Portcullis.
const TRIGGER: &str = include_str!("../../deploy/postgres/revocations.sql");
const DISABLE: &str = "ALTER TABLE revoked_tokens DISABLE TRIGGER portcullis_revocation";
const ENABLE: &str = "ALTER TABLE revoked_tokens ENABLE TRIGGER portcullis_revocation";
const LOCK: &str = "BEGIN; LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE";
/// As a migration.
const REPLACE: &str = "CREATE TABLE next (LIKE revoked_tokens INCLUDING ALL); BEGIN; \
                       LOCK TABLE revoked_tokens IN ACCESS EXCLUSIVE MODE; \
                       INSERT INTO next SELECT * FROM revoked_tokens; \
                       ALTER TABLE revoked_tokens RENAME TO last; \
                       ALTER TABLE next RENAME TO revoked_tokens; COMMIT; DROP TABLE last";
/// The longest time that any recovery may take.
const PATIENCE: Duration = Duration::from_mins(2);

// === impl TableSite ===

impl TableSite {
    /// Starts everything, and waits until it is ready.
    ///
    /// # Panics
    /// If something does not start.
    pub async fn start(setup: Setup) -> Self {
        let postgres = Postgres::start().await;
        let client = postgres.client().await;
        client.run(TABLE).await;
        client.run(TRIGGER).await;
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let mut links = Vec::new();
        for _ in 0..REPLICAS {
            links.push(Link::to(postgres.address()).await);
        }
        let clocks = (0..REPLICAS)
            .map(|replica| WallClock::new(folder.path(), &format!("clock-{replica}")))
            .collect();
        let mut site = Self {
            replicas: Vec::new(),
            links,
            clocks,
            setup,
            lock: None,
            postgres,
            markers: 0,
            _folder: folder,
        };
        site.launch().await;
        site.recovered().await;
        site
    }

    /// The logs of the replicas since their last start.
    pub fn logs(&mut self) -> String {
        let mut logs = String::new();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let log = replica.get_mut(0).process().output();
            logs.extend([&format!("--- replica {number} ---\n"), log.as_str()]);
        }
        logs
    }

    async fn launch(&mut self) {
        self.replicas.clear();
        for (link, clock) in self.links.iter().zip(&self.clocks) {
            let config = config(&self.setup, &postgres::url(link.address()));
            let config = if self.setup.clocks { clock.apply(config) } else { config };
            self.replicas.push(Replicas::launch(1, &config).await);
        }
    }

    /// Inserts a marker row, and waits until all replicas have it.
    async fn marked(&mut self) {
        self.markers += 1;
        let jti = format!("marker-{}-{}", std::process::id(), self.markers);
        let client = self.postgres.client().await;
        client.execute("INSERT INTO revoked_tokens VALUES ($1)", &[&jti]).await;
        for (number, replica) in self.replicas.iter().enumerate() {
            let what = format!("replica {number} has the marker row");
            let admin = replica.get(0).admin();
            eventually::holds_within(PATIENCE, &what, || admin.is_revoked(&jti)).await;
        }
    }

    fn signal(&self, replica: usize, signal: Signal) {
        self.replicas[replica].get(0).signal(signal);
    }

    async fn run(&self, statements: &str) {
        self.postgres.client().await.run(statements).await;
    }
}

impl Site for TableSite {
    async fn use_setup(&mut self, setup: Setup) {
        if self.setup != setup {
            self.setup = setup;
            self.launch().await;
            self.recovered().await;
        }
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            grpc: self.replicas.iter().flat_map(Replicas::grpc).collect(),
            admins: self.replicas.iter().flat_map(Replicas::admins).collect(),
            source: Source::Table(self.postgres.address()),
        }
    }

    async fn break_one(&mut self, planned: &PlannedFault) -> Broken {
        let PlannedFault { kind, replica, .. } = *planned;
        match kind {
            FaultKind::TableLinkCut => self.links[replica].cut().await,
            FaultKind::TableLinkFrozen => self.links[replica].freeze(),
            FaultKind::PostgresKilled => self.postgres.kill().await,
            FaultKind::PostgresPaused => self.postgres.pause().await,
            FaultKind::TableLocked => {
                let client = self.postgres.client().await;
                client.run(LOCK).await;
                self.lock = Some(client);
            }
            FaultKind::TriggerDisabled => self.run(DISABLE).await,
            FaultKind::TableReplaced => self.run(REPLACE).await,
            FaultKind::ReplicaKilled => self.replicas[replica].kill(0),
            FaultKind::ReplicaStopped => self.signal(replica, Signal::STOP),
            FaultKind::ReplicasStopped => {
                (0..REPLICAS).for_each(|replica| self.signal(replica, Signal::STOP));
            }
            FaultKind::ClockJump => self.clocks[replica].set(planned.offset),
            kind => assert!(!FaultKind::OF_TABLE.contains(&kind), "{kind} is injected"),
        }
        Broken::default()
    }

    async fn heal(&mut self, planned: &PlannedFault, _: &Broken) {
        let PlannedFault { kind, replica, .. } = *planned;
        match kind {
            FaultKind::TableLinkCut | FaultKind::TableLinkFrozen => {
                self.links[replica].restore().await;
            }
            FaultKind::PostgresKilled => self.postgres.restart().await,
            FaultKind::PostgresPaused => self.postgres.unpause().await,
            FaultKind::TableLocked => {
                if let Some(client) = self.lock.take() {
                    client.run("COMMIT").await;
                }
            }
            FaultKind::TriggerDisabled => self.run(ENABLE).await,
            FaultKind::TableReplaced => self.run(TRIGGER).await,
            FaultKind::ReplicaKilled => self.replicas[replica].relaunch(0, |config| config).await,
            FaultKind::ReplicaStopped => self.signal(replica, Signal::CONT),
            FaultKind::ReplicasStopped => {
                (0..REPLICAS).for_each(|replica| self.signal(replica, Signal::CONT));
            }
            FaultKind::ClockJump => self.clocks[replica].set(0),
            kind => assert!(!FaultKind::OF_TABLE.contains(&kind), "{kind} is healed"),
        }
    }

    async fn recovered(&mut self) {
        self.postgres.ready().await;
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let admin = replica.get(0).admin();
            let what = format!("replica {number} is live");
            eventually::holds_within(PATIENCE, &what, || async {
                let summary = admin.try_call(Request::get("/v1/revocations")).await;
                summary.is_ok_and(|summary| {
                    summary.status == 200 && summary.json()["state"].as_str() == Some("live")
                })
            })
            .await;
            replica.ready().await;
        }
        self.marked().await;
    }
}

fn config(setup: &Setup, url: &str) -> Config {
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    Config::new([token_route("all", &["/*"])])
        .with("blacklist.postgres.url", url)
        .with("blacklist.postgres.revocation_status_cache_ttl", millis(setup.resnapshot))
        .with("blacklist.max_staleness", millis(setup.max_staleness))
        .with("log.filter", "info,decision=off")
}
