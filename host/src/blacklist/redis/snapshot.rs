//! Owns reading everything that the store holds.
//!
//! It has a connection of its own: behind its large answers, questions of requests would wait. What
//! it has read is sent on at once, because the set only grows; but only if it has read all of it,
//! from a server that still is the primary at the end, does it say so.

use std::time::Duration;

use redis::{FromRedisValue, Pipeline, Value, aio::MultiplexedConnection};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    super::{event::Event, feed::FeedEvent},
    Redis,
    ask::Ask,
    connect::Connection,
    entries::{self, Wanted},
    error::StoreError,
    eviction,
    keys::Keys,
    parked::Parked,
};
use crate::timestamp::Timestamp;

/// A connection that nobody shares.
struct Own(MultiplexedConnection);

/// Some keys, how long each of them lasts, and where the next page begins.
struct Page {
    next: u64,
    wanted: Vec<Wanted>,
    lifetimes: Vec<Value>,
}

/// Arguments: where to begin, the pattern. Looks at about a thousand keys, which takes the store two
/// milliseconds; it serves nobody else meanwhile. It is asked how long a key lasts while it still has
/// the key in its caches: commands that come later have it look everything up again, which for a
/// million keys takes it nearly twice as long.
const PAGE: &str = "
local cursor, looked, found = ARGV[1], 0, {}
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[2], 'COUNT', 100)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    found[#found + 1] = key
    found[#found + 1] = redis.call('PTTL', key)
  end
  looked = looked + 100
until cursor == '0' or looked == 1000
return {cursor, found}";

/// How long one page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(2);

/// How often it is begun anew because the connection broke or the primary changed.
const ATTEMPTS: u32 = 3;

// === impl Redis ===

impl Redis {
    /// Sends everything that the store holds to the feed, what is parked in the outbox included,
    /// and returns how many entries that were. Ends with an error unless it was everything.
    ///
    /// # Errors
    /// When the store fails, or nobody takes the entries.
    pub(in crate::blacklist) async fn snapshot(
        &self,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<u64, StoreError> {
        let mut attempt = 1;
        loop {
            match self.read_all(into).await {
                Err(error) if error.is_of_the_connection() && attempt < ATTEMPTS => {
                    tracing::info!(%error, "reading the store from the start again");
                    attempt += 1;
                }
                end => return end,
            }
        }
    }

    async fn read_all(&self, into: &mpsc::Sender<FeedEvent>) -> Result<u64, StoreError> {
        let began = Instant::now();
        let Connection { to, address } = self.shared.connector.connect().await?;
        let (own, keys) = (Own(to), self.keys());
        self.metrics.set_evicts(eviction::check(&own).await?);
        let pattern = keys.pattern();
        let mut page = own.page(keys, &pattern, 0).await?;
        let mut count = 0;
        while page.next != 0 {
            // The store is asked first, and looks for the next page while this one is passed on.
            let next = own.page(keys, &pattern, page.next);
            let (next, sent) = tokio::try_join!(next, own.pass_on(keys, page, into))?;
            (page, count) = (next, count + sent);
        }
        count += own.pass_on(keys, page, into).await?;
        let mut parked = Parked::default();
        parked.read(keys, &own).await?;
        count += send(into, parked.take()).await?;
        if !self.shared.connector.leads_to_primary(own.0, &address).await? {
            return Err(StoreError::Moved);
        }
        tracing::info!(entries = count, took = ?began.elapsed(), "everything in Redis was read");
        Ok(count)
    }
}

/// Waits while the feed is busy, so that no more is read than it can take.
async fn send(into: &mpsc::Sender<FeedEvent>, events: Vec<Event>) -> Result<u64, StoreError> {
    let count = events.len() as u64;
    if count > 0 {
        into.send(FeedEvent::InitApply(events)).await.map_err(|_| StoreError::Closed)?;
    }
    Ok(count)
}

// === impl Own ===

impl Own {
    async fn page(&self, keys: &Keys, pattern: &str, cursor: u64) -> Result<Page, StoreError> {
        let mut commands = Pipeline::with_capacity(1);
        commands.cmd("EVAL").arg(PAGE).arg(0).arg(cursor).arg(pattern);
        let ((next, found),): ((u64, Vec<(Vec<u8>, Value)>),) = self.ask(&commands).await?;
        let ours = |(key, lifetime)| Some((Wanted::from_key(keys, key)?, lifetime));
        let (wanted, lifetimes) = found.into_iter().filter_map(ours).unzip();
        Ok(Page { next, wanted, lifetimes })
    }

    /// Sends the entries of a page to the feed, and returns how many they are.
    async fn pass_on(
        &self,
        keys: &Keys,
        Page { wanted, mut lifetimes, .. }: Page,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<u64, StoreError> {
        if wanted.iter().any(Wanted::is_cutoff) {
            let mut commands = Pipeline::with_capacity(1);
            entries::add_values(&mut commands, &wanted);
            let values: Vec<Value> = self.ask(&commands).await?;
            lifetimes.extend(values);
        }
        let events = entries::events(keys, &wanted, lifetimes, Timestamp::now())?;
        send(into, events.into_iter().flatten().collect()).await
    }
}

impl Ask for Own {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        let mut connection = self.0.clone();
        timeout(PAGE_LIMIT, commands.query_async(&mut connection))
            .await
            .map_err(|_| StoreError::Timeout(PAGE_LIMIT))?
            .map_err(|error| StoreError::of(&error))
    }
}
