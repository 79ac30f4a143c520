//! Opening one connection to a Redis server or a sentinel, within a time limit.

use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, ConnectionInfo, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{
    address::RedisAddress,
    error::{StoreError, describe},
};

/// Connects to a server.
pub(super) async fn open(
    info: &ConnectionInfo,
    limit: Duration,
) -> Result<MultiplexedConnection, StoreError> {
    let failed = |cause| StoreError::Connect { address: RedisAddress::of(info).to_string(), cause };
    let client = Client::open(info.clone()).map_err(|error| failed(describe(&error)))?;
    // The time limit is set here, so those of the library are turned off.
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
