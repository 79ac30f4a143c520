//! The outbox as the relay sees it: who is the leader, reading the oldest entries, and removing those
//! that have been dealt with.
//!
//! Publishers push at its head; what is oldest is at its tail. Nothing is removed on the word of a
//! relay alone: the tail is compared in the same step, because another relay may have removed the
//! entries meanwhile.

use std::time::Duration;

use redis::Pipeline;

use super::{Again, Redis, error::StoreError, keys::RELAY_LOCK};

/// The outbox, for one relay.
#[derive(Debug)]
pub(in crate::blacklist) struct Outbox {
    redis: Redis,
    /// Another relay that holds the lock has another name.
    owner: String,
    lock_time: Duration,
}

/// An entry that was read, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::blacklist) struct Entry {
    pub(in crate::blacklist) body: Vec<u8>,
    pub(in crate::blacklist) fate: Fate,
}

/// What becomes of an entry when it leaves the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::blacklist) enum Fate {
    /// It is published.
    Relayed,
    /// It is no event: a dead letter.
    NoEvent,
    /// The broker does not accept it: a dead letter.
    Rejected,
    /// Its type is not known: it is set aside for a newer relay.
    UnknownType,
}

/// What came of removing entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::blacklist) enum Removed {
    /// They are gone.
    Done,
    /// Another relay has removed some of them, so none was removed.
    Moved,
}

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(1);

/// How many dead letters are kept, and how many events of unknown types; the oldest go first. Without
/// a bound, whatever writes to the outbox could fill the store, which then takes no revocations.
const KEPT: usize = 10_000;

/// Keys: the lock. Arguments: the owner, how long it is to last.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Keys: the lock. Arguments: the owner.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// Stops before the bytes are too many, but returns one entry in any case: the oldest first. What is
/// not returned is not sent.
///
/// Keys: the list. Arguments: how many entries and how many bytes at the most.
const READ: &str = "
local entries, bytes = {}, 0
for i = 1, tonumber(ARGV[1]) do
  local entry = redis.call('LRANGE', KEYS[1], -i, -i)[1]
  if not entry then break end
  bytes = bytes + #entry
  if i > 1 and bytes > tonumber(ARGV[2]) then break end
  entries[i] = entry
end
return {entries, redis.call('LLEN', KEYS[1])}";

/// What is kept is pushed before anything is removed, so that an error loses nothing.
///
/// Keys: the outbox, the dead letters, the events of unknown types. Arguments: how many are kept in
/// each of these two; a digit for each entry, which says into which of them it goes, if not 0; and
/// the entries, the oldest last.
const REMOVE: &str = "
local count = #ARGV - 2
local tail = redis.call('LRANGE', KEYS[1], -count, -1)
if #tail ~= count then return 0 end
for i = 1, count do
  if tail[i] ~= ARGV[i + 2] then return 0 end
end
for i = count, 1, -1 do
  local place = tonumber(string.sub(ARGV[2], i, i))
  if place > 0 then
    redis.call('LPUSH', KEYS[1 + place], tail[i])
    redis.call('LTRIM', KEYS[1 + place], 0, tonumber(ARGV[1]) - 1)
  end
end
redis.call('LTRIM', KEYS[1], 0, -count - 1)
return 1";

/// Entries that stay go to the other end of their list, so that the next ones can be looked at.
///
/// Keys: the events of unknown types, the outbox. Arguments: a digit for each entry, 1 if it goes to
/// the outbox; and the entries, the oldest last.
const RESTORE: &str = "
local count = #ARGV - 1
local tail = redis.call('LRANGE', KEYS[1], -count, -1)
if #tail ~= count then return 0 end
for i = 1, count do
  if tail[i] ~= ARGV[i + 1] then return 0 end
end
for i = count, 1, -1 do
  local place = tonumber(string.sub(ARGV[1], i, i))
  redis.call('LPUSH', KEYS[1 + place], tail[i])
end
redis.call('LTRIM', KEYS[1], 0, -count - 1)
return 1";

// === impl Outbox ===

impl Outbox {
    /// Connects to nothing. No other relay has the name `owner`.
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

    /// Takes the lock if it is free. Whether it is ours now.
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

    /// How many entries there are.
    pub(in crate::blacklist) async fn length(&self) -> Result<u64, StoreError> {
        self.length_of(&self.redis.keys().outbox).await
    }

    /// The oldest entries, the oldest first; and how many there are in all. At the most `count`, with
    /// `bytes` together, but one of any length in any case.
    pub(in crate::blacklist) async fn read(
        &self,
        count: usize,
        bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        self.read_from(&self.redis.keys().outbox, count, bytes).await
    }

    /// Removes entries that were read, the oldest first, if they still are the oldest. What is not
    /// published is kept in another list.
    pub(in crate::blacklist) async fn remove(
        &self,
        entries: &[Entry],
    ) -> Result<Removed, StoreError> {
        if entries.is_empty() {
            return Ok(Removed::Done);
        }
        let keys = self.redis.keys();
        let newest_first = || entries.iter().rev();
        let places: String = newest_first().map(|entry| entry.fate.place()).collect();
        let mut commands = Pipeline::new();
        let remove = commands.cmd("EVAL").arg(REMOVE).arg(3);
        remove.arg(&keys.outbox).arg(&keys.dead_letters).arg(&keys.unknown).arg(KEPT).arg(places);
        for entry in newest_first() {
            remove.arg(&entry.body);
        }
        self.write(&commands).await
    }

    /// How many events of unknown types there are.
    pub(in crate::blacklist) async fn count_unknown(&self) -> Result<u64, StoreError> {
        self.length_of(&self.redis.keys().unknown).await
    }

    /// The oldest events of unknown types, bounded as those of [`Outbox::read`].
    pub(in crate::blacklist) async fn read_unknown(
        &self,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (entries, _) = self.read_from(&self.redis.keys().unknown, count, bytes).await?;
        Ok(entries)
    }

    /// Moves those of the entries that [`Outbox::read_unknown`] returned to the outbox that are known
    /// now. The others become the newest of their list.
    pub(in crate::blacklist) async fn restore(
        &self,
        entries: &[Vec<u8>],
        is_known: impl Fn(&[u8]) -> bool,
    ) -> Result<Removed, StoreError> {
        let keys = self.redis.keys();
        let newest_first = || entries.iter().rev();
        let places: String =
            newest_first().map(|entry| if is_known(entry) { '1' } else { '0' }).collect();
        let mut commands = Pipeline::new();
        let restore = commands.cmd("EVAL").arg(RESTORE).arg(2);
        restore.arg(&keys.unknown).arg(&keys.outbox).arg(places);
        for entry in newest_first() {
            restore.arg(entry);
        }
        self.write(&commands).await
    }

    /// Resolves when a publisher of ours has left something, or after `limit` at the latest: others
    /// give no sign.
    pub(in crate::blacklist) async fn wait(&self, limit: Duration) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        let wake_up = &self.redis.keys().wake_up;
        commands.cmd("BLPOP").arg(wake_up).arg(limit.as_secs_f64()).ignore();
        self.redis.send_waiting(&commands, limit.saturating_add(LIMIT)).await
    }

    async fn length_of(&self, list: &str) -> Result<u64, StoreError> {
        let (length,): (u64,) = self.redis.read(redis::pipe().cmd("LLEN").arg(list), LIMIT).await?;
        Ok(length)
    }

    async fn read_from(
        &self,
        list: &str,
        count: usize,
        bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(READ).arg(1).arg(list).arg(count).arg(bytes);
        let (read,): ((Vec<Vec<u8>>, u64),) = self.redis.read(&commands, LIMIT).await?;
        Ok(read)
    }

    /// Not sent again: what it leaves behind looks like what another relay leaves behind.
    async fn write(&self, commands: &Pipeline) -> Result<Removed, StoreError> {
        let (done,): (i64,) = self.redis.write(commands, LIMIT).await?;
        Ok(if done == 1 { Removed::Done } else { Removed::Moved })
    }

    fn lock_millis(&self) -> u64 {
        u64::try_from(self.lock_time.as_millis()).unwrap_or(u64::MAX)
    }
}

// === impl Fate ===

impl Fate {
    /// Where [`REMOVE`] puts the entry.
    const fn place(self) -> char {
        match self {
            Self::Relayed => '0',
            Self::NoEvent | Self::Rejected => '1',
            Self::UnknownType => '2',
        }
    }
}
