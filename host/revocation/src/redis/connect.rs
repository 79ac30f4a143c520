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
    pub(super) config: Arc<RedisConfig>,
    settings: Mutex<Arc<ConnectSettings>>,
    log: RateLimitedLog,
    /// Files are read by one thread at a time: on a volume that hangs it never returns.
    reading: Arc<Semaphore>,
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

    /// Connects to the primary, with the present content of the files. Returns the connection, and
    /// where it leads.
    pub(super) async fn connect(
        &self,
    ) -> Result<(MultiplexedConnection, RedisAddress), StoreError> {
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
            (Ok(true), _) | (Err(StoreError::Refused(_)), None) => Ok((to, address)),
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

    /// Checks that a connection that was made to `address` still leads to the primary, as
    /// [`RedisConnector::check_primary`] does. Without sentinels the address is trusted.
    pub(super) async fn leads_to_primary(
        &self,
        connection: MultiplexedConnection,
        address: &RedisAddress,
    ) -> Result<(), StoreError> {
        if !self.has_sentinels() {
            return Ok(());
        }
        self.check_primary(connection, address).await
    }

    /// Checks that the server to which a connection was made is the primary. A server that is
    /// partitioned from its sentinels still reports itself as the primary, so its own answer is not
    /// enough.
    ///
    /// # Errors
    /// [`StoreError::Moved`] if it is not the primary, or no longer. Another error means that it
    /// may be partitioned: it did not answer, or too few sentinels did.
    pub(super) async fn check_primary(
        &self,
        mut connection: MultiplexedConnection,
        address: &RedisAddress,
    ) -> Result<(), StoreError> {
        let settings = self.settings();
        let asked = is_primary(&mut connection, self.limit());
        let Some(sentinels) = &settings.sentinels else {
            // Another server may have got the address meanwhile. Timeouts are handled elsewhere.
            return match asked.await {
                Ok(false) => Err(StoreError::Moved),
                Ok(true) | Err(_) => Ok(()),
            };
        };
        let (is_primary, named) = tokio::join!(asked, sentinels.primary());
        match (is_primary, named) {
            (Ok(true), Ok(named)) if named == *address => Ok(()),
            (Err(error), Ok(named)) if named == *address => Err(error),
            (Ok(true) | Err(_), Err(error)) => Err(error),
            _ => Err(StoreError::Moved),
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
        let error = match timeout(READ_LIMIT, reading).await {
            Ok(Ok(Ok(settings))) => {
                *self.lock() = Arc::new(settings);
                self.log.clear();
                return;
            }
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not read within {READ_LIMIT:?}"),
        };
        if self.log.admit(&error, RateLimitedLog::UNTIL_CLEARED).is_some() {
            tracing::warn!(
                %error,
                "cannot read a file for the connection to Redis; keeping the last good settings"
            );
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
                write!(f, "RedisConnector(sentinels of {})", sentinels.master_name)
            }
            None => write!(f, "RedisConnector({})", RedisAddress::of(&settings.primary)),
        }
    }
}

#[cfg(test)]
mod tests;
