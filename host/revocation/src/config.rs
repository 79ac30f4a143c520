//! The `blacklist` section of the configuration: the source of revocations, and how far the local
//! set is trusted while that source is unavailable.

mod check;
mod endpoint;
mod snapshot;
mod source;
pub(crate) mod sql_name;

use std::{path::PathBuf, time::Duration};

pub use endpoint::{Endpoint, EndpointError};
use portcullis_types::duration::{HumanDuration, longer_than_zero};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub(crate) use snapshot::INDEX_PREFIX;
pub use snapshot::Snapshot;
pub(crate) use source::SourceConfig;

use crate::{
    blacklist::{LeaseTerms, Reliance, lease::LEASE},
    config::sql_name::{Name, SqlNames},
};

/// Revocation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Blacklist")]
pub struct Config {
    /// Whether a miss in the local set is final.
    pub mode: Mode,
    /// What happens to a token that is not in the local set while the broker, or the table, is
    /// unreachable. Only with `mode: authoritative`.
    pub while_stale: WhileStale,
    /// How far the clocks of this machine, of publishers and of issuers may differ. An entry
    /// outlives its token by this and the largest leeway of any issuer. A cut-off of all tokens
    /// that were issued until now covers those that an issuer dates ahead by this.
    pub skew: HumanDuration,
    /// How often expired entries are removed. Until then they have no effect, but take memory.
    #[serde(deserialize_with = "longer_than_zero")]
    pub sweep_interval: HumanDuration,
    /// How long requests are served while no source of revocations answers. After that Portcullis
    /// is not ready and denies, until a source answers again. `0s` allows no gap at all.
    pub max_staleness: HumanDuration,
    /// The broker that delivers revocations as they happen.
    pub rabbitmq: Option<RabbitMqConfig>,
    /// The store that holds all revocations.
    pub redis: Option<RedisConfig>,
    /// A table of revoked token ids, in place of broker and store.
    pub postgres: Option<PostgresConfig>,
    /// The request that reloads all revocations.
    pub refresh: RefreshConfig,
}

/// Whether a miss in the local set is final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A token that is not in the set is not revoked. No request waits for the store.
    #[default]
    Authoritative,
    /// A token that is not in the set is looked up in Redis, and added to the set if it is there.
    RedisOnMiss,
    /// Every token that is not known to be revoked is looked up in Redis, and nothing is cached.
    RedisAlways,
}

/// What happens to a token that is not in the local set while the broker is unreachable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhileStale {
    /// Look it up in Redis. If Redis does not answer, allow it for up to `max_staleness` after the
    /// loss of the broker, and deny it after that. After a pause of the process, deny it until the
    /// broker delivers again. Where there is no Redis, the default is `serve`.
    #[default]
    AskRedis,
    /// Allow the token, for up to `max_staleness`.
    Serve,
    /// Deny the token; Portcullis is not ready.
    Deny,
}

/// How RabbitMQ delivers events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// Through one durable stream that all replicas read (RabbitMQ 3.9 or newer): after an
    /// interruption a replica resumes where it stopped.
    #[default]
    Stream,
    /// Through one queue for each replica, which is deleted with its connection: after an
    /// interruption a replica reads a new snapshot from the store.
    ExclusiveQueue,
}

/// RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RabbitMq")]
pub struct RabbitMqConfig {
    /// The address, `amqp://user@host:5672/vhost`, or `amqps://` for TLS. Give this or `url_file`.
    pub url: Option<Endpoint>,
    /// A file that holds the address, password and all.
    pub url_file: Option<PathBuf>,
    /// The nodes of a cluster, as `host:port`. They are tried one after the other, starting with a
    /// random one, and each has its own time limit. With it, only the scheme, the user, the
    /// password and the virtual host of the address count.
    pub nodes: Vec<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The certificates to trust, as PEM; those of the system without it.
    pub ca_file: Option<PathBuf>,
    /// How events are delivered.
    pub topology: Topology,
    /// The durable fanout exchange to which revocations are published.
    pub exchange: String,
    /// The stream that keeps them. Malformed messages go to the queue with `.dead` at the end of
    /// its name.
    pub stream: String,
    /// How long the stream keeps an event. Longer than tokens live.
    #[serde(deserialize_with = "longer_than_zero")]
    pub stream_max_age: HumanDuration,
    /// How far back a replica reads the stream when it starts, besides the store. It covers events
    /// that reach the store later than the broker. Only with `topology: stream`, as
    /// `stream_max_age`.
    pub replay: HumanDuration,
    /// How often a probe is sent to measure how late messages are. One replica sends it for all. A
    /// replica to which it does not prove that messages are in time sends its own.
    #[serde(deserialize_with = "longer_than_zero")]
    pub probe_interval: HumanDuration,
    /// After this long without any message, the connection counts as lost. At least twice
    /// `probe_interval`. If messages are delayed by this much, the broker counts as lost, too,
    /// until a probe is faster.
    #[serde(deserialize_with = "longer_than_zero")]
    pub probe_timeout: HumanDuration,
}

/// Redis.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Redis")]
pub struct RedisConfig {
    /// The address, `redis://host:6379/0`, or `rediss://` for TLS. Give this or `url_file`. With
    /// `sentinels`, only the scheme, the user, the password and the database count.
    pub url: Option<Endpoint>,
    /// A file that holds the address, password and all.
    pub url_file: Option<PathBuf>,
    /// The sentinels, as `host:port`: all of them, since more than half must name the same primary.
    pub sentinels: Vec<String>,
    /// The name under which the sentinels know the primary.
    pub master_name: Option<String>,
    /// The user, if it is not part of the address.
    pub username: Option<String>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The user at the sentinels; their default user without it. Needs `sentinel_password_file`.
    pub sentinel_username: Option<String>,
    /// A file that holds the password of the sentinels, if they have one.
    pub sentinel_password_file: Option<PathBuf>,
    /// Whether the sentinels use TLS. Without it they do if Redis does.
    pub sentinel_tls: Option<bool>,
    /// The certificates to trust, as PEM; those of the system without it. This file, and those of
    /// the address and the passwords, are read again for each new connection.
    pub ca_file: Option<PathBuf>,
    /// How long a request waits for an answer.
    #[serde(deserialize_with = "longer_than_zero")]
    pub timeout: HumanDuration,
    /// How often, about, everything in Redis is read again: it bounds how long a revocation can be
    /// missed that reached Redis and for some reason did not reach this replica. At most 24h.
    #[serde(deserialize_with = "longer_than_zero")]
    pub resnapshot_interval: HumanDuration,
    /// How a replica finds the revocations that Redis holds.
    pub snapshot: Snapshot,
    /// How long Redis may take to accept a connection and to report whether it is the primary, and
    /// how long a sentinel may take to name the primary. All sentinels are queried at once.
    #[serde(deserialize_with = "longer_than_zero")]
    pub connect_timeout: HumanDuration,
    /// How many replicas of Redis have to confirm a revocation within a second, before it counts as
    /// stored. Without it all that are connected to the primary, and with `sentinels` at least one.
    pub wait_replicas: Option<u32>,
    /// The prefix of the token id in the key of a revoked token.
    pub key_prefix: String,
    /// The list in which publishers leave events for the relay. Malformed entries, and events that
    /// the broker rejects, go to the list of the same name with `:dlq` at its end. Events of a type
    /// that the relay does not know go to the one with `:unknown`. The newest 10,000 of each are
    /// kept.
    pub outbox: String,
}

/// PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Postgres")]
pub struct PostgresConfig {
    /// The address, `postgres://user@host:5432/database`. Give this or `url_file`. With
    /// `?sslmode=require` nothing is sent without TLS; with `prefer`, which is the default, TLS is
    /// used where the server offers it; with `disable`, it is not. Where there is TLS, the
    /// certificate and the host's name in it are verified in any case.
    pub url: Option<Endpoint>,
    /// A file that holds the address, password and all.
    pub url_file: Option<PathBuf>,
    /// A file that holds the password.
    pub password_file: Option<PathBuf>,
    /// The certificates to trust, as PEM; those of the system without it. Makes `sslmode=require`
    /// of `prefer`.
    pub ca_file: Option<PathBuf>,
    /// The schema of the table, if it is not on the search path.
    pub schema: Option<String>,
    /// The table of revoked token ids, such as `revoked_tokens`. Upper and lower case differ, and a
    /// dot belongs to the name. Each row is a token that is revoked permanently.
    pub table: String,
    /// The column that holds the token id, such as `token_id` or `jti`.
    pub column: String,
    /// The channel on which the trigger of `deploy/postgres/revocations.sql` publishes changes.
    pub channel: String,
    /// How often the table is read completely. Where the trigger is missing or disabled, or
    /// notifications do not arrive, this is how long a revocation takes to become effective. A
    /// token that is no longer in the table is no longer revoked.
    #[serde(deserialize_with = "longer_than_zero")]
    pub revocation_status_cache_ttl: HumanDuration,
}

/// The request that reloads all revocations: one with `x-refresh-cache: true`, answered with 204.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Refresh")]
pub struct RefreshConfig {
    /// Whether such requests are accepted. Without it, the header has no effect.
    pub enabled: bool,
    /// How long after one reading the next may begin. A request in between waits for that one, and
    /// is answered with 503 if its time limit is too short: a proxy should wait for longer than
    /// this plus the time of a reading.
    pub min_interval: HumanDuration,
    /// A file that holds the required value of `x-refresh-cache-secret`. Only if `enabled` is true.
    pub secret_file: Option<PathBuf>,
}

/// Sections contradict each other, or one is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {message}")]
pub struct ConfigError {
    key: &'static str,
    message: String,
}

// === impl Config ===

impl Config {
    /// How far the set is trusted once the source's lease has lapsed.
    #[must_use]
    pub(crate) fn lease_terms(&self) -> LeaseTerms {
        let (lapsed, expired) = match (self.mode, self.while_stale) {
            // Publishers no longer wait for a replica whose lease has lapsed: nothing passes without
            // an answer.
            (Mode::RedisOnMiss | Mode::RedisAlways, _)
            | (Mode::Authoritative, WhileStale::AskRedis) => {
                (Reliance::AskOrDeny, Reliance::AskOrDeny)
            }
            (Mode::Authoritative, WhileStale::Serve) => (Reliance::Final, Reliance::None),
            (Mode::Authoritative, WhileStale::Deny) => (Reliance::None, Reliance::None),
        };
        // Staleness counts from the renewal of the lease, on a clock that goes on in a suspend. A
        // polled table has longer leases: there it counts from `LEASE` before the end.
        let max_staleness = self.staleness_bound().saturating_sub(LEASE);
        LeaseTerms { lapsed, expired, max_staleness }
    }

    /// How often the store is read again.
    pub(crate) fn resnapshot_interval(&self) -> Duration {
        self.redis.clone().unwrap_or_default().resnapshot_interval.get()
    }

    /// How long an entry lasts for which no expiry is known: longer than tokens live.
    #[must_use]
    pub fn longest_life(&self) -> Duration {
        self.rabbitmq.clone().unwrap_or_default().stream_max_age.get()
    }

    /// How long the set serves without its source.
    #[must_use]
    pub fn staleness_bound(&self) -> Duration {
        match (self.mode, self.while_stale) {
            (Mode::Authoritative, WhileStale::Deny) => Duration::ZERO,
            // In the other modes no request passes without an answer from the store.
            _ => self.max_staleness.get(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            while_stale: WhileStale::default(),
            skew: HumanDuration::from_millis(5_000),
            sweep_interval: HumanDuration::from_millis(60_000),
            max_staleness: HumanDuration::from_millis(30_000),
            rabbitmq: None,
            redis: None,
            postgres: None,
            refresh: RefreshConfig::default(),
        }
    }
}

// === impl ConfigError ===

impl ConfigError {
    pub(crate) fn new(key: &'static str, message: &str) -> Self {
        Self { key, message: message.to_owned() }
    }

    /// The configuration key at fault.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        self.key
    }

    /// What is wrong, and the fix.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

// === impl RabbitMqConfig ===

impl Default for RabbitMqConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            nodes: Vec::new(),
            password_file: None,
            ca_file: None,
            topology: Topology::default(),
            exchange: "blacklist.events".to_owned(),
            stream: "portcullis.blacklist".to_owned(),
            stream_max_age: HumanDuration::from_millis(8 * 24 * 3_600_000),
            replay: HumanDuration::from_millis(600_000),
            probe_interval: HumanDuration::from_millis(500),
            probe_timeout: HumanDuration::from_millis(1_500),
        }
    }
}

// === impl RedisConfig ===

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            sentinels: Vec::new(),
            master_name: None,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            sentinel_tls: None,
            ca_file: None,
            timeout: HumanDuration::from_millis(100),
            resnapshot_interval: HumanDuration::from_millis(300_000),
            snapshot: Snapshot::default(),
            connect_timeout: HumanDuration::from_millis(500),
            wait_replicas: None,
            key_prefix: "blacklist:".to_owned(),
            outbox: "outbox:blacklist".to_owned(),
        }
    }
}

// === impl PostgresConfig ===

impl PostgresConfig {
    /// The names of the table, the column and the channel.
    pub(crate) fn names(&self) -> Result<SqlNames, ConfigError> {
        let mut table = Name::new("blacklist.postgres.table", &self.table)?;
        if let Some(schema) = &self.schema {
            table = table.within(&Name::new("blacklist.postgres.schema", schema)?);
        }
        Ok(SqlNames {
            table,
            column: Name::new("blacklist.postgres.column", &self.column)?,
            channel: Name::new("blacklist.postgres.channel", &self.channel)?,
        })
    }
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            password_file: None,
            ca_file: None,
            schema: None,
            table: "revoked_tokens".to_owned(),
            column: "token_id".to_owned(),
            channel: "portcullis_revocations".to_owned(),
            revocation_status_cache_ttl: HumanDuration::from_millis(30_000),
        }
    }
}

// === impl RefreshConfig ===

impl Default for RefreshConfig {
    fn default() -> Self {
        Self { enabled: false, min_interval: HumanDuration::from_millis(1_000), secret_file: None }
    }
}

#[cfg(test)]
mod tests;
