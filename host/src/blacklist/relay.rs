//! Owns the relay: what publishers leave in the outbox is published to the broker, in order, and
//! nothing is lost however and whenever the relay ends.
//!
//! An entry leaves the outbox when the broker has confirmed it, not before: what is interrupted in
//! between is published twice, which changes nothing. That holds for a token's pardon only if
//! nothing about it follows; so a pardon is published and removed by itself.
//!
//! Of several relays one is at work, by a lock that expires; see [`Lease`]. Relays of other systems
//! take no lock; see [`Outbox`].

mod lease;

use std::time::{Duration, Instant};

use self::lease::Lease;
use super::{
    config::{ConfigError, RabbitMqConfig},
    event::Event,
    nonce::{self, NoChance},
    rabbitmq::{Broker, BrokerError, PublishError, Publisher},
    redis::{BuildError as RedisBuildError, Entry, Keeper, Outbox, Redis, Removed, StoreError},
};
use crate::{
    drain::Drain,
    failpoint,
    readiness::{BlockReady, Readiness},
    telemetry::{RedisMetrics, RelayMetrics},
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

/// Why the relay has to begin anew.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Publish(PublishError),
    #[error("another relay has taken over, or may have")]
    LockLost,
    #[error("stopping")]
    Stopping,
}

/// How long a relay that does not say that it is alive keeps others from taking over.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// How long something may be on its way to the broker before another relay may be at work.
const LEEWAY: Duration = Duration::from_secs(1);
/// How often it says so.
const RENEWAL: Duration = Duration::from_millis(500);
/// How often a relay that stands by looks whether it is its turn.
const STANDBY_PAUSE: Duration = Duration::from_millis(100);
/// How many entries are published before they are removed.
const BATCH: usize = 256;
/// Publishers of other systems give no sign that there is something to do.
const POLL: Duration = Duration::from_millis(50);
/// Between two attempts to go on: at least this, and up to twice as much.
const PAUSE: Duration = Duration::from_millis(250);

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
        // It is read again whenever the relay connects; here, to say at once what is wrong with it.
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

    /// Works, or stands by, until `drain` begins; what has been begun is ended in good order.
    pub async fn run(mut self, drain: Drain) {
        if let Some(keeper) = self.keeper.take() {
            drain.spawn("redis connection", keeper.run(drain.clone()));
        }
        while !drain.is_stopping() {
            let why = match self.session(&drain).await {
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
                why => tracing::warn!(error = %why, "the relay begins anew"),
            }
            tokio::select! {
                () = drain.stopping() => {}
                () = tokio::time::sleep(nonce::jittered(PAUSE)) => {}
            }
        }
    }

    /// Connects to both sides, waits for its turn, and works until something goes wrong.
    async fn session(&mut self, drain: &Drain) -> Result<Never, Interruption> {
        let mut publisher = tokio::select! {
            () = drain.stopping() => return Err(Interruption::Stopping),
            connected = self.connect() => connected?,
        };
        self.block_ready = None;
        let ended = self.work(&mut publisher, drain).await;
        // What is on its way to the broker is there before another relay is at work, or never.
        match &ended {
            Err(Interruption::LockLost) => publisher.abort(),
            _ => publisher.close().await,
        }
        // Another relay need not wait until the lock expires, whatever went wrong here. If the store
        // does not answer, it has to.
        let _ = self.outbox.release().await;
        ended
    }

    async fn connect(&self) -> Result<Publisher, Interruption> {
        let (store, broker) = tokio::join!(self.outbox.connect(), Publisher::connect(&self.broker));
        store?;
        if broker.is_err() {
            // Nobody is at work without a broker, and what is to be published only grows.
            let (_, backlog) = self.outbox.read(1).await?;
            self.metrics.set_backlog(backlog);
        }
        Ok(broker?)
    }

    async fn work(&self, publisher: &mut Publisher, drain: &Drain) -> Result<Never, Interruption> {
        let lease = Lease::new(self.stand_by(publisher, drain).await?);
        failpoint::reached("relay::locked");
        tracing::info!("the relay is at work");
        self.metrics.set_leader(true);
        // Whichever comes first drops the other where it is: without the lock nothing more is sent.
        tokio::select! {
            biased;
            lost = self.keep_lock(&lease) => lost,
            ended = self.pump(publisher, drain, &lease) => ended,
        }
    }

    /// Until the lock is ours. Returns a time at which it was not yet.
    async fn stand_by(
        &self,
        publisher: &Publisher,
        drain: &Drain,
    ) -> Result<Instant, Interruption> {
        loop {
            let before = Instant::now();
            if self.outbox.lock().await? {
                return Ok(before);
            }
            // What is left is told by the one at work.
            self.metrics.set_backlog(0);
            if !publisher.is_connected() {
                return Err(BrokerError::Lost("while standing by".to_owned()).into());
            }
            tokio::select! {
                () = drain.stopping() => return Err(Interruption::Stopping),
                () = tokio::time::sleep(STANDBY_PAUSE) => {}
            }
        }
    }

    /// Renews the lock, until it is lost or may be.
    async fn keep_lock(&self, lease: &Lease) -> Result<Never, Interruption> {
        loop {
            let left = lease.left();
            if left.is_zero() {
                return Err(Interruption::LockLost);
            }
            tokio::time::sleep(RENEWAL.min(left)).await;
            let asked_at = Instant::now();
            match tokio::time::timeout(lease.left(), self.outbox.renew()).await {
                Ok(Ok(true)) => lease.renew(asked_at),
                Ok(Ok(false)) | Err(_) => return Err(Interruption::LockLost),
                // The lock is still ours for a while, and the store may be back by then.
                Ok(Err(_)) => {}
            }
        }
    }

    /// Publishes and removes, batch after batch.
    async fn pump(
        &self,
        publisher: &mut Publisher,
        drain: &Drain,
        lease: &Lease,
    ) -> Result<Never, Interruption> {
        loop {
            if drain.is_stopping() {
                return Err(Interruption::Stopping);
            }
            let (entries, backlog) = self.outbox.read(BATCH).await?;
            self.metrics.set_backlog(backlog);
            failpoint::reached("relay::read");
            if entries.is_empty() {
                if !publisher.is_connected() {
                    return Err(BrokerError::Lost("while there was nothing to do".into()).into());
                }
                tokio::select! {
                    () = drain.stopping() => {}
                    waited = self.outbox.wait(POLL) => waited?,
                }
                continue;
            }
            self.relay(publisher, batch(entries), lease).await?;
        }
    }

    /// Publishes a batch, and removes what the broker has confirmed.
    async fn relay(
        &self,
        publisher: &mut Publisher,
        mut batch: Vec<Entry>,
        lease: &Lease,
    ) -> Result<(), Interruption> {
        let events: Vec<_> = batch.iter().filter(|entry| !entry.is_dead).collect();
        let bodies: Vec<&[u8]> = events.iter().map(|entry| entry.body.as_slice()).collect();
        failpoint::reached("relay::publish");
        let outcomes = publisher.publish_all(&bodies, || lease.covers_publishing()).await;
        failpoint::reached("relay::published");
        let confirmed = outcomes.iter().take_while(|outcome| outcome.is_ok()).count();
        let failure = outcomes.into_iter().find_map(Result::err);
        // What follows an event that failed stays, too: order matters more than a duplicate.
        let mut events = 0;
        let dealt_with = batch.iter().take_while(|entry| {
            events += usize::from(!entry.is_dead);
            events <= confirmed
        });
        let dealt_with = dealt_with.count();
        batch.truncate(dealt_with);
        match self.outbox.remove(&batch).await? {
            Removed::Done => self.count(&batch),
            Removed::Moved => tracing::info!("another system's relay works on the outbox, too"),
            Removed::LockLost => return Err(Interruption::LockLost),
        }
        failpoint::reached("relay::removed");
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn count(&self, batch: &[Entry]) {
        let dead = batch.iter().filter(|entry| entry.is_dead).count();
        self.metrics.count(batch.len() - dead, dead);
        if dead > 0 {
            tracing::error!(dead, "entries of the outbox are no events; they are dead letters now");
        }
    }
}

// === impl Interruption ===

impl From<PublishError> for Interruption {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Withheld => Self::LockLost,
            error => Self::Publish(error),
        }
    }
}

impl Interruption {
    /// Whether store or broker is out of reach, as opposed to refusing what we want of it.
    const fn is_about_a_connection(&self) -> bool {
        match self {
            Self::Store(_) | Self::Broker(_) | Self::Publish(PublishError::Broker(_)) => true,
            Self::Publish(_) | Self::LockLost | Self::Stopping => false,
        }
    }
}

/// Nothing ends without a reason.
enum Never {}

const NOT_CONNECTED: &str = "not connected to store and broker";

/// The entries to publish before any is removed, from those that were read.
fn batch(entries: Vec<Vec<u8>>) -> Vec<Entry> {
    let mut batch = Vec::new();
    for body in entries {
        let event = Event::parse(&body);
        let is_pardon = event.is_ok_and(|event| !event.revokes());
        if is_pardon && !batch.is_empty() {
            break;
        }
        batch.push(Entry { is_dead: event.is_err(), body });
        if is_pardon {
            break;
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(entries: &[&str]) -> Vec<Vec<bool>> {
        let mut left: Vec<Vec<u8>> = entries.iter().map(|entry| entry.as_bytes().into()).collect();
        let mut batches = Vec::new();
        while !left.is_empty() {
            let batch = batch(left.clone());
            assert!(!batch.is_empty(), "something is always dealt with");
            assert!(batch.iter().zip(&left).all(|(entry, body)| entry.body == *body));
            left.drain(..batch.len());
            batches.push(batch.into_iter().map(|entry| entry.is_dead).collect());
        }
        batches
    }

    #[test]
    fn a_pardon_is_dealt_with_before_anything_that_follows_and_after_all_before() {
        let add = r#"{"type": "add", "jti": "j"}"#;
        let remove = r#"{"type": "remove", "jti": "j"}"#;
        let lift = r#"{"type": "lift", "sub": "u"}"#;
        assert_eq!(
            batches(&[add, add, remove, add, lift, lift, add]),
            [vec![false; 2], vec![false], vec![false], vec![false], vec![false], vec![false]]
        );
    }

    #[test]
    fn what_is_no_event_is_dead() {
        let entries = ["{bad json", r#"{"jti": "j"}"#, "[]", r#"{"type": "x"}"#, ""];
        assert_eq!(batches(&entries), [[true, false, true, true, true]]);
    }
}
