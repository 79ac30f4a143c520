//! Connecting to the primary: straight to its address, or to the one that most sentinels name; and
//! whether a connection still leads to it.
//!
//! Files that the configuration names are read again for each new connection, so that passwords and
//! certificates can be rotated. A file that cannot be read then changes nothing: what was read last
//! stays.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Value, aio::MultiplexedConnection};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::{
    super::config::RedisConfig,
    BuildError,
    address::Address,
    error::{StoreError, describe},
    target::Target,
};

/// Makes connections.
pub(super) struct Connector {
    config: Arc<RedisConfig>,
    known: Mutex<Known>,
    /// Files are read by one thread at a time: on a volume that hangs it never ends.
    reading: Arc<Semaphore>,
}

/// A connection, and where it leads.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) to: MultiplexedConnection,
    pub(super) address: Address,
}

/// What is known of the server at the other end of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is the primary.
    Primary,
    /// It is not, or not any more.
    Former,
    /// It may be cut off: it did not answer, or too few sentinels did.
    Unknown(StoreError),
}

struct Known {
    target: Arc<Target>,
    /// What was wrong when the files were last read, so that it is logged once.
    complaint: Option<String>,
}

/// How long reading the files may take.
const READ_LIMIT: Duration = Duration::from_secs(1);

// === impl Connector ===

impl Connector {
    /// Reads the files that the configuration names; connects to nothing.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, BuildError> {
        let target = Arc::new(Target::read(config)?);
        Ok(Self {
            config: Arc::new(config.clone()),
            known: Mutex::new(Known { target, complaint: None }),
            reading: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether sentinels say which server is the primary.
    pub(super) fn has_sentinels(&self) -> bool {
        self.target().sentinels.is_some()
    }

    /// How many replicas are to confirm a write, if that is configured.
    pub(super) fn wait_replicas(&self) -> Option<u32> {
        self.config.wait_replicas
    }

    /// Connects to the primary, with what the files say now.
    pub(super) async fn connect(&self) -> Result<Connection, StoreError> {
        self.refresh().await;
        let target = self.target();
        let address = match &target.sentinels {
            Some(sentinels) => sentinels.primary().await?,
            None => Address::of(&target.primary),
        };
        let mut to = open(&address.on(&target.primary), self.limit()).await?;
        let unusable = |cause: &str| {
            Err(StoreError::Connect { address: address.to_string(), cause: cause.to_owned() })
        };
        match (is_primary(&mut to, self.limit()).await, &target.sentinels) {
            // A user without the right to ask has to trust the address.
            (Ok(true), _) | (Err(StoreError::Refused(_)), None) => Ok(Connection { to, address }),
            (Ok(false), None) => unusable("it is a replica; give the address of the primary"),
            // A sentinel may not have noticed yet that this server is not the primary any more.
            (Ok(false), Some(_)) => {
                unusable("the sentinels name it, but it is no primary (yet, or any more)")
            }
            (Err(error), _) => Err(error),
        }
    }

    /// Connects once more to a server to which there is a connection already.
    pub(super) async fn connect_again(
        &self,
        address: &Address,
    ) -> Result<MultiplexedConnection, StoreError> {
        open(&address.on(&self.target().primary), self.limit()).await
    }

    /// Whether a connection that was made to `address` still leads to the primary. Without
    /// sentinels the address is believed.
    pub(super) async fn leads_to_primary(
        &self,
        connection: MultiplexedConnection,
        address: &Address,
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

    /// What is known of the server to which a connection was made. One that was cut off from its
    /// sentinels calls itself the primary still, so its own word is not enough.
    pub(super) async fn standing(
        &self,
        mut connection: MultiplexedConnection,
        address: &Address,
    ) -> Standing {
        let target = self.target();
        let asked = is_primary(&mut connection, self.limit());
        let Some(sentinels) = &target.sentinels else {
            // Another server may have got the address meanwhile. Silence is noticed elsewhere.
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

    /// Reads the files again. If that fails, what was read last stays, and the log says so once.
    pub(super) async fn refresh(&self) {
        if !Target::has_files(&self.config) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.reading).try_acquire_owned() else { return };
        let config = Arc::clone(&self.config);
        let reading = spawn_blocking(move || {
            let _permit = permit;
            Target::read(&config)
        });
        let read = match timeout(READ_LIMIT, reading).await {
            Ok(Ok(Ok(target))) => Ok(target),
            Ok(Ok(Err(error))) => Err(error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("not read within {READ_LIMIT:?}")),
        };
        let mut known = self.known();
        match read {
            Ok(target) => *known = Known { target: Arc::new(target), complaint: None },
            Err(error) if known.complaint.as_ref() == Some(&error) => {}
            Err(error) => {
                tracing::warn!(
                    %error,
                    "a file for the connection to Redis cannot be used; what was read last stays"
                );
                known.complaint = Some(error);
            }
        }
    }

    fn target(&self) -> Arc<Target> {
        Arc::clone(&self.known().target)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each field is replaced as a whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> Duration {
        self.config.connect_timeout.get()
    }
}

/// Whether the server at the other end calls itself a primary.
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

/// Connects to a server.
pub(super) async fn open(
    info: &ConnectionInfo,
    limit: Duration,
) -> Result<MultiplexedConnection, StoreError> {
    let failed = |cause| StoreError::Connect { address: Address::of(info).to_string(), cause };
    let client = Client::open(info.clone()).map_err(|error| failed(describe(&error)))?;
    // The limits are ours; those of the library would only be second ones.
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match timeout(limit, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(describe(&error))),
        Err(_) => Err(failed(format!(
            "no answer within {limit:?}; check host and port, and whether it needs TLS \
             (`rediss://`) or has none"
        ))),
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target();
        match &target.sentinels {
            Some(sentinels) => write!(f, "Connector(sentinels of {})", sentinels.master_name()),
            None => write!(f, "Connector({})", Address::of(&target.primary)),
        }
    }
}

#[cfg(test)]
mod tests;
