//! Owns the roll of replicas in the store: who is ready, and who has applied what.
//!
//! Times on it are the store's own, so that no clock but one matters. It also says since when there
//! is a roll, as a member whose score is that time below zero: a store that was flushed has a new one,
//! on which not everybody stands yet.

use std::time::Duration;

use super::{
    Again, Redis,
    error::StoreError,
    keys::{REPLICAS, receipt as receipt_key},
};

/// The roll of replicas.
#[derive(Debug, Clone)]
pub(in crate::blacklist) struct Roll(Redis);

/// How far an event has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::blacklist) struct Reach {
    /// How many replicas are ready.
    pub(in crate::blacklist) ready: usize,
    /// How many of them have not confirmed it.
    pub(in crate::blacklist) missing: usize,
    /// Whether there has been a roll for long enough that everybody who is ready stands on it.
    pub(in crate::blacklist) is_whole: bool,
    /// Whether a replica has fallen silent within the last minute, without saying that it ends.
    pub(in crate::blacklist) has_lost_one: bool,
}

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Keys: the roll. Arguments: the replica. Who has been silent for a minute is struck off. A roll that
/// began in the future begins now: another server's clock has taken over.
const ANNOUNCE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, string.format('(%.0f', now - 60000))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(-%.0f', now))
redis.call('ZADD', KEYS[1], 'NX', string.format('-%.0f', now), 'since')";

/// Keys: the roll, who has confirmed. Who has been silent for three seconds is not ready. Whoever is
/// ready says so once a second, so after two seconds everybody has.
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

/// How long a confirmation is kept, in seconds. Longer than anybody waits for it.
const KEPT_SECS: u64 = 60;

// === impl Roll ===

impl Roll {
    pub(in crate::blacklist) const fn new(redis: Redis) -> Self {
        Self(redis)
    }

    /// Says that `replica` is ready.
    pub(in crate::blacklist) async fn announce(&self, replica: &str) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(ANNOUNCE).arg(1).arg(REPLICAS).arg(replica).ignore();
        self.0.send(&commands, LIMIT, Again::Yes).await
    }

    /// Says that `replica` is not ready any more.
    pub(in crate::blacklist) async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("ZREM").arg(REPLICAS).arg(replica).ignore();
        self.0.send(&commands, LIMIT, Again::Yes).await
    }

    /// Says that `replica` has applied the events with these receipts.
    pub(in crate::blacklist) async fn confirm(
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
        self.0.send(&commands, LIMIT, Again::Yes).await
    }

    /// How far the event with this receipt has got.
    pub(in crate::blacklist) async fn reach(&self, receipt: &str) -> Result<Reach, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(REACH).arg(2).arg(REPLICAS).arg(receipt_key(receipt));
        let ((ready, missing, whole, lost),): ((usize, usize, u8, usize),) =
            self.0.read(&commands, LIMIT).await?;
        Ok(Reach { ready, missing, is_whole: whole == 1, has_lost_one: lost > 0 })
    }
}
