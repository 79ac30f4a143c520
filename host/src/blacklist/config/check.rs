//! Owns what no single key of the `blacklist` section can show: that sections contradict each other,
//! that one is missing, and that a setting would be read and then ignored.

use std::time::Duration;

use serde_json::Value;

use super::{Config, ConfigError, Mode, RabbitMqConfig, RedisConfig, Topology, WhileStale};

/// Redis is read again at least this often.
const LONGEST_INTERVAL: Duration = Duration::from_hours(24);
const NO_STREAM: &str = "there is no stream with `topology: exclusive-queue`; remove it";

// === impl Config ===

impl Config {
    /// Checks what no single key can show.
    ///
    /// # Errors
    /// When sections contradict each other, or one is missing.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_sources()?;
        if self.refresh.enabled && self.is_in_process() {
            return Err(ConfigError::new(
                "blacklist.refresh.enabled",
                "there is nothing to read again; add `blacklist.postgres`, or `blacklist.redis`",
            ));
        }
        if !self.refresh.enabled && self.refresh.secret_file.is_some() {
            return Err(ConfigError::new(
                "blacklist.refresh.secret_file",
                "nobody is asked for the secret; set `blacklist.refresh.enabled` to true, or remove \
                 this",
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
        if self.postgres.is_some() && (rabbitmq || redis) {
            return error(
                "blacklist.postgres",
                "a table takes the place of broker and store; remove `blacklist.rabbitmq` and \
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
                "does not tell of new revocations; add `blacklist.rabbitmq`, or set \
                 `blacklist.mode` to redis-on-miss",
            );
        }
        Ok(())
    }

    /// Refuses keys that have no effect beside the others: whoever wrote one expects it to matter.
    /// `written` is the section as it was written, since a default shows no more.
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
                "nothing can be lost without `blacklist.rabbitmq` or `blacklist.postgres`; remove it"
            }
            (Mode::Authoritative, WhileStale::AskRedis) if self.redis.is_none() => {
                "there is no Redis to ask beside `blacklist.postgres`; write serve or deny"
            }
            _ => return Ok(()),
        };
        Err(ConfigError::new("blacklist.while_stale", message))
    }

    /// The same, where nobody is asked who is not there.
    pub(in crate::blacklist) fn resolved(&self) -> Self {
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
                "must be 24h at the most: it bounds how long a revocation can be missed",
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
