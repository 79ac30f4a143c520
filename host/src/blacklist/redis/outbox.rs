//! Owns the relay's side of the outbox: who may work on it, reading its oldest entries, and removing
//! those that have been dealt with.
//!
//! Publishers push at its head; what is oldest is at its tail. Whatever changes it checks in the same
//! step that the lock is still ours, because a relay may have been stopped for any length of time
//! between looking and doing. Relays of other systems take no lock and pop what they like: the tail
//! is compared before anything is removed from it.

use std::time::Duration;

use redis::Pipeline;

use super::{Again, Redis, error::StoreError, keys::RELAY_LOCK};

/// The outbox, for one relay.
#[derive(Debug)]
pub(in crate::blacklist) struct Outbox {
    redis: Redis,
    /// Whoever else holds the lock has another name.
    owner: String,
    lock_time: Duration,
}

/// An entry that was read, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::blacklist) struct Entry {
    pub(in crate::blacklist) body: Vec<u8>,
    /// It is no event, and goes to the dead letters.
    pub(in crate::blacklist) is_dead: bool,
}

/// What came of removing entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::blacklist) enum Removed {
    /// They are gone.
    Done,
    /// Another relay has taken some of them, so none was removed.
    Moved,
    /// The lock is not ours any more, so none was removed.
    LockLost,
}

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Keys: the lock. Arguments: the owner, how long it is to last.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Keys: the lock. Arguments: the owner.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// The dead letters are pushed before anything is removed, so that an error loses nothing.
///
/// Keys: the lock, the outbox, the dead letters. Arguments: the owner, a digit for each entry that
/// says whether it is dead, and the entries, the oldest last.
const REMOVE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local count = #ARGV - 2
local tail = redis.call('LRANGE', KEYS[2], -count, -1)
if #tail ~= count then return 0 end
for i = 1, count do
  if tail[i] ~= ARGV[i + 2] then return 0 end
end
for i = count, 1, -1 do
  if string.sub(ARGV[2], i, i) == '1' then redis.call('LPUSH', KEYS[3], tail[i]) end
end
redis.call('LTRIM', KEYS[2], 0, -count - 1)
return 1";

// === impl Outbox ===

impl Outbox {
    /// Connects to nothing. `owner` is a name that nobody else has.
    pub(in crate::blacklist) const fn new(
        redis: Redis,
        owner: String,
        lock_time: Duration,
    ) -> Self {
        Self { redis, owner, lock_time }
    }

    /// Resolves when the store answers.
    pub(in crate::blacklist) async fn connect(&self) -> Result<(), StoreError> {
        self.redis.ping(LIMIT).await
    }

    /// Takes the lock if nobody has it. Whether it is ours now.
    pub(in crate::blacklist) async fn lock(&self) -> Result<bool, StoreError> {
        let mut commands = redis::pipe();
        let take = commands.cmd("SET").arg(RELAY_LOCK).arg(&self.owner).arg("NX").arg("PX");
        take.arg(self.lock_millis());
        let (taken,): (Option<String>,) = self.redis.write(&commands, LIMIT).await?;
        // An answer that got lost left us with a lock that we do not know of.
        if taken.is_some() { Ok(true) } else { self.renew().await }
    }

    /// Holds the lock for longer. Whether it still was ours.
    pub(in crate::blacklist) async fn renew(&self) -> Result<bool, StoreError> {
        let mut commands = redis::pipe();
        let renew = commands.cmd("EVAL").arg(RENEW).arg(1).arg(RELAY_LOCK).arg(&self.owner);
        renew.arg(self.lock_millis());
        let (held,): (i64,) = self.redis.send(&commands, LIMIT, Again::Yes).await?;
        Ok(held == 1)
    }

    /// Lets another relay take over at once.
    pub(in crate::blacklist) async fn release(&self) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(RELEASE).arg(1).arg(RELAY_LOCK).arg(&self.owner).ignore();
        self.redis.send(&commands, LIMIT, Again::Yes).await
    }

    /// The oldest entries, `count` at the most, the oldest first; and how many there are in all.
    pub(in crate::blacklist) async fn read(
        &self,
        count: usize,
    ) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        let outbox = &self.redis.keys().outbox;
        let mut commands = redis::pipe();
        commands.cmd("LRANGE").arg(outbox).arg(format!("-{count}")).arg(-1);
        commands.cmd("LLEN").arg(outbox);
        let (mut entries, backlog): (Vec<Vec<u8>>, u64) = self.redis.read(&commands, LIMIT).await?;
        entries.reverse();
        Ok((entries, backlog))
    }

    /// Removes entries that were read, the oldest first, if they still are the oldest and the lock
    /// still is ours.
    pub(in crate::blacklist) async fn remove(
        &self,
        entries: &[Entry],
    ) -> Result<Removed, StoreError> {
        if entries.is_empty() {
            return Ok(Removed::Done);
        }
        let keys = self.redis.keys();
        let newest_first = || entries.iter().rev();
        let dead: String =
            newest_first().map(|entry| if entry.is_dead { '1' } else { '0' }).collect();
        let mut commands = Pipeline::new();
        let remove = commands.cmd("EVAL").arg(REMOVE).arg(3).arg(RELAY_LOCK);
        remove.arg(&keys.outbox).arg(&keys.dead_letters).arg(&self.owner).arg(dead);
        for entry in newest_first() {
            remove.arg(&entry.body);
        }
        // Not sent again: what it leaves behind looks like what another relay leaves behind.
        let (done,): (i64,) = self.redis.write(&commands, LIMIT).await?;
        Ok(match done {
            1 => Removed::Done,
            0 => Removed::Moved,
            _ => Removed::LockLost,
        })
    }

    /// Resolves when a publisher of ours has left something, or after `limit` at the latest: others
    /// give no sign.
    pub(in crate::blacklist) async fn wait(&self, limit: Duration) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        let wake_up = &self.redis.keys().wake_up;
        commands.cmd("BLPOP").arg(wake_up).arg(limit.as_secs_f64()).ignore();
        self.redis.send_waiting(&commands, limit.saturating_add(LIMIT)).await
    }

    fn lock_millis(&self) -> u64 {
        u64::try_from(self.lock_time.as_millis()).unwrap_or(u64::MAX)
    }
}
