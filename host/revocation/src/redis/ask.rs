//! Read-only commands, over any connection to Redis.

use std::{future::Future, time::Duration};

use redis::{FromRedisValue, Pipeline};

use super::{Delivery, Redis, error::StoreError};

/// A connection for read-only commands.
pub(super) trait Ask: Sync {
    /// Sends commands and returns the answer.
    fn ask<T: FromRedisValue + Send>(
        &self,
        commands: &Pipeline,
    ) -> impl Future<Output = Result<T, StoreError>> + Send;
}

/// The shared connection, with the time limit of one command.
pub(super) struct Patience<'a> {
    pub(super) redis: &'a Redis,
    pub(super) limit: Duration,
}

// === impl Patience ===

impl Ask for Patience<'_> {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        self.redis.send(commands, self.limit, Delivery::RETRIED).await
    }
}
