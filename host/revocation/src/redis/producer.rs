//! Writing revocations to Redis: the key that revokes and the event for the relay, in one
//! transaction.
//!
//! It never shortens an entry: of two revocations the longer one is kept, and of two cut-offs the
//! union.

use std::time::Duration;

use portcullis_types::timestamp::Timestamp;
use redis::{Pipeline, Value};

use super::{Delivery, Redis, error::StoreError};
use crate::event::{Lifetime, Revocation};

/// Writes revocations.
#[derive(Debug, Clone)]
pub(crate) struct Producer {
    redis: Redis,
    margin: Duration,
    /// Whether there is a broker, and so a relay that reads the outbox.
    has_relay: bool,
}

/// Revocations were not stored, or the outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store did not execute or did not confirm it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It would be lost together with the primary.
    #[error(
        "the primary has stored it, but only {confirmed} of {wanted} replicas of the store have \
         confirmed it in time, so a failover could lose it; retry"
    )]
    NotReplicated {
        /// How many replicas have confirmed it.
        confirmed: usize,
        /// How many had to confirm it.
        wanted: usize,
    },
    /// Other publishers keep changing the same cut-off.
    #[error("other publishers keep changing the same cut-off; retry")]
    Contended,
}

/// How long one batch may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a replica of the store may take to confirm a batch, in milliseconds.
const REPLICATION_LIMIT_MS: u64 = 1_000;

/// How often the join of a cut-off that another publisher changed meanwhile is retried.
const ATTEMPTS: usize = 20;

/// The event is pushed first: if the outbox is not a list, nothing has been changed yet. The
/// wake-up entry wakes the relay, which then need not poll.
///
/// Keys: the revocation, the outbox, the wake-up list. Arguments: the event, if there is a relay;
/// the action; the value; how many milliseconds it lasts, empty meaning for ever; the value that a
/// cut-off was joined with.
///
/// A fourth key is the index. Each write also removes some expired entries from it.
const WRITE: &str = "
local function keep_index()
  if not KEYS[4] then return end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local left = redis.call('PTTL', KEYS[1])
  if left == -2 then
    redis.call('ZREM', KEYS[4], KEYS[1])
  elseif left == -1 then
    redis.call('ZADD', KEYS[4], '+inf', KEYS[1])
  else
    redis.call('ZADD', KEYS[4], string.format('%.0f', now + left), KEYS[1])
  end
  local bound = string.format('(%.0f', now)
  local over = redis.call('ZRANGEBYSCORE', KEYS[4], '(0', bound, 'LIMIT', 0, 16)
  if #over > 0 then redis.call('ZREM', KEYS[4], unpack(over)) end
end
if ARGV[2] == 'cutoff' and (redis.call('GET', KEYS[1]) or '') ~= ARGV[5] then
  return 0
end
if ARGV[1] ~= '' then
  redis.call('LPUSH', KEYS[2], ARGV[1])
  if redis.call('EXISTS', KEYS[3]) == 0 then
    redis.call('RPUSH', KEYS[3], '1')
    redis.call('PEXPIRE', KEYS[3], 10000)
  end
end
if ARGV[2] == 'withdraw' then
  redis.call('DEL', KEYS[1])
  keep_index()
  return 1
end
local left = redis.call('PTTL', KEYS[1])
if ARGV[4] == '' then
  redis.call('SET', KEYS[1], ARGV[3])
elseif left ~= -1 and left < tonumber(ARGV[4]) then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
elseif ARGV[2] == 'cutoff' then
  redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
end
keep_index()
return 1";

// === impl Producer ===

impl Producer {
    /// `margin` is how long a revocation outlives its token. `has_relay` says whether there is a
    /// broker, and so a relay that reads the outbox.
    pub(crate) const fn new(redis: Redis, margin: Duration, has_relay: bool) -> Self {
        Self { redis, margin, has_relay }
    }

    /// Whether events are sent through a broker.
    pub(crate) const fn has_relay(&self) -> bool {
        self.has_relay
    }

    /// Writes revocations in their order; those that have expired already are skipped. Replicas
    /// confirm the receipt when they apply the last one.
    ///
    /// # Errors
    /// When the store does not confirm that it has them all. It may have some.
    pub(crate) async fn write(
        &self,
        revocations: &[Revocation],
        receipt: Option<&str>,
    ) -> Result<(), WriteError> {
        let now = Timestamp::now();
        let of_one_token = |revocation: &Revocation| revocation.target().jti().is_some();
        let mut left = revocations.len();
        // Cut-offs are joined with the stored value, one at a time.
        for run in revocations.chunk_by(|one, next| of_one_token(one) && of_one_token(next)) {
            left = left.saturating_sub(run.len());
            let receipt = receipt.filter(|_| left == 0);
            match run {
                [one] if !of_one_token(one) => self.write_cutoff(one, now, receipt).await?,
                tokens => self.write_tokens(tokens, now, receipt).await?,
            }
        }
        Ok(())
    }

    async fn write_tokens(
        &self,
        revocations: &[Revocation],
        now: Timestamp,
        receipt: Option<&str>,
    ) -> Result<(), WriteError> {
        let mut commands = Pipeline::new();
        load(&mut commands);
        let last = revocations.len().saturating_sub(1);
        for (index, revocation) in revocations.iter().enumerate() {
            let receipt = receipt.filter(|_| index == last);
            self.add(&mut commands, revocation, now, receipt, b"");
        }
        self.send(&mut commands).await.map(drop)
    }

    async fn write_cutoff(
        &self,
        revocation: &Revocation,
        now: Timestamp,
        receipt: Option<&str>,
    ) -> Result<(), WriteError> {
        for _ in 0..ATTEMPTS {
            let mut stored = Vec::new();
            if revocation.revokes() {
                let key = self.key(revocation);
                let (value,): (Option<Vec<u8>>,) =
                    self.redis.send(redis::pipe().get(key), LIMIT, Delivery::RETRIED).await?;
                stored = value.unwrap_or_default();
            }
            let mut commands = Pipeline::new();
            load(&mut commands);
            self.add(&mut commands, revocation, now, receipt, &stored);
            if self.send(&mut commands).await?.contains(&Value::Int(1)) {
                return Ok(());
            }
        }
        Err(WriteError::Contended)
    }

    /// Adds the transaction for one revocation; `stored` is the value that a cut-off is joined
    /// with.
    fn add(
        &self,
        commands: &mut Pipeline,
        revocation: &Revocation,
        now: Timestamp,
        receipt: Option<&str>,
        stored: &[u8],
    ) {
        let event =
            if self.has_relay { revocation.to_event_json(now, receipt) } else { String::new() };
        let keys = self.redis.keys();
        let joined = revocation.clone().join(stored);
        let (action, value) = match (revocation.revokes(), revocation.target().jti()) {
            (false, _) => ("withdraw", String::new()),
            (true, Some(_)) => ("token", revocation.to_stored_json(now)),
            (true, None) => ("cutoff", joined.to_stored_json(now)),
        };
        let lasts = match joined.lifetime(now, self.margin) {
            Lifetime::For(time) => time.as_millis().to_string(),
            Lifetime::Over if revocation.revokes() => return,
            Lifetime::Permanent | Lifetime::Over => String::new(),
        };
        commands
            .cmd("EVALSHA")
            .arg(redis::Script::new(WRITE).get_hash())
            .arg(if keys.index.is_some() { 4 } else { 3 })
            .arg(self.key(revocation))
            .arg(&keys.outbox)
            .arg(&keys.wake_up)
            .arg(keys.index.as_slice())
            .arg(event)
            .arg(action)
            .arg(value)
            .arg(lasts)
            .arg(stored);
    }

    fn key(&self, revocation: &Revocation) -> String {
        let (target, keys) = (revocation.target(), self.redis.keys());
        // A target is one or the other.
        let token = || target.jti().map(|jti| keys.token(jti)).unwrap_or_default();
        target.cutoff().map_or_else(token, |cutoff| keys.cutoff(cutoff))
    }

    /// Sends a batch to the primary, and waits until its replicas have it: after a failover, by
    /// sentinels or by an operator, the new primary must have what was acknowledged. The batch is
    /// idempotent.
    async fn send(&self, commands: &mut Pipeline) -> Result<Vec<Value>, WriteError> {
        let wanted = self.replicas_to_wait_for().await?;
        if wanted > 0 {
            commands.cmd("WAIT").arg(wanted).arg(REPLICATION_LIMIT_MS);
        }
        let mut answers: Vec<Value> =
            self.redis.send(commands, LIMIT, Delivery::BLOCKING_CONFIRMED).await?;
        if wanted > 0 {
            let confirmed = match answers.pop() {
                Some(Value::Int(count)) => usize::try_from(count).unwrap_or_default(),
                _ => return Err(StoreError::nonsense().into()),
            };
            if confirmed < wanted {
                return Err(WriteError::NotReplicated { confirmed, wanted });
            }
        }
        Ok(answers)
    }

    /// As many as are configured, or else as are connected: any of them may take over, and the
    /// nearest one confirms first. Without replicas and without sentinels, no failover is possible.
    /// With sentinels, a primary without replicas may have been replaced by its only replica, and
    /// may not know it yet.
    async fn replicas_to_wait_for(&self) -> Result<usize, StoreError> {
        let connector = &self.redis.inner.connector;
        if let Some(count) = connector.config.wait_replicas {
            return Ok(usize::try_from(count).unwrap_or(usize::MAX));
        }
        let (role,): (Vec<Value>,) =
            self.redis.send(redis::pipe().cmd("ROLE"), LIMIT, Delivery::RETRIED).await?;
        let connected = match role.get(2) {
            Some(Value::Array(replicas)) => replicas.len(),
            _ => 0,
        };
        Ok(connected.max(usize::from(connector.has_sentinels())))
    }
}

/// Loads the script, since the server may be a new one.
fn load(commands: &mut Pipeline) {
    commands.cmd("SCRIPT").arg("LOAD").arg(WRITE).ignore();
}

#[cfg(test)]
mod tests;
