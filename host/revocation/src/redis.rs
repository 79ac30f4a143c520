//! The Redis client: Redis as the store of revocations. The only module that knows the client
//! library.
//!
//! It returns [`Event`](crate::event::Event)s and makes no decisions: what a failure means is up to
//! the caller.

mod address;
mod ask;
mod awaited;
mod connect;
mod connect_settings;
mod entries;
mod error;
mod eviction;
#[cfg(test)]
mod fake;
mod index;
mod keeper;
pub(crate) mod keys;
mod open;
mod outbox;
mod pending_outbox;
mod producer;
mod query;
mod registry;
mod sentinels;
#[cfg(test)]
pub(crate) mod simulated;
mod snapshot;

use std::{fmt, sync::Arc, time::Duration};

pub(crate) use awaited::{Awaited, AwaitedReader, ask_for_receipt};
pub use error::StoreError;
pub use keeper::Keeper;
pub(crate) use outbox::{Entry, Fate, Outbox};
pub(crate) use pending_outbox::{PendingOutbox, ReadOutbox};
use portcullis_runtime::telemetry::RedisMetrics;
pub(crate) use producer::Producer;
pub use producer::WriteError;
pub(crate) use query::{AskStore, Query};
use redis::{FromRedisValue, Pipeline};
pub(crate) use registry::{ReceiptStatus, ReplicaRegistry};
pub(crate) use snapshot::SnapshotKind;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    connect::RedisConnector,
    error::is_fatal,
    keeper::{ConnectionState, Lane, Links, RedisLink},
    keys::Keys,
};
use crate::config::{EndpointError, RedisConfig};

/// The store. Clones share the connections that its [`Keeper`] keeps.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<RedisInner>,
    metrics: RedisMetrics,
}

/// Redis is configured in a way that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RedisBuildError {
    /// The address, or a file that belongs to it.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Another key cannot be used.
    #[error("`blacklist.redis.{key}`: {message}")]
    Unusable {
        /// The key.
        key: &'static str,
        /// What is wrong, and the fix.
        message: String,
    },
}

struct RedisInner {
    connector: Arc<RedisConnector>,
    links: Arc<Links>,
    keys: Keys,
    /// Cancelled on drop: tells the keeper that no handle is left.
    _used: DropGuard,
    /// The server of a simulation.
    #[cfg(test)]
    simulated: Option<Arc<dyn simulated::Server>>,
}

/// How commands are sent.
#[derive(Debug, Clone, Copy)]
struct Delivery {
    /// Commands that block delay each other, and no others: they take turns.
    lane: Lane,
    /// Only to a server that has just been verified as the primary: a former primary that was
    /// partitioned and replaced still accepts writes.
    is_confirmed: bool,
    /// They are idempotent: if the connection breaks, they are sent once more on a new one.
    is_retried: bool,
}

// === impl Delivery ===

impl Delivery {
    /// For commands that are idempotent.
    const RETRIED: Self = Self { lane: Lane::Prompt, is_confirmed: false, is_retried: true };
    /// For commands that must not be executed twice. After an error they may have been executed.
    const ONCE: Self = Self { is_retried: false, ..Self::RETRIED };
    /// For reading from the primary only.
    const CONFIRMED: Self = Self { is_confirmed: true, ..Self::RETRIED };
    /// For idempotent commands that block at the server.
    const BLOCKING: Self = Self { lane: Lane::Waiting, ..Self::RETRIED };
    /// For idempotent commands that block at the primary.
    const BLOCKING_CONFIRMED: Self = Self { is_confirmed: true, ..Self::BLOCKING };
}

// === impl Redis ===

impl Redis {
    /// Reads the files that the configuration names; connects to nothing. There are connections
    /// while the keeper runs.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn build(
        config: &RedisConfig,
        metrics: RedisMetrics,
    ) -> Result<(Self, Keeper), RedisBuildError> {
        for (key, name) in [("key_prefix", &config.key_prefix), ("outbox", &config.outbox)] {
            if name.trim_matches(':').is_empty() {
                return Err(RedisBuildError::new(
                    key,
                    "must not be empty; leave it out for the default",
                ));
            }
        }
        let connector = Arc::new(RedisConnector::new(config)?);
        let unused = CancellationToken::new();
        let used = unused.clone().drop_guard();
        let (keeper, links) = Keeper::new(Arc::clone(&connector), metrics.clone(), unused);
        let inner = RedisInner {
            connector,
            links,
            keys: Keys::new(config),
            _used: used,
            #[cfg(test)]
            simulated: None,
        };
        Ok((Self { inner: Arc::new(inner), metrics }, keeper))
    }

    /// Its metrics.
    pub(crate) const fn metrics(&self) -> &RedisMetrics {
        &self.metrics
    }

    /// The names of the keys in it.
    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// Resolves when the store answers.
    ///
    /// # Errors
    /// When it does not answer within `limit`.
    pub async fn ping(&self, limit: Duration) -> Result<(), StoreError> {
        self.send(redis::pipe().cmd("PING").ignore(), limit, Delivery::RETRIED).await
    }

    /// Sends commands. `limit` begins when it is the turn of blocking commands, for which they wait
    /// as long.
    async fn send<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
        delivery: Delivery,
    ) -> Result<T, StoreError> {
        let Delivery { lane, is_confirmed, mut is_retried } = delivery;
        let links = &self.inner.links;
        let _turn = match lane {
            Lane::Prompt => None,
            Lane::Waiting => Some(links.turn(limit).await?),
        };
        #[cfg(test)]
        if let Some(server) = &self.inner.simulated {
            return simulated::send(&**server, commands, limit).await;
        }
        let deadline = Instant::now() + limit;
        let late = |_| StoreError::Timeout(limit);
        loop {
            let link = timeout_at(deadline, links.get()).await.map_err(late)??;
            if is_confirmed {
                timeout_at(deadline, links.confirm(&link)).await.map_err(late)??;
            }
            let mut connection = link.connection(lane);
            let sent = commands.query_async(&mut connection);
            let Ok(answer) = timeout_at(deadline, sent).await else {
                self.timed_out(&link, lane, limit);
                return Err(StoreError::Timeout(limit));
            };
            let error = match answer {
                // It may have been replaced while `WAIT` waited for its replicas.
                Ok(answer) if is_confirmed => return link.last_found().map(|()| answer),
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if is_fatal(&error) {
                links.retire(&link, ConnectionState::Connecting);
            }
            if !is_retried || !error.is_connection_dropped() {
                return Err(StoreError::of(&error));
            }
            is_retried = false;
        }
    }

    /// The connection is half open, or Redis is paused or slow: a new connection shows which, or
    /// leads to another primary. Until then other commands fail at once. A blocking command that
    /// times out does not imply that other commands fail.
    fn timed_out(&self, link: &Arc<RedisLink>, lane: Lane, limit: Duration) {
        let next = match lane {
            Lane::Prompt => ConnectionState::Down(StoreError::Timeout(limit)),
            Lane::Waiting => ConnectionState::Connecting,
        };
        self.inner.links.retire(link, next);
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(&self.inner.connector).finish()
    }
}

// === impl RedisBuildError ===

impl RedisBuildError {
    fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self::Unusable { key, message: message.into() }
    }
}
