//! Owns writing revocations to the store: the key that revokes and the event for the relay, in one
//! transaction.
//!
//! It never shortens what is there: of two revocations the longer one stays, and of two cut-offs
//! what either covers.

use std::time::Duration;

use redis::{Pipeline, Value};

use super::{Redis, error::StoreError};
use crate::{
    blacklist::revocation::{Lifetime, Revocation},
    timestamp::Timestamp,
};

/// Writes revocations.
#[derive(Debug, Clone)]
pub(in crate::blacklist) struct Producer {
    redis: Redis,
    margin: Duration,
    /// Whether there is a broker, and so a relay that reads the outbox.
    has_relay: bool,
}

/// Revocations were not stored, or nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store did not do it, or did not say so.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It would be lost if the primary were.
    #[error(
        "the primary has stored it, but only {confirmed} of {wanted} replicas of the store have \
         confirmed it in time, so a failover could lose it; do it again"
    )]
    NotReplicated {
        /// How many replicas have confirmed it.
        confirmed: usize,
        /// How many had to.
        wanted: usize,
    },
    /// Others change the same cut-off all the time.
    #[error("others keep changing the same cut-off; do it again")]
    Contended,
}

/// How long one batch may take.
const LIMIT: Duration = Duration::from_secs(2);

/// How long a replica of the store may take to confirm a batch, in milliseconds.
const REPLICATION_LIMIT_MS: u64 = 1_000;

/// How often a cut-off that somebody else changed meanwhile is joined anew.
const ATTEMPTS: usize = 20;

/// The event goes first: if the outbox is no list, nothing has been done yet. The wake-up call saves
/// a relay of ours from looking all the time.
///
/// Keys: the revocation, the outbox, the wake-up call. Arguments: the event, if there is a relay;
/// the order; the value; how many milliseconds it lasts, nothing being for ever; what a cut-off was
/// joined with.
const WRITE: &str = "
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
return 1";

// === impl Producer ===

impl Producer {
    /// `margin` is how long a revocation outlives its token. `has_relay` says whether there is a
    /// broker, and so a relay that reads the outbox.
    pub(in crate::blacklist) const fn new(redis: Redis, margin: Duration, has_relay: bool) -> Self {
        Self { redis, margin, has_relay }
    }

    /// Whether events are sent through a broker.
    pub(in crate::blacklist) const fn has_relay(&self) -> bool {
        self.has_relay
    }

    /// Writes revocations in their order; those that are over already are left out. Replicas
    /// confirm the receipt when they apply the last one.
    ///
    /// # Errors
    /// When the store does not say that it has them all. It may have some.
    pub(in crate::blacklist) async fn write(
        &self,
        revocations: &[Revocation],
        receipt: Option<&str>,
    ) -> Result<(), WriteError> {
        let now = Timestamp::now();
        let of_one_token = |revocation: &Revocation| revocation.target().jti().is_some();
        let mut left = revocations.len();
        // Cut-offs are joined with what the store has, one at a time.
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
                    self.redis.read(redis::pipe().get(key), LIMIT).await?;
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

    /// Adds the transaction for one revocation; `stored` is what a cut-off is joined with.
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
        let (order, value) = match (revocation.revokes(), revocation.target().jti()) {
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
            .arg(digest())
            .arg(3)
            .arg(self.key(revocation))
            .arg(&keys.outbox)
            .arg(&keys.wake_up)
            .arg(event)
            .arg(order)
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

    /// Sends a batch to the primary, and waits until its replicas have it: one that takes over must
    /// know what has been acknowledged, whether sentinels or an operator decide about that. To do it
    /// twice is to do it once.
    async fn send(&self, commands: &mut Pipeline) -> Result<Vec<Value>, WriteError> {
        let wanted = self.replicas_to_wait_for().await?;
        if wanted > 0 {
            commands.cmd("WAIT").arg(wanted).arg(REPLICATION_LIMIT_MS);
        }
        let mut answers: Vec<Value> = self.redis.send_confirmed(commands, LIMIT).await?;
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

    /// As many as are configured, or else as are connected: any of them may take over, and the nearest
    /// one confirms first. Without replicas and without sentinels, nothing can take over. Where
    /// sentinels are, a primary without replicas may have been replaced by its only one, of which
    /// they have not heard yet.
    async fn replicas_to_wait_for(&self) -> Result<usize, StoreError> {
        let connector = &self.redis.shared.connector;
        if let Some(count) = connector.wait_replicas() {
            return Ok(usize::try_from(count).unwrap_or(usize::MAX));
        }
        let (role,): (Vec<Value>,) = self.redis.read(redis::pipe().cmd("ROLE"), LIMIT).await?;
        let connected = match role.get(2) {
            Some(Value::Array(replicas)) => replicas.len(),
            _ => 0,
        };
        Ok(connected.max(usize::from(connector.has_sentinels())))
    }
}

/// Makes sure that the server knows the script, whichever server it is.
fn load(commands: &mut Pipeline) {
    commands.cmd("SCRIPT").arg("LOAD").arg(WRITE).ignore();
}

fn digest() -> String {
    redis::Script::new(WRITE).get_hash().to_owned()
}

#[cfg(test)]
mod tests;
