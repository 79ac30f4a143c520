//! Checks of the `blacklist` section across keys: contradicting sections, missing sections, and
//! settings that would be ignored.

use std::time::Duration;

use serde_json::Value;

use super::{
    Config, ConfigError, Mode, RabbitMqConfig, RedisConfig, Topology, WhileStale,
    snapshot::{INDEX_PREFIX, Snapshot},
};

/// Redis is read again at least this often.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
const NO_STREAM: &str = "there is no stream with `topology: exclusive-queue`; remove it";

// === impl Config ===

impl Config {
    /// Checks everything that no single key can show.
    ///
    /// # Errors
    /// When sections contradict each other, or one is missing.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_sources()?;
        if self.refresh.enabled && self.is_in_process() {
            return Err(ConfigError::new(
                "blacklist.refresh.enabled",
                "there is no source to reload from; add `blacklist.postgres`, or `blacklist.redis`",
            ));
        }
        if !self.refresh.enabled && self.refresh.secret_file.is_some() {
            return Err(ConfigError::new(
                "blacklist.refresh.secret_file",
                "the secret is not used; set `blacklist.refresh.enabled` to true, or remove this",
            ));
        }
        if let Some(postgres) = &self.postgres {
            postgres.names()?;
        }
        self.rabbitmq.as_ref().map_or(Ok(()), RabbitMqConfig::check)?;
        self.redis.as_ref().map_or(Ok(()), RedisConfig::check)
    }

    fn check_sources(&self) -> Result<(), ConfigError> {
        let error = |key, message| Err(ConfigError::new(key, message));
        let (rabbitmq, redis) = (self.rabbitmq.is_some(), self.redis.is_some());
        if self.postgres.is_some() && (redis || rabbitmq) {
            return error(
                "blacklist.postgres",
                "it is a source of revocations by itself; remove `blacklist.rabbitmq` and \
                 `blacklist.redis`, or this",
            );
        }
        if self.mode != Mode::Authoritative && !redis {
            return error("blacklist.mode", "needs Redis; add `blacklist.redis`, or leave it out");
        }
        if rabbitmq && !redis {
            return error(
                "blacklist.rabbitmq",
                "a replica that starts needs the store too; add `blacklist.redis`",
            );
        }
        if self.mode == Mode::Authoritative && redis && !rabbitmq {
            return error(
                "blacklist.redis",
                "does not deliver new revocations; add `blacklist.rabbitmq`, or set \
                 `blacklist.mode` to redis-on-miss",
            );
        }
        Ok(())
    }

    /// Refuses keys that have no effect beside the others: an operator who sets a key expects an
    /// effect. `written` is the section as it was written, because the parsed section does not show
    /// which keys are defaults.
    ///
    /// # Errors
    /// When there is such a key.
    pub fn check_written(&self, written: &Value) -> Result<(), ConfigError> {
        let is_written = |pointer| written.pointer(pointer).is_some_and(|value| !value.is_null());
        if is_written("/while_stale") {
            self.check_while_stale()?;
        }
        if self.mode == Mode::RedisAlways && is_written("/redis/resnapshot_interval") {
            return Err(ConfigError::new(
                "blacklist.redis.resnapshot_interval",
                "nothing is kept with `mode: redis-always`, so nothing is read again; remove it",
            ));
        }
        if self.mode == Mode::RedisAlways && is_written("/redis/snapshot") {
            return Err(ConfigError::new(
                "blacklist.redis.snapshot",
                "nothing is kept with `mode: redis-always`, so nothing is read; remove it",
            ));
        }
        let topology = self.rabbitmq.as_ref().map(|rabbitmq| rabbitmq.topology);
        if topology == Some(Topology::ExclusiveQueue) {
            for (pointer, key) in [
                ("/rabbitmq/replay", "blacklist.rabbitmq.replay"),
                ("/rabbitmq/stream_max_age", "blacklist.rabbitmq.stream_max_age"),
            ] {
                if is_written(pointer) {
                    return Err(ConfigError::new(key, NO_STREAM));
                }
            }
        }
        Ok(())
    }

    fn check_while_stale(&self) -> Result<(), ConfigError> {
        let message = match (self.mode, self.while_stale) {
            (Mode::RedisOnMiss | Mode::RedisAlways, _) => {
                "Redis is asked in any case with this `blacklist.mode`; remove it"
            }
            (Mode::Authoritative, _) if self.is_in_process() => {
                "nothing can be lost without another source of revocations; remove it"
            }
            (Mode::Authoritative, WhileStale::AskRedis) if self.redis.is_none() => {
                "there is no Redis to ask; write serve or deny"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::new("blacklist.while_stale", message))
    }

    /// The same configuration, in which `while_stale` does not ask a Redis that is not configured.
    pub(crate) fn resolved(&self) -> Self {
        let while_stale = match self.while_stale {
            WhileStale::AskRedis if self.redis.is_none() => WhileStale::Serve,
            while_stale => while_stale,
        };
        Self { while_stale, ..self.clone() }
    }
}

// === impl RabbitMqConfig ===

impl RabbitMqConfig {
    fn check(&self) -> Result<(), ConfigError> {
        if self.probe_timeout.get() < self.probe_interval.get().saturating_mul(2) {
            return Err(ConfigError {
                key: "blacklist.rabbitmq.probe_timeout",
                message: format!(
                    "must be at least twice `probe_interval`, which is {}",
                    self.probe_interval
                ),
            });
        }
        Ok(())
    }
}

// === impl RedisConfig ===

impl RedisConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let error = |key, message| Err(ConfigError::new(key, message));
        if self.resnapshot_interval.get() > LONGEST_INTERVAL {
            return error(
                "blacklist.redis.resnapshot_interval",
                "must be at most 24h: it bounds how long a revocation can be missed",
            );
        }
        if self.snapshot == Snapshot::Index && INDEX_PREFIX.starts_with(&self.key_prefix) {
            return error(
                "blacklist.redis.key_prefix",
                "with `snapshot: index` the index would count as a revoked token; write another one",
            );
        }
        let has_sentinels = !self.sentinels.is_empty();
        match (has_sentinels, &self.master_name) {
            (true, None) => error(
                "blacklist.redis.master_name",
                "give the name under which the sentinels know the primary",
            ),
            (false, Some(_)) => error(
                "blacklist.redis.master_name",
                "needs `blacklist.redis.sentinels`; add them, or remove this",
            ),
            (true, Some(_)) => self.check_sentinels(),
            (false, None) => self.check_without_sentinels(),
        }
    }

    fn check_sentinels(&self) -> Result<(), ConfigError> {
        if self.sentinel_username.is_some() && self.sentinel_password_file.is_none() {
            return Err(ConfigError::new(
                "blacklist.redis.sentinel_username",
                "a user needs a password; add `blacklist.redis.sentinel_password_file`",
            ));
        }
        if self.wait_replicas == Some(0) {
            return Err(ConfigError::new(
                "blacklist.redis.wait_replicas",
                "must be at least 1 with sentinels: what no replica has is lost with the primary",
            ));
        }
        Ok(())
    }

    fn check_without_sentinels(&self) -> Result<(), ConfigError> {
        for (is_given, key) in [
            (self.sentinel_username.is_some(), "blacklist.redis.sentinel_username"),
            (self.sentinel_password_file.is_some(), "blacklist.redis.sentinel_password_file"),
            (self.sentinel_tls.is_some(), "blacklist.redis.sentinel_tls"),
        ] {
            if is_given {
                return Err(ConfigError::new(key, "there are no `sentinels`; remove it"));
            }
        }
        Ok(())
    }
}
