//! Connecting to the primary: to its address, or to the one that a quorum of the sentinels names;
//! and whether a connection still leads to it.
//!
//! Files that the configuration names are read again for each new connection, so that passwords and
//! certificates can be rotated. If a file cannot be read then, the last good settings are kept.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use portcullis_runtime::telemetry::RateLimitedLog;
use redis::{Value, aio::MultiplexedConnection};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    RedisBuildError, address::RedisAddress, connect_settings::ConnectSettings, error::StoreError,
    open::open,
};
use crate::config::RedisConfig;

/// Opens connections.
pub(super) struct RedisConnector {
    config: Arc<RedisConfig>,
    settings: Mutex<Arc<ConnectSettings>>,
    log: RateLimitedLog,
    /// Files are read by one thread at a time: on a volume that hangs it never returns.
    reading: Arc<Semaphore>,
}

/// A connection, and where it leads.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) to: MultiplexedConnection,
    pub(super) address: RedisAddress,
}

/// What is known of the server at the other end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the primary.
    Primary,
    /// It is not the primary, or no longer.
    Former,
    /// It may be partitioned: it did not answer, or too few sentinels did.
    Unknown(StoreError),
}

/// How long reading the files may take.
const READ_LIMIT: Duration = Duration::from_secs(1);

// === impl RedisConnector ===

impl RedisConnector {
    /// Reads the files that the configuration names; connects to nothing.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, RedisBuildError> {
        let settings = Arc::new(ConnectSettings::read(config)?);
        Ok(Self {
            config: Arc::new(config.clone()),
            settings: Mutex::new(settings),
            log: RateLimitedLog::default(),
            reading: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether sentinels name the primary.
    pub(super) fn has_sentinels(&self) -> bool {
        self.settings().sentinels.is_some()
    }

    /// How many replicas are to confirm a write, if that is configured.
    pub(super) fn wait_replicas(&self) -> Option<u32> {
        self.config.wait_replicas
    }

    /// Connects to the primary, with the present content of the files.
    pub(super) async fn connect(&self) -> Result<Connection, StoreError> {
        self.refresh().await;
        let settings = self.settings();
        let address = match &settings.sentinels {
            Some(sentinels) => sentinels.primary().await?,
            None => RedisAddress::of(&settings.primary),
        };
        let mut to = open(&address.on(&settings.primary), self.limit()).await?;
        let unusable = |cause: &str| {
            Err(StoreError::Connect { address: address.to_string(), cause: cause.to_owned() })
        };
        match (is_primary(&mut to, self.limit()).await, &settings.sentinels) {
            // A user without permission for `ROLE` has to trust the address.
            (Ok(true), _) | (Err(StoreError::Refused(_)), None) => Ok(Connection { to, address }),
            (Ok(false), None) => unusable("it is a replica; give the address of the primary"),
            // A sentinel may not have noticed yet that this server is no longer the primary.
            (Ok(false), Some(_)) => {
                unusable("the sentinels name it, but it is not the primary (not yet, or no longer)")
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Connects once more to a server to which there is a connection already.
    pub(super) async fn connect_again(
        &self,
        address: &RedisAddress,
    ) -> Result<MultiplexedConnection, StoreError> {
        open(&address.on(&self.settings().primary), self.limit()).await
    }

    /// Whether a connection that was made to `address` still leads to the primary. Without
    /// sentinels the address is trusted.
    pub(super) async fn leads_to_primary(
        &self,
        connection: MultiplexedConnection,
        address: &RedisAddress,
    ) -> Result<bool, StoreError> {
        if !self.has_sentinels() {
            return Ok(true);
        }
        match self.standing(connection, address).await {
            Standing::Primary => Ok(true),
            Standing::Former => Ok(false),
            Standing::Unknown(error) => Err(error),
        }
    }

    /// The standing of the server to which a connection was made. A server that is partitioned from
    /// its sentinels still reports itself as the primary, so its own answer is not enough.
    pub(super) async fn standing(
        &self,
        mut connection: MultiplexedConnection,
        address: &RedisAddress,
    ) -> Standing {
        let settings = self.settings();
        let asked = is_primary(&mut connection, self.limit());
        let Some(sentinels) = &settings.sentinels else {
            // Another server may have got the address meanwhile. Timeouts are handled elsewhere.
            return match asked.await {
                Ok(false) => Standing::Former,
                Ok(true) | Err(_) => Standing::Primary,
            };
        };
        let (is_primary, named) = tokio::join!(asked, sentinels.primary());
        match (is_primary, named) {
            (Ok(true), Ok(named)) if named == *address => Standing::Primary,
            (Err(error), Ok(named)) if named == *address => Standing::Unknown(error),
            (Ok(true) | Err(_), Err(error)) => Standing::Unknown(error),
            _ => Standing::Former,
        }
    }

    /// Reads the files again. If that fails, the last good settings are kept, and the error is
    /// logged once.
    pub(super) async fn refresh(&self) {
        if !ConnectSettings::has_files(&self.config) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reading).try_acquire_owned() else { return };
        let config = Arc::clone(&self.config);
        let reading = spawn_blocking(move || {
            let _permit = permit;
            ConnectSettings::read(&config)
        });
        let read = match timeout(READ_LIMIT, reading).await {
            Ok(Ok(Ok(settings))) => Ok(settings),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("not read within {READ_LIMIT:?}")),
        };
        match read {
            Ok(settings) => {
                *self.lock() = Arc::new(settings);
                self.log.clear();
            }
            Err(error) => {
                if self.log.admit(&error, RateLimitedLog::UNTIL_CLEARED).is_some() {
                    tracing::warn!(
                        %error,
                        "cannot read a file for the connection to Redis; keeping the last good \
                         settings"
                    );
                }
            }
        }
    }

    fn settings(&self) -> Arc<ConnectSettings> {
        Arc::clone(&self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Arc<ConnectSettings>> {
        // It is replaced as a whole.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> Duration {
        self.config.connect_timeout.get()
    }
}

/// Whether the server at the other end reports itself as a primary.
async fn is_primary(
    connection: &mut MultiplexedConnection,
    limit: Duration,
) -> Result<bool, StoreError> {
    let role = redis::cmd("ROLE");
    let role = timeout(limit, role.query_async::<Vec<Value>>(connection))
        .await
        .map_err(|_| StoreError::Timeout(limit))?
        .map_err(|error| StoreError::of(&error))?;
    Ok(matches!(role.first(), Some(Value::BulkString(name)) if name == b"master"))
}

impl fmt::Debug for RedisConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.settings();
        match &settings.sentinels {
            Some(sentinels) => {
                write!(f, "RedisConnector(sentinels of {})", sentinels.master_name())
            }
            None => write!(f, "RedisConnector({})", RedisAddress::of(&settings.primary)),
        }
    }
}

#[cfg(test)]
mod tests;
