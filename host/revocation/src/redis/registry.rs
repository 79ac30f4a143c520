//! Registry of ready replicas in Redis, and the receipts that they have confirmed.
//!
//! Its times come from the clock of the store, so that only one clock matters. It also holds the
//! time since when it exists, as a member whose score is that time, negated: after a flush the
//! registry is new, and not all replicas are in it yet.

use std::time::Duration;

use super::{
    Delivery, Redis,
    error::StoreError,
    keys::{REPLICAS, receipt as receipt_key},
};

/// The registry of replicas.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaRegistry(Redis);

/// How many replicas have confirmed a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReceiptStatus {
    /// How many replicas are ready.
    pub(crate) ready: usize,
    /// How many of them have not confirmed it.
    pub(crate) missing: usize,
    /// Whether the registry has existed for long enough that every ready replica is in it.
    pub(crate) registry_is_stable: bool,
    /// Whether a replica has missed its heartbeats within the last minute, without having left.
    pub(crate) has_lost_replica: bool,
}

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Keys: the registry. Arguments: the replica. A replica without a heartbeat for a minute is
/// removed. A registry that began in the future begins now: after a failover the clock is another
/// one.
const ANNOUNCE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, string.format('(%.0f', now - 60000))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(-%.0f', now))
redis.call('ZADD', KEYS[1], 'NX', string.format('-%.0f', now), 'since')";

/// Keys: the registry, the confirmations. A replica without a heartbeat for three seconds is not
/// ready. Ready replicas send a heartbeat each second, so after two seconds all of them are
/// registered.
const REACH: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ready = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now - 3000), '+inf')
local missing = 0
for _, replica in ipairs(ready) do
  if redis.call('SISMEMBER', KEYS[2], replica) == 0 then missing = missing + 1 end
end
local since = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(0', 'WITHSCORES')
local whole = since[2] and now + since[2] >= 2000
local lost = redis.call('ZCOUNT', KEYS[1], string.format('%.0f', now - 60000), string.format('(%.0f', now - 3000))
return {#ready, missing, whole and 1 or 0, lost}";

/// How long a confirmation is kept, in seconds. No publisher waits longer.
const KEPT_SECS: u64 = 60;

// === impl ReplicaRegistry ===

impl ReplicaRegistry {
    pub(crate) const fn new(redis: Redis) -> Self {
        Self(redis)
    }

    /// Registers `replica` as ready.
    pub(crate) async fn announce(&self, replica: &str) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(ANNOUNCE).arg(1).arg(REPLICAS).arg(replica).ignore();
        self.0.send(&commands, LIMIT, Delivery::RETRIED).await
    }

    /// Removes `replica`, which is no longer ready.
    pub(crate) async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("ZREM").arg(REPLICAS).arg(replica).ignore();
        self.0.send(&commands, LIMIT, Delivery::RETRIED).await
    }

    /// Confirms that `replica` has applied the events with these receipts.
    pub(crate) async fn confirm(
        &self,
        replica: &str,
        receipts: &[String],
    ) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        for receipt in receipts {
            let key = receipt_key(receipt);
            commands.cmd("SADD").arg(&key).arg(replica).ignore();
            commands.cmd("EXPIRE").arg(&key).arg(KEPT_SECS).ignore();
        }
        self.0.send(&commands, LIMIT, Delivery::RETRIED).await
    }

    /// How many replicas have applied the event with this receipt.
    pub(crate) async fn status_of(&self, receipt: &str) -> Result<ReceiptStatus, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(REACH).arg(2).arg(REPLICAS).arg(receipt_key(receipt));
        let ((ready, missing, registry_is_stable, has_lost_replica),) =
            self.0.send(&commands, LIMIT, Delivery::RETRIED).await?;
        Ok(ReceiptStatus { ready, missing, registry_is_stable, has_lost_replica })
    }
}
