//! Owns the `blacklist` section of the configuration: where revocations come from, and how far the
//! local set is trusted while they do not.

mod check;
mod endpoint;

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use endpoint::{Endpoint, EndpointError};

use super::{
    postgres::{Name, NameError, Names},
    store::{LeaseTerms, Reliance},
};
use crate::duration::{HumanDuration, longer_than_zero};

/// Revocation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Blacklist")]
pub struct Config {
    /// What the local set is worth.
    pub mode: Mode,
    /// What happens to a token that is not on the local set while the broker, or the table, is out of
    /// reach. Only with `mode: authoritative`.
    pub while_stale: WhileStale,
    /// How far the clocks of this machine, of those who revoke tokens and of issuers may differ. An
    /// entry outlives its token by this and the largest leeway of any issuer. A cut-off of all tokens
    /// that were issued until now covers those that an issuer dates ahead by this.
    pub skew: HumanDuration,
    /// How often expired entries are removed. They count for nothing before that, but take memory.
    #[serde(deserialize_with = "longer_than_zero")]
    pub sweep_interval: HumanDuration,
    /// For how long requests are answered although no source of revocations answers. After that
    /// Portcullis is not ready and denies, until one is back. `0s` allows no gap at all.
    pub max_staleness: HumanDuration,
    /// The broker that tells of revocations as they happen.
    pub rabbitmq: Option<RabbitMqConfig>,
    /// The store that holds all revocations.
    pub redis: Option<RedisConfig>,
    /// A table of revoked token ids, in place of broker and store.
    pub postgres: Option<PostgresConfig>,
    /// The request that has revocations read again.
    pub refresh: RefreshConfig,
}

/// What the local set is worth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It is complete: a token that is not on it is not revoked. No request waits for the store.
    #[default]
    Authoritative,
    /// A token that is not on it is looked up in Redis, and put on it if it is there.
    RedisOnMiss,
    /// Every token that is not known to be revoked is looked up in Redis, and nothing is kept.
    RedisAlways,
}

/// What happens to a token that is not on the local set while the broker is out of reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhileStale {
    /// It is looked up in Redis. Without an answer from there it passes for `max_staleness`, counted
    /// from the loss of the broker, and is denied after that. Where there is no Redis, the default is
    /// `serve`.
    #[default]
    AskRedis,
    /// It passes, for `max_staleness` at the most.
    Serve,
    /// It is denied, and Portcullis is not ready.
    Deny,
}

/// How RabbitMQ hands over events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// Through one durable stream that all replicas read (RabbitMQ 3.9 or newer): after an
    /// interruption a replica goes on where it stopped.
    #[default]
    Stream,
    /// Through a queue of each replica's own, which is gone with its connection: after an
    /// interruption a replica reads everything from the store again.
    ExclusiveQueue,
}

/// RabbitMQ.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RabbitMq")]
pub struct RabbitMqConfig {
    /// The address, `amqp://user@host:5672/vhost`, or `amqps://` for TLS. Give this or `url_file`.
    #[serde(default)]
    pub url: Option<Endpoint>,
    /// A file that holds the address, password and all.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// A file that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The certificates to trust, as PEM; those of the system without it.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How events are handed over.
    #[serde(default)]
    pub topology: Topology,
    /// The durable fanout exchange to which revocations are published.
    #[serde(default = "default_exchange")]
    pub exchange: String,
    /// The stream that keeps them. Messages that are no events go to the queue of the same name
    /// with `.dead` at its end.
    #[serde(default = "default_stream")]
    pub stream: String,
    /// How long the stream keeps an event. Longer than tokens live.
    #[serde(default = "default_stream_max_age", deserialize_with = "longer_than_zero")]
    pub stream_max_age: HumanDuration,
    /// How far back a replica reads the stream when it starts, besides the store. It covers events
    /// that reach the store later than the broker. Only with `topology: stream`, as `stream_max_age`.
    #[serde(default = "default_replay")]
    pub replay: HumanDuration,
    /// After this long without any message, a probe is sent to see whether the broker still delivers.
    /// While events arrive, one is sent this often, to see how late they are.
    #[serde(default = "default_probe_interval", deserialize_with = "longer_than_zero")]
    pub probe_interval: HumanDuration,
    /// After this long without any message, the connection counts as lost. At least twice
    /// `probe_interval`. If a probe takes longer than the difference of the two, the broker counts as
    /// lost, too, until one is quicker.
    #[serde(default = "default_probe_timeout", deserialize_with = "longer_than_zero")]
    pub probe_timeout: HumanDuration,
}

/// Redis.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redis")]
pub struct RedisConfig {
    /// The address, `redis://host:6379/0`, or `rediss://` for TLS. Give this or `url_file`. With
    /// `sentinels`, only the scheme, the user, the password and the database count.
    #[serde(default)]
    pub url: Option<Endpoint>,
    /// A file that holds the address, password and all.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// The sentinels, as `host:port`: all of them, since most of them must name the same primary.
    #[serde(default)]
    pub sentinels: Vec<String>,
    /// The name under which the sentinels know the primary.
    #[serde(default)]
    pub master_name: Option<String>,
    /// The user, if it is not part of the address.
    #[serde(default)]
    pub username: Option<String>,
    /// A file that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The user at the sentinels; their default user without it. Needs `sentinel_password_file`.
    #[serde(default)]
    pub sentinel_username: Option<String>,
    /// A file that holds the password of the sentinels, if they have one.
    #[serde(default)]
    pub sentinel_password_file: Option<PathBuf>,
    /// Whether the sentinels speak TLS. Without it they do if Redis does.
    #[serde(default)]
    pub sentinel_tls: Option<bool>,
    /// The certificates to trust, as PEM; those of the system without it. This file, and those of
    /// the address and the passwords, are read again for each new connection.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How long a request waits for an answer.
    #[serde(default = "default_redis_timeout", deserialize_with = "longer_than_zero")]
    pub timeout: HumanDuration,
    /// How often everything in Redis is read again, give or take: it bounds how long a revocation can
    /// be missed that reached Redis and for some reason did not reach this replica. 24h at the most.
    #[serde(default = "default_resnapshot_interval", deserialize_with = "longer_than_zero")]
    pub resnapshot_interval: HumanDuration,
    /// How long Redis may take to accept a connection and to say whether it is the primary, and how
    /// long a sentinel may take to name the primary. All sentinels are asked at the same time.
    #[serde(default = "default_connect_timeout", deserialize_with = "longer_than_zero")]
    pub connect_timeout: HumanDuration,
    /// How many replicas of Redis have to confirm a revocation within a second, before it counts as
    /// made. Without it all that are connected to the primary, and with `sentinels` at least one.
    #[serde(default)]
    pub wait_replicas: Option<u32>,
    /// What stands before the token id in the key of a revoked token.
    #[serde(default = "default_key_prefix")]
    pub key_prefix: String,
    /// The list in which publishers leave events for the relay. Entries that are no events, and
    /// events that the broker rejects, go to the list of the same name with `:dlq` at its end. Events
    /// of a type that the relay does not know go to the one with `:unknown`. The newest 10,000 of
    /// each are kept.
    #[serde(default = "default_outbox")]
    pub outbox: String,
}

/// PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Postgres")]
pub struct PostgresConfig {
    /// The address, `postgres://user@host:5432/database`. Give this or `url_file`. With
    /// `?sslmode=require` nothing is said without TLS; with `prefer`, which is the default, TLS is
    /// used where the server offers it; with `disable`, it is not. Where there is TLS, the
    /// certificate and the host's name in it are verified in any case.
    #[serde(default)]
    pub url: Option<Endpoint>,
    /// A file that holds the address, password and all.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// A file that holds the password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The certificates to trust, as PEM; those of the system without it. Makes `sslmode=require`
    /// of `prefer`.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The table of revoked token ids, such as `revoked_tokens`, or `schema.table` if it is not on
    /// the search path. Upper and lower case differ. Each row is a token that is revoked for ever.
    #[serde(default = "default_table")]
    pub table: String,
    /// The column that holds the token id, such as `token_id` or `jti`.
    #[serde(default = "default_column")]
    pub column: String,
    /// The channel on which the trigger of `deploy/postgres/revocations.sql` tells of changes.
    #[serde(default = "default_channel")]
    pub channel: String,
    /// How often the table is read completely. Where the trigger is missing or disabled, or
    /// notifications do not arrive, this is how long a revocation takes to come into force. What is no
    /// longer in the table is no longer revoked.
    #[serde(default = "default_cache_ttl", deserialize_with = "longer_than_zero")]
    pub revocation_status_cache_ttl: HumanDuration,
}

/// The request that has revocations read again: one with `x-refresh-cache: true`, answered with 204.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Refresh")]
pub struct RefreshConfig {
    /// Whether there is such a request. Without it, the header means nothing.
    pub enabled: bool,
    /// How long after one reading the next may begin. Who asks in between waits for that one, and
    /// is told that it failed (503) if there is not enough time: a proxy should wait for longer
    /// than this, and the time of a reading.
    pub min_interval: HumanDuration,
    /// A file that holds what `x-refresh-cache-secret` must say. Only where this is enabled.
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
    /// Whether all revocations are made in this process, because nothing else is configured.
    #[must_use]
    pub const fn is_in_process(&self) -> bool {
        self.rabbitmq.is_none() && self.redis.is_none() && self.postgres.is_none()
    }

    /// What the set is worth when the source's lease has lapsed.
    #[must_use]
    pub(super) fn lease_terms(&self) -> LeaseTerms {
        let (lapsed, expired) = match (self.mode, self.while_stale) {
            (Mode::RedisOnMiss | Mode::RedisAlways, _) => {
                (Reliance::AskOrDeny, Reliance::AskOrDeny)
            }
            (Mode::Authoritative, WhileStale::AskRedis) => {
                (Reliance::AskOrServe, Reliance::AskOrDeny)
            }
            (Mode::Authoritative, WhileStale::Serve) => (Reliance::Final, Reliance::None),
            (Mode::Authoritative, WhileStale::Deny) => (Reliance::None, Reliance::None),
        };
        LeaseTerms { lapsed, expired, max_staleness: self.staleness_bound() }
    }

    /// How often the store is read again.
    pub(super) fn resnapshot_interval(&self) -> Duration {
        let redis = self.redis.as_ref().map(|redis| redis.resnapshot_interval);
        redis.unwrap_or_else(default_resnapshot_interval).get()
    }

    /// How long an entry lasts for which no expiry is known: longer than tokens live.
    pub(super) fn longest_life(&self) -> Duration {
        let stream = self.rabbitmq.as_ref().map(|rabbitmq| rabbitmq.stream_max_age);
        stream.unwrap_or_else(default_stream_max_age).get()
    }

    /// How long the set serves without a source.
    #[must_use]
    pub fn staleness_bound(&self) -> Duration {
        match (self.mode, self.while_stale) {
            (Mode::Authoritative, WhileStale::Deny) => Duration::ZERO,
            // In the other modes no request passes without an answer from the store anyway.
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
    pub(super) fn new(key: &'static str, message: &str) -> Self {
        Self { key, message: message.to_owned() }
    }

    /// The key that it is about.
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

// === impl PostgresConfig ===

impl PostgresConfig {
    /// What the server is asked for.
    pub(super) fn names(&self) -> Result<Names, ConfigError> {
        let error = |key| move |cause: NameError| ConfigError { key, message: cause.to_string() };
        Ok(Names {
            table: Name::of_table(&self.table).map_err(error("blacklist.postgres.table"))?,
            column: Name::of_one_part(&self.column).map_err(error("blacklist.postgres.column"))?,
            channel: Name::of_one_part(&self.channel)
                .map_err(error("blacklist.postgres.channel"))?,
        })
    }
}

impl Default for RefreshConfig {
    fn default() -> Self {
        Self { enabled: false, min_interval: HumanDuration::from_millis(1_000), secret_file: None }
    }
}

fn default_exchange() -> String {
    "blacklist.events".to_owned()
}

fn default_stream() -> String {
    "portcullis.blacklist".to_owned()
}

fn default_stream_max_age() -> HumanDuration {
    HumanDuration::from_millis(8 * 24 * 3_600_000)
}

fn default_replay() -> HumanDuration {
    HumanDuration::from_millis(600_000)
}

fn default_probe_interval() -> HumanDuration {
    HumanDuration::from_millis(500)
}

fn default_probe_timeout() -> HumanDuration {
    HumanDuration::from_millis(1_500)
}

fn default_redis_timeout() -> HumanDuration {
    HumanDuration::from_millis(100)
}

fn default_resnapshot_interval() -> HumanDuration {
    HumanDuration::from_millis(300_000)
}

fn default_connect_timeout() -> HumanDuration {
    HumanDuration::from_millis(500)
}

fn default_key_prefix() -> String {
    "blacklist:".to_owned()
}

fn default_outbox() -> String {
    "outbox:blacklist".to_owned()
}

fn default_table() -> String {
    "revoked_tokens".to_owned()
}

fn default_column() -> String {
    "token_id".to_owned()
}

fn default_channel() -> String {
    "portcullis_revocations".to_owned()
}

fn default_cache_ttl() -> HumanDuration {
    HumanDuration::from_millis(30_000)
}

#[cfg(test)]
mod tests;
