//! Owns Redis as the store of revocations: the only module that knows the client library.
//!
//! It speaks in [`Event`](super::Event)s. It never decides: what a failure means is up to who asked.

mod ask;
mod connect;
mod entries;
mod error;
mod eviction;
pub(super) mod keys;
mod outbox;
mod parked;
mod producer;
mod roll;
mod slot;
mod snapshot;

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use redis::{FromRedisValue, Pipeline};
use tokio::time::{Instant, timeout_at};

pub use error::StoreError;
pub(super) use outbox::{Entry, Fate, Outbox, Removed};
pub(super) use parked::Parked;
pub(super) use producer::Producer;
pub use producer::WriteError;
pub(super) use roll::{Reach, Roll};
pub(super) use snapshot::Reading;

use self::{
    connect::{Connection, Connector, Standing},
    error::is_fatal,
    keys::Keys,
    slot::{Lease, Slot},
};
use super::config::{EndpointError, RedisConfig};
use crate::{drain::Drain, telemetry::RedisMetrics};

/// The store. Clones share one connection, which is made when it is first needed.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    metrics: RedisMetrics,
}

/// Redis is configured in a way that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The address, or a file that belongs to it.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Something else.
    #[error("`blacklist.redis.{key}`: {message}")]
    Unusable {
        /// The key.
        key: &'static str,
        /// What is wrong, and how to mend it.
        message: String,
    },
}

struct Shared {
    connector: Arc<Connector>,
    slot: Slot<Connection>,
    keys: Keys,
    /// When the connection was last found to lead to the primary.
    confirmed: Mutex<Option<Instant>>,
}

/// Whether something may be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Once more on a new connection, if the one it went out on breaks.
    Yes,
    /// It may have been done although no answer came.
    No,
}

/// How often the connection is tried while nobody uses it.
const PING_INTERVAL: Duration = Duration::from_millis(500);

/// How often a kept connection is looked at: does it lead to the primary still?
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// For how long whoever writes relies on the last look.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// How long a store may take to show that it is there, making a connection included.
const PING_LIMIT: Duration = Duration::from_secs(1);

// === impl Redis ===

impl Redis {
    /// Reads the files that the configuration names; connects to nothing.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn build(config: &RedisConfig) -> Result<Self, BuildError> {
        for (key, name) in [("key_prefix", &config.key_prefix), ("outbox", &config.outbox)] {
            if name.trim_matches(':').is_empty() {
                return Err(BuildError::new(
                    key,
                    "must not be empty; leave it out for the default",
                ));
            }
        }
        let connector = Arc::new(Connector::new(config)?);
        let shared = Shared {
            connector,
            slot: Slot::new(),
            keys: Keys::new(config),
            confirmed: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), metrics: RedisMetrics::default() })
    }

    /// The same, counted in `metrics`.
    #[must_use]
    pub fn with_metrics(self, metrics: RedisMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where it is counted.
    pub(super) const fn metrics(&self) -> &RedisMetrics {
        &self.metrics
    }

    /// The names of what is kept in it.
    pub(super) fn keys(&self) -> &Keys {
        &self.shared.keys
    }

    /// Resolves when the store answers.
    ///
    /// # Errors
    /// When it does not answer within `limit`.
    pub async fn ping(&self, limit: Duration) -> Result<(), StoreError> {
        self.read(redis::pipe().cmd("PING").ignore(), limit).await
    }

    /// Keeps a connection at hand until `drain` begins: a question need not wait for one then, and
    /// one that is lost, or does not lead to the primary any more, is noticed before there is a
    /// question.
    pub(super) async fn keep_warm(self, drain: Drain) {
        let mut known_up = None;
        let stay = async {
            loop {
                let pinged = self.ping(PING_LIMIT).await;
                if known_up.replace(pinged.is_ok()) != Some(pinged.is_ok()) {
                    match &pinged {
                        Ok(()) => tracing::info!(redis = ?self, "Redis answers"),
                        Err(error) => tracing::warn!(%error, "Redis does not answer"),
                    }
                }
                tokio::time::sleep(PING_INTERVAL).await;
            }
        };
        tokio::select! {
            () = drain.stopping() => {}
            () = stay => {}
            never = self.stay_with_primary() => match never {},
        }
    }

    /// Gives the connection up whenever it turns out not to lead to the primary any more.
    async fn stay_with_primary(&self) -> Infallible {
        let mut doubts = 0;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            doubts = self.look_for_primary(doubts).await;
        }
    }

    /// Gives the connection up if it does not lead to the primary, or if twice in a row nobody could
    /// say so. Returns how often in a row nobody could.
    async fn look_for_primary(&self, doubts: u32) -> u32 {
        let Ok(lease) = self.lease().await else { return 0 };
        let Connection { to, address } = lease.connection.clone();
        let why = match self.shared.connector.standing(to, &address).await {
            Standing::Primary => return 0,
            Standing::Unknown(_) if doubts == 0 => return 1,
            Standing::Unknown(error) => error,
            Standing::Former => StoreError::Moved,
        };
        tracing::warn!(redis = %address, %why, "this Redis does not count as the store any more");
        self.shared.slot.discard(&lease, why);
        0
    }

    /// Resolves when most sentinels, if there are any, say that the connection leads to the primary,
    /// or have said so just now: they are not to be asked with each of many writes.
    async fn confirm_primary(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.confirmed().is_some_and(|at| now < at + CONFIRMED_FOR) {
            return Ok(());
        }
        let lease = self.lease().await?;
        // The connection itself is left alone: it may be waiting for a replica of the store.
        if self.shared.connector.is_named(&lease.connection.address).await? {
            self.confirmed().replace(now);
            return Ok(());
        }
        self.shared.slot.discard(&lease, StoreError::Moved);
        Err(StoreError::Moved)
    }

    fn confirmed(&self) -> MutexGuard<'_, Option<Instant>> {
        // A time is replaced as a whole.
        self.shared.confirmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store answers to commands that change nothing. If the connection breaks, they are
    /// sent once more on a new one.
    async fn read<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<T, StoreError> {
        self.send(commands, limit, Again::Yes).await
    }

    /// What the store answers to commands that must not be done twice. After an error they may have
    /// been done.
    async fn write<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<T, StoreError> {
        self.send(commands, limit, Again::No).await
    }

    async fn send<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
        again: Again,
    ) -> Result<T, StoreError> {
        let answer = self.try_send(commands, limit, again).await;
        let is_down = matches!(&answer, Err(error) if error.is_of_the_connection());
        self.metrics.set_up(!is_down);
        answer
    }

    async fn try_send<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
        mut again: Again,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + limit;
        loop {
            let lease = timeout_at(deadline, self.lease())
                .await
                .map_err(|_| StoreError::Timeout(limit))??;
            let mut connection = lease.connection.to.clone();
            let Ok(answer) = timeout_at(deadline, commands.query_async(&mut connection)).await
            else {
                // Half open, or paused: a new connection finds out, or finds another primary.
                self.shared.slot.discard(&lease, StoreError::Timeout(limit));
                return Err(StoreError::Timeout(limit));
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if is_fatal(&error) {
                self.shared.slot.discard(&lease, StoreError::of(&error));
            }
            if again == Again::No || !error.is_connection_dropped() {
                return Err(StoreError::of(&error));
            }
            again = Again::No;
        }
    }

    async fn lease(&self) -> Result<Lease<Connection>, StoreError> {
        let connector = Arc::clone(&self.shared.connector);
        self.shared.slot.get(|| async move { connector.connect().await }.boxed()).await
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.shared.connector).finish()
    }
}

// === impl BuildError ===

impl BuildError {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self::Unusable { key, message: message.into() }
    }
}
