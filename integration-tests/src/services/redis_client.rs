//! Redis client of the tests, to inspect keys and calls and to write data.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisResult, aio::MultiplexedConnection,
};
use tokio::sync::Mutex;

use crate::eventually;

/// Commands of client libraries and of this client, which are not under test.
const HOUSEKEEPING: [&str; 8] =
    ["auth", "client", "command", "config", "hello", "info", "ping", "select"];
/// The timeout of an answer that is not certain; a paused Redis gives none.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of an answer that must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one Redis. It reconnects after a loss.
#[derive(Debug)]
pub struct RedisClient {
    address: SocketAddr,
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

// === impl RedisClient ===

impl RedisClient {
    /// A client of the Redis at `address`; it connects on first use.
    ///
    /// # Panics
    /// Never, for an address.
    #[must_use]
    pub fn new(address: SocketAddr, password: Option<&str>) -> Self {
        let settings = RedisConnectionInfo::default();
        let settings = match password {
            Some(password) => settings.set_password(password),
            None => settings,
        };
        let host = ConnectionAddr::Tcp(address.ip().to_string(), address.port());
        let client = host
            .into_connection_info()
            .and_then(|info| Client::open(info.set_redis_settings(settings)))
            .expect("an address can be connected to");
        Self { address, client, connection: Mutex::default() }
    }

    /// Runs a command, such as `["SET", "key", "value"]`.
    ///
    /// # Errors
    /// When Redis refuses it, is unavailable, or stays silent.
    pub async fn try_command<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        self.command_within(TIMEOUT, command).await
    }

    /// Runs many commands in one pipeline.
    ///
    /// # Errors
    /// When Redis refuses one, is unavailable, or stays silent for long.
    pub async fn try_pipeline(&self, commands: &Pipeline) -> RedisResult<()> {
        let mut kept = self.connection.lock().await;
        let mut connection = self.take_or_open(PATIENCE, &mut kept).await?;
        let answer = commands.exec_async(&mut connection).await;
        keep_if_sound(&mut kept, connection, &answer);
        answer
    }

    /// Runs a command that must succeed, and may take long.
    ///
    /// # Panics
    /// When it does not.
    pub async fn command<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.command_within(PATIENCE, command)
            .await
            .unwrap_or_else(|error| panic!("{} to {}: {error}", command.join(" "), self.address))
    }

    /// Waits until Redis answers and has loaded its data.
    pub async fn ready(&self) {
        let what = format!("Redis at {} answers", self.address);
        eventually::holds(&what, || async {
            self.try_command::<String>(&["PING"]).await.is_ok_and(|answer| answer == "PONG")
        })
        .await;
    }

    /// The keys that match a pattern, in order.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.command(&["KEYS", pattern]).await;
        keys.sort();
        keys
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.command(&["GET", key]).await
    }

    /// The time to live of a key in seconds: -1 without an expiry, -2 without the key.
    pub async fn ttl(&self, key: &str) -> i64 {
        self.command(&["TTL", key]).await
    }

    /// A whole list, the newest entry (that of the last LPUSH) first.
    pub async fn list(&self, key: &str) -> Vec<String> {
        self.command(&["LRANGE", key, "0", "-1"]).await
    }

    /// How often each command was called since the start or the last
    /// [`forget_calls`](Self::forget_calls), except for calls by which clients keep their
    /// connection.
    pub async fn calls(&self) -> BTreeMap<String, u64> {
        let statistics: String = self.command(&["INFO", "commandstats"]).await;
        statistics
            .lines()
            .filter_map(|line| {
                // cmdstat_get:calls=1,usec=2,...
                let (name, figures) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
                let calls = figures.split(',').next()?.parse().ok()?;
                let family = name.split('|').next().unwrap_or(name);
                (!HOUSEKEEPING.contains(&family)).then(|| (name.to_owned(), calls))
            })
            .collect()
    }

    /// Whether it rewrites its append-only file, or is about to. It does after many writes.
    pub async fn is_rewriting(&self) -> bool {
        let info: String = self.command(&["INFO", "persistence"]).await;
        ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"].iter().any(|on| info.contains(on))
    }

    /// Resets the counts of calls.
    pub async fn forget_calls(&self) {
        let _: String = self.command(&["CONFIG", "RESETSTAT"]).await;
    }

    /// Deletes all keys.
    pub async fn flush(&self) {
        let _: String = self.command(&["FLUSHALL"]).await;
    }

    /// Its role in the terms of Redis: `master` or `slave`.
    ///
    /// # Errors
    /// When Redis is unavailable, or stays silent.
    pub async fn role(&self) -> RedisResult<String> {
        let replication: String = self.try_command(&["INFO", "replication"]).await?;
        let role = replication.lines().find_map(|line| line.strip_prefix("role:"));
        Ok(role.unwrap_or_default().trim().to_owned())
    }

    async fn command_within<T: FromRedisValue>(
        &self,
        limit: Duration,
        command: &[&str],
    ) -> RedisResult<T> {
        let (name, arguments) = command.split_first().expect("a command has a name");
        let mut kept = self.connection.lock().await;
        let mut connection = self.take_or_open(limit, &mut kept).await?;
        let answer = redis::cmd(name).arg(arguments).query_async(&mut connection).await;
        keep_if_sound(&mut kept, connection, &answer);
        answer
    }

    /// A connection whose answers may take as long as `limit`, as may its opening.
    async fn take_or_open(
        &self,
        limit: Duration,
        kept: &mut Option<MultiplexedConnection>,
    ) -> RedisResult<MultiplexedConnection> {
        if let Some(mut connection) = kept.take() {
            connection.set_response_timeout(limit);
            return Ok(connection);
        }
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(limit))
            .set_response_timeout(Some(limit));
        self.client.get_multiplexed_async_connection_with_config(&limits).await
    }
}

/// Keeps a connection unless `answer` is an error of the connection; errors of Redis itself are
/// not.
fn keep_if_sound<T>(
    kept: &mut Option<MultiplexedConnection>,
    connection: MultiplexedConnection,
    answer: &RedisResult<T>,
) {
    let broken =
        answer.as_ref().is_err_and(|error| error.is_unrecoverable_error() || error.is_timeout());
    if !broken {
        *kept = Some(connection);
    }
}
