//! Awaited receipts in Redis, for replicas that receive nothing from the broker.
//!
//! A publisher that waits leaves all events of its operation in Redis, beside the outbox, which the
//! relay may have emptied by the time a replica reads it. A replica that is not live reads them,
//! applies them, and confirms. They are written once all of them are stored, and kept longer than a
//! publisher waits.

use std::{collections::HashSet, time::Duration};

use redis::Pipeline;

use super::{
    Delivery, Redis,
    error::StoreError,
    keys::{RECEIPTS, events_of},
};

/// An awaited receipt, and the events that have to be applied before it is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) receipt: String,
    pub(crate) events: Vec<Vec<u8>>,
}

/// Reads awaited receipts, each once.
#[derive(Debug)]
pub(crate) struct AwaitedReader {
    redis: Redis,
    /// When the newest receipt that was read was requested, by the clock of the store, in
    /// milliseconds.
    newest: Option<f64>,
    /// Receipts that were read, as long as they are found again.
    read: HashSet<String>,
}

/// How long one step may take.
const LIMIT: Duration = Duration::from_secs(1);

/// Operations with more events are not written: they would take too much memory of the store.
const MOST_EVENTS: usize = 10_000;

/// How many receipts are read at once; the others are read the next time.
const MOST_RECEIPTS: usize = 16;

/// How far the clock of another server may be behind after a failover, in milliseconds.
const OVERLAP: f64 = 10_000.0;

/// The script is atomic, so a replica that finds the receipt finds all events.
///
/// Keys: the events, the receipts. Arguments: the receipt, the events.
const ASK: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[1])
for i = 2, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], 120000)
redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', now - 60000))
redis.call('PEXPIRE', KEYS[2], 120000)";

/// Stores that `receipt` is awaited. `events` is everything that has to be applied before it is
/// confirmed.
///
/// # Errors
/// When the store does not accept it. Replicas that receive from the broker confirm
/// nevertheless.
pub(crate) async fn ask_for_receipt(
    redis: &Redis,
    receipt: &str,
    events: &[String],
) -> Result<(), StoreError> {
    if events.len() > MOST_EVENTS {
        return Ok(());
    }
    let mut commands = Pipeline::with_capacity(1);
    let ask = commands.cmd("EVAL").arg(ASK).arg(2).arg(events_of(receipt)).arg(RECEIPTS);
    ask.arg(receipt).arg(events).ignore();
    redis.send(&commands, LIMIT, Delivery::RETRIED).await
}

// === impl AwaitedReader ===

impl AwaitedReader {
    pub(crate) fn new(redis: Redis) -> Self {
        Self { redis, newest: None, read: HashSet::new() }
    }

    /// The receipts requested since the last reading, the oldest first.
    ///
    /// # Errors
    /// When the store does not answer.
    pub(crate) async fn read(&mut self) -> Result<Vec<Awaited>, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        let from = self.newest.map_or("-inf".to_owned(), |newest| format!("{}", newest - OVERLAP));
        commands.cmd("ZRANGEBYSCORE").arg(RECEIPTS).arg(from).arg("+inf").arg("WITHSCORES");
        let (found,): (Vec<(String, f64)>,) =
            self.redis.send(&commands, LIMIT, Delivery::RETRIED).await?;
        let new = found.iter().filter(|(receipt, _)| !self.read.contains(receipt));
        let new: Vec<_> = new.take(MOST_RECEIPTS).cloned().collect();
        let awaited = self.events_of(&new).await?;
        self.read.retain(|receipt| found.iter().any(|(it, _)| it == receipt));
        for (receipt, time) in new {
            self.newest = Some(self.newest.unwrap_or(time).max(time));
            self.read.insert(receipt);
        }
        Ok(awaited)
    }

    async fn events_of(&self, receipts: &[(String, f64)]) -> Result<Vec<Awaited>, StoreError> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let mut commands = Pipeline::with_capacity(receipts.len());
        for (receipt, _) in receipts {
            commands.cmd("LRANGE").arg(events_of(receipt)).arg(0).arg(-1);
        }
        let events: Vec<Vec<Vec<u8>>> =
            self.redis.send(&commands, LIMIT, Delivery::RETRIED).await?;
        if events.len() != receipts.len() {
            return Err(StoreError::nonsense());
        }
        let pairs = receipts.iter().zip(events);
        let awaited =
            pairs.map(|((receipt, _), events)| Awaited { receipt: receipt.clone(), events });
        // Events that are gone prove nothing.
        Ok(awaited.filter(|awaited| !awaited.events.is_empty()).collect())
    }
}
