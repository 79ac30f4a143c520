//! The outbox for the relay: the leader lock, reading the oldest entries, and removing those that
//! are done.
//!
//! Publishers push at its head; the oldest entry is at its tail. Entries are removed only if the
//! tail is still the expected one, in the same atomic step, because another relay may have removed
//! them meanwhile.

use std::time::Duration;

use redis::Pipeline;

use super::{Delivery, Redis, error::StoreError, keys::RELAY_LOCK};

/// The outbox, for one relay.
#[derive(Debug)]
pub(crate) struct Outbox {
    redis: Redis,
    /// The unique name of this relay in the lock.
    owner: String,
}

/// An entry that was read, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) body: Vec<u8>,
    pub(crate) fate: Fate,
}

/// The outcome of an entry when it leaves the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is published.
    Relayed,
    /// It is malformed: a dead letter.
    NoEvent,
    /// The broker does not accept it: a dead letter.
    Rejected,
    /// Its type is not known: it is moved to the `:unknown` list for a newer relay.
    UnknownType,
}

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(1);

/// How long a leader that does not renew its lock keeps others from taking over, in milliseconds.
const LOCK_MS: u64 = 2_000;

/// How many bytes are read at once, at most. A larger entry is read by itself.
const BATCH_BYTES: usize = 64 << 10;

/// How many dead letters are kept, and how many events of unknown types; the oldest are dropped
/// first. Without a limit, a faulty publisher could fill the store, which then accepts no
/// revocations.
const KEPT: usize = 10_000;

/// Keys: the lock. Arguments: the owner, how long it is to last.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])";

/// Keys: the lock. Arguments: the owner.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// Returns the oldest entries first, up to the limit of bytes, but always at least one.
///
/// Keys: the list. Arguments: at most how many entries and how many bytes.
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

/// Entries to keep are pushed to their list before any is removed, so that an error loses nothing.
///
/// Keys: the outbox, the dead letters, the events of unknown types. Arguments: how many are kept in
/// each of these two; a digit for each entry, the number of its target list, or 0; and the entries,
/// the oldest last.
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

/// Entries that stay are moved to the other end of their list, so that the next ones can be read.
///
/// Keys: the events of unknown types, the outbox. Arguments: a digit for each entry, 1 if it goes
/// to the outbox; and the entries, the oldest last.
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
    pub(crate) const fn new(redis: Redis, owner: String) -> Self {
        Self { redis, owner }
    }

    /// Resolves when the store answers.
    pub(crate) async fn connect(&self) -> Result<(), StoreError> {
        self.redis.ping(LIMIT).await
    }

    /// Takes the lock if it is free. Returns whether this relay holds it now.
    pub(crate) async fn lock(&self) -> Result<bool, StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("SET").arg(RELAY_LOCK).arg(&self.owner).arg("NX").arg("PX").arg(LOCK_MS);
        let (taken,): (Option<String>,) = self.redis.send(&commands, LIMIT, Delivery::ONCE).await?;
        // If the answer to an earlier attempt was lost, this relay may hold the lock already.
        if taken.is_some() { Ok(true) } else { self.renew().await }
    }

    /// Extends the lock. Returns whether this relay still held it.
    pub(crate) async fn renew(&self) -> Result<bool, StoreError> {
        let mut commands = redis::pipe();
        let renew = commands.cmd("EVAL").arg(RENEW).arg(1).arg(RELAY_LOCK).arg(&self.owner);
        renew.arg(LOCK_MS);
        let (held,) = self.redis.send(&commands, LIMIT, Delivery::RETRIED).await?;
        Ok(held)
    }

    /// Lets another relay take over at once.
    pub(crate) async fn release(&self) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(RELEASE).arg(1).arg(RELAY_LOCK).arg(&self.owner).ignore();
        self.redis.send(&commands, LIMIT, Delivery::RETRIED).await
    }

    /// How many entries there are.
    pub(crate) async fn length(&self) -> Result<u64, StoreError> {
        self.length_of(&self.redis.keys().outbox).await
    }

    /// The oldest entries, the oldest first; and how many there are in all. At most `count` entries
    /// with at most [`BATCH_BYTES`] together, but always at least one.
    pub(crate) async fn read(&self, count: usize) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        self.read_from(&self.redis.keys().outbox, count).await
    }

    /// Removes entries that were read, the oldest first, if they still are the oldest. Those that
    /// were not published are moved to another list. Returns whether they are gone: if another
    /// relay has removed some of them, none is removed.
    pub(crate) async fn remove(&self, entries: &[Entry]) -> Result<bool, StoreError> {
        if entries.is_empty() {
            return Ok(true);
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
    pub(crate) async fn count_unknown(&self) -> Result<u64, StoreError> {
        self.length_of(&self.redis.keys().unknown).await
    }

    /// The oldest events of unknown types, bounded as those of [`Outbox::read`].
    pub(crate) async fn read_unknown(&self, count: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let (entries, _) = self.read_from(&self.redis.keys().unknown, count).await?;
        Ok(entries)
    }

    /// Of the entries that [`Outbox::read_unknown`] returned, moves those whose type is known now
    /// to the outbox. The others become the newest of their list. Returns whether that was done: if
    /// another relay has moved some of them, none is moved.
    pub(crate) async fn restore(
        &self,
        entries: &[Vec<u8>],
        is_known: impl Fn(&[u8]) -> bool,
    ) -> Result<bool, StoreError> {
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

    /// Resolves when a publisher of Portcullis has pushed an entry, or at the latest after `limit`:
    /// other publishers do not wake the relay.
    pub(crate) async fn wait(&self, limit: Duration) -> Result<(), StoreError> {
        let mut commands = redis::pipe();
        let wake_up = &self.redis.keys().wake_up;
        commands.cmd("BLPOP").arg(wake_up).arg(limit.as_secs_f64()).ignore();
        self.redis.send(&commands, limit.saturating_add(LIMIT), Delivery::BLOCKING).await
    }

    async fn length_of(&self, list: &str) -> Result<u64, StoreError> {
        let (length,) =
            self.redis.send(redis::pipe().cmd("LLEN").arg(list), LIMIT, Delivery::RETRIED).await?;
        Ok(length)
    }

    async fn read_from(&self, list: &str, count: usize) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        let mut commands = redis::pipe();
        commands.cmd("EVAL").arg(READ).arg(1).arg(list).arg(count).arg(BATCH_BYTES);
        let (read,) = self.redis.send(&commands, LIMIT, Delivery::RETRIED).await?;
        Ok(read)
    }

    /// Not retried: its effect cannot be distinguished from that of another relay.
    async fn write(&self, commands: &Pipeline) -> Result<bool, StoreError> {
        let (is_done,) = self.redis.send(commands, LIMIT, Delivery::ONCE).await?;
        Ok(is_done)
    }
}

// === impl Fate ===

impl Fate {
    /// The list to which [`REMOVE`] moves the entry.
    const fn place(self) -> char {
        match self {
            Self::Relayed => '0',
            Self::NoEvent | Self::Rejected => '1',
            Self::UnknownType => '2',
        }
    }
}
