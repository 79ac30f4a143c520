//! A Redis without a network, for simulations: commands go to a [`Server`] in this process in place
//! of a connection. Commands are built and answers are parsed as with a real server.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use portcullis_runtime::telemetry::RedisMetrics;
use redis::{Arg, FromRedisValue, Pipeline, Value};
use tokio_util::sync::CancellationToken;

use super::{Redis, RedisInner, ask::Ask, error::StoreError, keeper::Keeper, keys::Keys};
use crate::{config::RedisConfig, redis::connect::RedisConnector};

/// What answers.
pub(crate) trait Server: Send + Sync {
    /// The answers to commands that were sent together, one for each.
    fn answer(
        &self,
        commands: Vec<Command>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<Vec<Answer>, StoreError>>;

    /// Connects to the primary, and returns the number that it has until there is another one.
    fn connect(&self) -> BoxFuture<'static, Result<u64, StoreError>>;
}

/// The words of a command.
pub(crate) type Command = Vec<String>;

/// What it is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Self>),
}

/// A connection on which everything is read.
pub(super) struct Connection {
    server: Arc<dyn Server>,
    primary: u64,
}

impl Redis {
    /// A store whose commands are answered by `server`.
    pub(crate) fn simulated(config: &RedisConfig, server: Arc<dyn Server>) -> Self {
        let connector = Arc::new(RedisConnector::new(config).unwrap());
        let unused = CancellationToken::new();
        let used = unused.clone().drop_guard();
        let metrics = RedisMetrics::default();
        let (_, links) = Keeper::new(Arc::clone(&connector), metrics.clone(), unused);
        let keys = Keys::new(config);
        let inner = RedisInner { connector, links, keys, _used: used, simulated: Some(server) };
        Self { inner: Arc::new(inner), metrics }
    }
}

impl Connection {
    pub(super) async fn open(server: &Arc<dyn Server>) -> Result<Self, StoreError> {
        let primary = server.connect().await?;
        Ok(Self { server: Arc::clone(server), primary })
    }

    pub(super) async fn leads_to_primary(&self) -> Result<(), StoreError> {
        let is_primary = self.server.connect().await? == self.primary;
        is_primary.then_some(()).ok_or(StoreError::Moved)
    }
}

impl Ask for Connection {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        send(&*self.server, commands, super::snapshot::PAGE_LIMIT).await
    }
}

/// The answer to commands that were sent together.
pub(super) async fn send<T: FromRedisValue>(
    server: &dyn Server,
    commands: &Pipeline,
    limit: Duration,
) -> Result<T, StoreError> {
    let words = |arg: Arg<&[u8]>| match arg {
        Arg::Simple(word) => String::from_utf8_lossy(word).into_owned(),
        _ => "0".to_owned(),
    };
    let commands = commands.cmd_iter().map(|command| command.args_iter().map(words).collect());
    let asked = server.answer(commands.collect(), limit);
    let answers = tokio::time::timeout(limit, asked);
    let answers = answers.await.map_err(|_| StoreError::Timeout(limit))??;
    let values = answers.into_iter().map(Answer::into_value).collect();
    T::from_redis_value(Value::Array(values)).map_err(|_| StoreError::nonsense())
}

impl Answer {
    fn into_value(self) -> Value {
        match self {
            Self::Int(number) => Value::Int(number),
            Self::Text(text) => Value::BulkString(text),
            Self::List(list) => Value::Array(list.into_iter().map(Self::into_value).collect()),
        }
    }
}
