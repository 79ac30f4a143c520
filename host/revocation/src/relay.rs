//! The relay from the outbox in Redis to the broker: at-least-once delivery, whenever and however
//! the relay ends.
//!
//! An entry leaves the outbox when the broker has confirmed it, not before. An entry that is
//! interrupted in between is published twice, and perhaps after a later event. That is harmless: a
//! revocation is idempotent, and replicas verify an un-revocation in the store.
//!
//! Of several relays one is the leader, by a lease on a lock. That saves work, and nothing else
//! depends on it: two relays that are active at the same time publish entries twice, and an entry
//! is removed only if it is still the oldest one.

mod batch;

use std::{convert::Infallible, time::Duration};

use portcullis_runtime::{
    drain::Drain,
    failpoint,
    readiness::{BlockReady, Readiness},
    telemetry::{RedisMetrics, RelayCounts, RelayMetrics},
};

use self::batch::{BATCH, RelayBatcher};
use crate::{
    backoff::{self, Backoff},
    config::{ConfigError, RabbitMqConfig},
    rabbitmq::{Broker, BrokerError, PublishError, PublishOutcome, Publisher},
    random::{self, RandomError},
    redis::{Entry, Fate, Keeper, Outbox, Redis, RedisBuildError, StoreError},
};

/// Moves events from the outbox to the broker while [`Relay::run`] runs.
#[derive(Debug)]
pub struct Relay {
    outbox: Outbox,
    keeper: Option<Keeper>,
    broker: RabbitMqConfig,
    metrics: RelayMetrics,
    readiness: Readiness,
    block_ready: Option<BlockReady>,
}

/// The relay is configured in a way that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RelayBuildError {
    /// A section is missing, or sections contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The section about the store.
    #[error(transparent)]
    Redis(#[from] RedisBuildError),
    /// The section about the broker.
    #[error("{0}")]
    Broker(String),
    /// No name for this relay.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Why a session of the relay ended.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("leadership lost, or in doubt")]
    LeadershipLost,
    #[error("stopping")]
    Stopping,
}

/// State that is kept across sessions.
#[derive(Debug)]
struct RelayMemory {
    batcher: RelayBatcher,
    backoff: Backoff,
}

/// Pauses after failures in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How often the leader renews its lock.
const RENEWAL: Duration = Duration::from_millis(500);
/// How often a standby relay tries to become the leader.
const STANDBY_PAUSE: Duration = Duration::from_millis(100);
/// How often the outbox is polled: publishers of other systems do not wake the relay.
const POLL: Duration = Duration::from_millis(50);

// === impl Relay ===

impl Relay {
    /// Reads the files that the configuration names; connects to nothing.
    ///
    /// # Errors
    /// When the sections about broker and store are missing or unusable.
    pub fn build(
        config: &crate::config::Config,
        metrics: RelayMetrics,
        readiness: &Readiness,
    ) -> Result<Self, RelayBuildError> {
        config.check()?;
        let missing = |key| {
            ConfigError::new(key, "the relay moves events from Redis to RabbitMQ; add this section")
        };
        let redis = config.redis.as_ref().ok_or_else(|| missing("blacklist.redis"))?;
        let broker = config.rabbitmq.clone().ok_or_else(|| missing("blacklist.rabbitmq"))?;
        // Files are read again for each connection; here, to report at once what is wrong with
        // them.
        let usable = Broker::new(&broker, "");
        usable.map_err(|error| RelayBuildError::Broker(error.to_string()))?;
        let (redis, keeper) = Redis::build(redis, RedisMetrics::default())?;
        Ok(Self {
            outbox: Outbox::new(redis, random::random_name()?),
            keeper: Some(keeper),
            broker,
            metrics,
            readiness: readiness.clone(),
            block_ready: Some(readiness.block(NOT_CONNECTED)),
        })
    }

    /// Runs as leader or standby until `drain` begins; finishes the current batch.
    pub async fn run(mut self, drain: Drain) {
        if let Some(keeper) = self.keeper.take() {
            drain.spawn("redis connection", keeper.run(drain.clone()));
        }
        let backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut memory = RelayMemory { batcher: RelayBatcher::default(), backoff };
        while !drain.is_stopping() {
            let Err(why) = self.session(&drain, &mut memory).await;
            self.metrics.set_leader(false);
            if matches!(why, Interruption::Stopping) {
                break;
            }
            if why.is_about_a_connection() {
                self.block_ready.get_or_insert_with(|| self.readiness.block(NOT_CONNECTED));
            }
            match &why {
                Interruption::Publish(PublishError::Returned) => {
                    tracing::error!(error = %why, "event not published; left in the outbox");
                }
                why => tracing::warn!(error = %why, "relay session ended; retrying"),
            }
            tokio::select! {
                () = drain.stopping() => {}
                () = tokio::time::sleep(backoff::pause(&memory.backoff)) => memory.backoff.failed(),
            }
        }
    }

    /// Connects to both sides, becomes the leader, and relays until something goes wrong: it ends
    /// only with an error.
    async fn session(
        &mut self,
        drain: &Drain,
        memory: &mut RelayMemory,
    ) -> Result<Infallible, Interruption> {
        // Passwords and certificates may have changed.
        let mut publisher = tokio::select! {
            () = drain.stopping() => return Err(Interruption::Stopping),
            connected = self.connect() => connected?,
        };
        self.block_ready = None;
        let ended = self.work(&mut publisher, drain, memory).await;
        publisher.close().await;
        // Release the lock, so that another relay need not wait until it expires. If the store does
        // not answer, it has to wait.
        let _ = self.outbox.release().await;
        ended
    }

    async fn connect(&self) -> Result<Publisher, Interruption> {
        let (store, broker) = tokio::join!(self.outbox.connect(), Publisher::connect(&self.broker));
        store?;
        if broker.is_err() {
            // Without a broker no relay publishes, and the backlog only grows.
            self.metrics.set_backlog(self.outbox.length().await?);
        }
        Ok(broker?)
    }

    async fn work(
        &self,
        publisher: &mut Publisher,
        drain: &Drain,
        memory: &mut RelayMemory,
    ) -> Result<Infallible, Interruption> {
        self.stand_by(publisher, drain, memory).await?;
        failpoint::reached("relay::locked");
        tracing::info!("relay became leader");
        self.metrics.set_leader(true);
        tokio::select! {
            biased;
            lost = self.keep_lock() => Err(lost),
            ended = self.pump(publisher, drain, memory) => ended,
        }
    }

    /// Resolves when this relay is the leader.
    async fn stand_by(
        &self,
        publisher: &Publisher,
        drain: &Drain,
        memory: &mut RelayMemory,
    ) -> Result<(), Interruption> {
        while !self.outbox.lock().await? {
            // There is a leader, which reports the backlog.
            self.metrics.set_backlog(0);
            memory.backoff.reset();
            if !publisher.is_connected() {
                return Err(BrokerError::Lost("while standing by".to_owned()).into());
            }
            tokio::select! {
                () = drain.stopping() => return Err(Interruption::Stopping),
                () = tokio::time::sleep(STANDBY_PAUSE) => {}
            }
        }
        Ok(())
    }

    /// Renews the lock, until it is lost.
    async fn keep_lock(&self) -> Interruption {
        loop {
            tokio::time::sleep(RENEWAL).await;
            // Without an answer, this relay may still hold the lock. If the store is unavailable,
            // reading the outbox fails.
            if let Ok(false) = self.outbox.renew().await {
                return Interruption::LeadershipLost;
            }
        }
    }

    /// Publishes and removes, batch after batch.
    async fn pump(
        &self,
        publisher: &mut Publisher,
        drain: &Drain,
        memory: &mut RelayMemory,
    ) -> Result<Infallible, Interruption> {
        self.restore().await?;
        loop {
            if drain.is_stopping() {
                return Err(Interruption::Stopping);
            }
            let (entries, backlog) = self.outbox.read(memory.batcher.count()).await?;
            self.metrics.set_backlog(backlog);
            failpoint::reached("relay::read");
            if !entries.is_empty() {
                self.relay(publisher, entries, memory).await?;
                continue;
            }
            memory.backoff.reset();
            if !publisher.is_connected() {
                return Err(BrokerError::Lost("while there was nothing to do".into()).into());
            }
            tokio::select! {
                () = drain.stopping() => {}
                waited = self.outbox.wait(POLL) => waited?,
            }
        }
    }

    /// Moves events to the outbox whose type an older relay did not know.
    async fn restore(&self) -> Result<(), Interruption> {
        let mut left = self.outbox.count_unknown().await?;
        let mut restored = 0;
        while left > 0 {
            let entries = self.outbox.read_unknown(BATCH).await?;
            if entries.is_empty() {
                break;
            }
            if !self.outbox.restore(&entries, batch::is_known).await? {
                break;
            }
            left = left.saturating_sub(u64::try_from(entries.len()).unwrap_or(u64::MAX));
            restored += entries.iter().filter(|entry| batch::is_known(entry)).count();
        }
        if restored > 0 {
            tracing::info!(restored, "re-queued events of a type that an older relay did not know");
        }
        Ok(())
    }

    /// Publishes a batch, and removes what the broker has confirmed.
    async fn relay(
        &self,
        publisher: &mut Publisher,
        entries: Vec<Vec<u8>>,
        memory: &mut RelayMemory,
    ) -> Result<(), Interruption> {
        let batch = memory.batcher.begin(entries);
        let events = batch.iter().filter(|entry| entry.fate == Fate::Relayed);
        let bodies: Vec<&[u8]> = events.map(|entry| entry.body.as_slice()).collect();
        let PublishOutcome { confirmed, failure } = publisher.publish_all(&bodies).await;
        failpoint::reached("relay::published");
        let is_rejected = matches!(failure, Some(PublishError::Rejected(_)));
        let settled = memory.batcher.settle(batch, confirmed, is_rejected);
        if self.outbox.remove(&settled).await? {
            self.count(&settled);
        } else {
            tracing::info!("outbox changed by another relay");
        }
        memory.batcher.removed(settled.len());
        if !settled.is_empty() {
            memory.backoff.reset();
        }
        failpoint::reached("relay::removed");
        match failure {
            None => Ok(()),
            Some(error @ PublishError::Rejected(_)) => {
                tracing::warn!(%error, "batch failed; publishing its events one by one");
                publisher.reopen().await.map_err(Interruption::from)
            }
            Some(error) => Err(error.into()),
        }
    }

    fn count(&self, settled: &[Entry]) {
        let of = |fate: Fate| settled.iter().filter(|entry| entry.fate == fate).count();
        let counts = RelayCounts {
            relayed: of(Fate::Relayed),
            malformed: of(Fate::NoEvent),
            rejected: of(Fate::Rejected),
            unknown: of(Fate::UnknownType),
        };
        self.metrics.count(counts);
        if counts.malformed > 0 {
            let count = counts.malformed;
            tracing::error!(count, "malformed outbox entries; moved to the dead-letter list");
        }
        if counts.rejected > 0 {
            let bytes = settled.iter().map(|entry| entry.body.len()).sum::<usize>();
            tracing::error!(bytes, "event rejected by the broker; moved to the dead-letter list");
        }
        if counts.unknown > 0 {
            let count = counts.unknown;
            tracing::warn!(count, "events of an unknown type; moved to the `:unknown` list");
        }
    }
}

// === impl Interruption ===

impl Interruption {
    /// Whether store or broker is unreachable, as opposed to refusing a request of the relay.
    const fn is_about_a_connection(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Broker(_) | Self::Publish(PublishError::Broker(_)))
    }
}

const NOT_CONNECTED: &str = "not connected to store and broker";
