//! Redis as the store of revocations: the only module that knows the client library.
//!
//! It speaks in [`Event`](super::Event)s. It never decides: what a failure means is up to the caller.

mod address;
mod ask;
mod connect;
mod entries;
mod error;
mod eviction;
#[cfg(test)]
mod fake;
mod keeper;
pub(super) mod keys;
mod outbox;
mod parked;
mod producer;
mod roll;
mod sentinels;
mod snapshot;
mod target;

use std::{fmt, sync::Arc, time::Duration};

use redis::{FromRedisValue, Pipeline};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use error::StoreError;
pub use keeper::Keeper;
pub(super) use outbox::{Entry, Fate, Outbox, Removed};
pub(super) use parked::Parked;
pub(super) use producer::Producer;
pub use producer::WriteError;
pub(super) use roll::{Reach, Roll};
pub(super) use snapshot::Reading;

use self::{
    connect::Connector,
    error::is_fatal,
    keeper::{Lane, Link, Links, State},
    keys::Keys,
};
use super::config::{EndpointError, RedisConfig};
use crate::telemetry::RedisMetrics;

/// The store. Clones share the connections that its [`Keeper`] keeps.
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
    links: Arc<Links>,
    keys: Keys,
    /// Tells the keeper that no handle is left.
    _used: DropGuard,
}

/// Whether something may be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Once more on a new connection, if the one it went out on breaks.
    Yes,
    /// It may have been done although no answer came.
    No,
}

/// Commands, and how they may be sent.
struct Order<'a> {
    commands: &'a Pipeline,
    lane: Lane,
    /// Only to a server that has just been seen to be the primary.
    is_confirmed: bool,
    again: Again,
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
    ) -> Result<(Self, Keeper), BuildError> {
        for (key, name) in [("key_prefix", &config.key_prefix), ("outbox", &config.outbox)] {
            if name.trim_matches(':').is_empty() {
                return Err(BuildError::new(
                    key,
                    "must not be empty; leave it out for the default",
                ));
            }
        }
        let connector = Arc::new(Connector::new(config)?);
        let unused = CancellationToken::new();
        let used = unused.clone().drop_guard();
        let (keeper, links) = Keeper::new(Arc::clone(&connector), metrics.clone(), unused);
        let shared = Shared { connector, links, keys: Keys::new(config), _used: used };
        Ok((Self { shared: Arc::new(shared), metrics }, keeper))
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

    /// What the store answers to commands that are answered at once.
    async fn send<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
        again: Again,
    ) -> Result<T, StoreError> {
        let order = Order { commands, lane: Lane::Prompt, is_confirmed: false, again };
        self.try_send(&order, limit).await
    }

    /// What the store answers, from a server that has just been seen to be the primary.
    async fn read_confirmed<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<T, StoreError> {
        let (lane, again) = (Lane::Prompt, Again::Yes);
        self.try_send(&Order { commands, lane, is_confirmed: true, again }, limit).await
    }

    /// What the store answers to commands that wait for something and may be done twice. They hold up
    /// each other, and no others. `limit` begins when it is their turn, for which they wait as long.
    async fn send_waiting<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<T, StoreError> {
        let _turn = self.shared.links.turn(limit).await?;
        let (lane, again) = (Lane::Waiting, Again::Yes);
        self.try_send(&Order { commands, lane, is_confirmed: false, again }, limit).await
    }

    /// The same, but only from a server that has just been seen to be the primary: one that was cut
    /// off and replaced accepts whatever it is given.
    async fn send_confirmed<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
        limit: Duration,
    ) -> Result<T, StoreError> {
        let _turn = self.shared.links.turn(limit).await?;
        let (lane, again) = (Lane::Waiting, Again::Yes);
        self.try_send(&Order { commands, lane, is_confirmed: true, again }, limit).await
    }

    async fn try_send<T: FromRedisValue>(
        &self,
        order: &Order<'_>,
        limit: Duration,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + limit;
        let links = &self.shared.links;
        let mut again = order.again;
        loop {
            let link = links.get(deadline, limit).await?;
            if order.is_confirmed {
                links.confirm(&link, deadline, limit).await?;
            }
            let mut connection = link.connection(order.lane);
            let sent = order.commands.query_async(&mut connection);
            let Ok(answer) = timeout_at(deadline, sent).await else {
                self.timed_out(&link, order.lane, limit);
                return Err(StoreError::Timeout(limit));
            };
            let error = match answer {
                // It may have been replaced while its replicas were waited for.
                Ok(answer) if order.is_confirmed => return link.last_found().map(|()| answer),
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if is_fatal(&error) {
                links.give_up(&link, State::Connecting);
            }
            if again == Again::No || !error.is_connection_dropped() {
                return Err(StoreError::of(&error));
            }
            again = Again::No;
        }
    }

    /// The connection is half open, or Redis is paused or slow: a new connection finds out, or finds
    /// another primary. Until then other questions need not cost their time as well. Of a command that
    /// waits, nothing follows for those that do not.
    fn timed_out(&self, link: &Arc<Link>, lane: Lane, limit: Duration) {
        let next = match lane {
            Lane::Prompt => State::Down(StoreError::Timeout(limit)),
            Lane::Waiting => State::Connecting,
        };
        self.shared.links.give_up(link, next);
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
