//! The relay: what publishers leave in the outbox is published to the broker, and nothing is lost
//! however and whenever the relay ends.
//!
//! An entry leaves the outbox when the broker has confirmed it, not before. What is interrupted in
//! between is published twice, and perhaps after a later event. That changes nothing: to revoke is
//! idempotent, and replicas look a removal up in the store.
//!
//! Of several relays one is the leader, by a lock that expires. That saves work, and nothing else
//! depends on it: relays that work at the same time publish entries twice, and an entry is removed
//! only if it is still the oldest one.

mod backoff;
mod batch;

use std::time::Duration;

use self::{
    backoff::Backoff,
    batch::{BATCH, BATCH_BYTES, Batcher},
};
use super::{
    config::{ConfigError, RabbitMqConfig},
    nonce::{self, NoChance},
    rabbitmq::{Broker, BrokerError, PublishError, Published, Publisher},
    redis::{
        BuildError as RedisBuildError, Entry, Fate, Keeper, Outbox, Redis, Removed, StoreError,
    },
};
use crate::{
    drain::Drain,
    failpoint,
    readiness::{BlockReady, Readiness},
    telemetry::{RedisMetrics, RelayCounts, RelayMetrics},
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
    NoChance(#[from] NoChance),
}

/// Why a session of the relay ended.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error(transparent)]
    Setup(#[from] RedisBuildError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("another relay is the leader, or may be")]
    LeadershipLost,
    #[error("stopping")]
    Stopping,
}

/// What one session leaves to the next.
#[derive(Debug, Default)]
struct State {
    batcher: Batcher,
    backoff: Backoff,
}

/// How long a leader that does not renew its lock keeps others from taking over.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// How often the leader renews its lock.
const RENEWAL: Duration = Duration::from_millis(500);
/// How often a relay that stands by tries to become the leader.
const STANDBY_PAUSE: Duration = Duration::from_millis(100);
/// Publishers of other systems give no sign that there is something to do.
const POLL: Duration = Duration::from_millis(50);

// === impl Relay ===

impl Relay {
    /// Reads the files that the configuration names; connects to nothing.
    ///
    /// # Errors
    /// When the sections about broker and store are missing or unusable.
    pub fn build(
        config: &super::Config,
        metrics: RelayMetrics,
        readiness: &Readiness,
    ) -> Result<Self, RelayBuildError> {
        config.check()?;
        let missing = |key| {
            ConfigError::new(key, "the relay moves events from Redis to RabbitMQ; add this section")
        };
        let redis = config.redis.as_ref().ok_or_else(|| missing("blacklist.redis"))?;
        let broker = config.rabbitmq.clone().ok_or_else(|| missing("blacklist.rabbitmq"))?;
        // Files are read again at each connection; here, to say at once what is wrong with them.
        let usable = Broker::new(&broker, "");
        usable.map_err(|error| RelayBuildError::Broker(error.to_string()))?;
        let (redis, keeper) = Redis::build(redis, RedisMetrics::default())?;
        Ok(Self {
            outbox: Outbox::new(redis, nonce::random_name()?, LOCK_TIME),
            keeper: Some(keeper),
            broker,
            metrics,
            readiness: readiness.clone(),
            block_ready: Some(readiness.block(NOT_CONNECTED)),
        })
    }

    /// Works, or stands by, until `drain` begins; ends after what has been begun.
    pub async fn run(mut self, drain: Drain) {
        if let Some(keeper) = self.keeper.take() {
            drain.spawn("redis connection", keeper.run(drain.clone()));
        }
        let mut state = State::default();
        while !drain.is_stopping() {
            let why = match self.session(&drain, &mut state).await {
                Err(why) => why,
                Ok(never) => match never {},
            };
            self.metrics.set_leader(false);
            if matches!(why, Interruption::Stopping) {
                break;
            }
            if why.is_about_a_connection() {
                self.block_ready.get_or_insert_with(|| self.readiness.block(NOT_CONNECTED));
            }
            match &why {
                Interruption::Publish(PublishError::Returned) => {
                    tracing::error!(error = %why, "an event stays in the outbox");
                }
                why => tracing::warn!(error = %why, "relay session ended; retrying"),
            }
            tokio::select! {
                () = drain.stopping() => {}
                () = tokio::time::sleep(state.backoff.after_failure()) => {}
            }
        }
    }

    /// Connects to both sides, becomes the leader, and works until something goes wrong.
    async fn session(&mut self, drain: &Drain, state: &mut State) -> Result<Never, Interruption> {
        // Passwords and certificates may have changed.
        let mut publisher = tokio::select! {
            () = drain.stopping() => return Err(Interruption::Stopping),
            connected = self.connect() => connected?,
        };
        self.block_ready = None;
        let ended = self.work(&mut publisher, drain, state).await;
        publisher.close().await;
        // Another relay need not wait until the lock expires, whatever went wrong here. If the store
        // does not answer, it has to.
        let _ = self.outbox.release().await;
        ended
    }

    async fn connect(&self) -> Result<Publisher, Interruption> {
        let (store, broker) = tokio::join!(self.outbox.connect(), Publisher::connect(&self.broker));
        store?;
        if broker.is_err() {
            // No relay works without a broker, and what is to be published only grows.
            self.metrics.set_backlog(self.outbox.length().await?);
        }
        Ok(broker?)
    }

    async fn work(
        &self,
        publisher: &mut Publisher,
        drain: &Drain,
        state: &mut State,
    ) -> Result<Never, Interruption> {
        self.stand_by(publisher, drain, state).await?;
        failpoint::reached("relay::locked");
        tracing::info!("relay became leader");
        self.metrics.set_leader(true);
        tokio::select! {
            biased;
            lost = self.keep_lock() => Err(lost),
            ended = self.pump(publisher, drain, state) => ended,
        }
    }

    /// Resolves when this relay is the leader.
    async fn stand_by(
        &self,
        publisher: &Publisher,
        drain: &Drain,
        state: &mut State,
    ) -> Result<(), Interruption> {
        while !self.outbox.lock().await? {
            // There is a leader, which tells what is left.
            self.metrics.set_backlog(0);
            state.backoff.reset();
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
            // Without an answer it may still be ours. If the store is away, reading the outbox fails.
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
        state: &mut State,
    ) -> Result<Never, Interruption> {
        self.restore().await?;
        loop {
            if drain.is_stopping() {
                return Err(Interruption::Stopping);
            }
            let (entries, backlog) = self.outbox.read(state.batcher.count(), BATCH_BYTES).await?;
            self.metrics.set_backlog(backlog);
            failpoint::reached("relay::read");
            if !entries.is_empty() {
                self.relay(publisher, entries, state).await?;
                continue;
            }
            state.backoff.reset();
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
            let entries = self.outbox.read_unknown(BATCH, BATCH_BYTES).await?;
            if entries.is_empty() {
                break;
            }
            if self.outbox.restore(&entries, batch::is_known).await? == Removed::Moved {
                break;
            }
            left = left.saturating_sub(u64::try_from(entries.len()).unwrap_or(u64::MAX));
            restored += entries.iter().filter(|entry| batch::is_known(entry)).count();
        }
        if restored > 0 {
            tracing::info!(
                restored,
                "events that an older relay set aside are in the outbox again"
            );
        }
        Ok(())
    }

    /// Publishes a batch, and removes what the broker has confirmed.
    async fn relay(
        &self,
        publisher: &mut Publisher,
        entries: Vec<Vec<u8>>,
        state: &mut State,
    ) -> Result<(), Interruption> {
        let batch = state.batcher.begin(entries);
        let events = batch.iter().filter(|entry| entry.fate == Fate::Relayed);
        let bodies: Vec<&[u8]> = events.map(|entry| entry.body.as_slice()).collect();
        let Published { confirmed, failure } = publisher.publish_all(&bodies).await;
        failpoint::reached("relay::published");
        let is_rejected = matches!(failure, Some(PublishError::Rejected(_)));
        let settled = state.batcher.settle(batch, confirmed, is_rejected);
        match self.outbox.remove(&settled).await? {
            Removed::Done => self.count(&settled),
            Removed::Moved => tracing::info!("another relay works on the outbox, too"),
        }
        state.batcher.removed(settled.len());
        if !settled.is_empty() {
            state.backoff.reset();
        }
        failpoint::reached("relay::removed");
        match failure {
            None => Ok(()),
            Some(error @ PublishError::Rejected(_)) => {
                tracing::warn!(%error, "the events of the failed batch are sent one by one");
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
            tracing::error!(count, "malformed entries of the outbox; moved to the dead letters");
        }
        if counts.rejected > 0 {
            let bytes = settled.iter().map(|entry| entry.body.len()).sum::<usize>();
            tracing::error!(bytes, "the broker rejects an event; moved to the dead letters");
        }
        if counts.unknown > 0 {
            let count = counts.unknown;
            tracing::warn!(count, "events of an unknown type; set aside for a newer relay");
        }
    }
}

// === impl Interruption ===

impl Interruption {
    /// Whether store or broker is out of reach, as opposed to refusing what the relay asks of it.
    const fn is_about_a_connection(&self) -> bool {
        match self {
            Self::Setup(_)
            | Self::Store(_)
            | Self::Broker(_)
            | Self::Publish(PublishError::Broker(_)) => true,
            Self::Publish(_) | Self::LeadershipLost | Self::Stopping => false,
        }
    }
}

/// Nothing ends without a reason.
enum Never {}

const NOT_CONNECTED: &str = "not connected to store and broker";
