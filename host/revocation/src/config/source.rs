//! Where revocations come from: the kinds of source, of which a configuration has one.

use super::{Config, PostgresConfig, RedisConfig};

/// The source that the configuration chooses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SourceConfig<'a> {
    /// This process alone: its admin API.
    Local,
    /// Redis, with RabbitMQ or without.
    Stream(&'a RedisConfig),
    /// A table of PostgreSQL.
    Table(&'a PostgresConfig),
}

// === impl Config ===

impl Config {
    /// The source that is configured.
    pub(crate) const fn source(&self) -> SourceConfig<'_> {
        match (&self.redis, &self.postgres) {
            (Some(redis), _) => SourceConfig::Stream(redis),
            (None, Some(table)) => SourceConfig::Table(table),
            (None, None) => SourceConfig::Local,
        }
    }

    /// Whether all revocations are made in this process, because no other source is configured.
    #[must_use]
    pub const fn is_in_process(&self) -> bool {
        matches!(self.source(), SourceConfig::Local)
    }
}
