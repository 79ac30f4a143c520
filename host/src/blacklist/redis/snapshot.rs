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
    super::{event::Event, feed::FeedEvent, store::Blacklist},
    Redis,
    ask::Ask,
    connect::Connection,
    entries::{self, Wanted},
    error::StoreError,
    eviction,
    keys::Keys,
    parked::Parked,
};
use crate::{timestamp::Timestamp, token_id::TokenId};

/// What is read of the tokens that are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::blacklist) enum Reading {
    /// Their ids. The store needs half as long for it.
    TokenIds,
    /// Their ids, and the expiries that the set does not know.
    MissingExpiries,
    /// Their ids and all expiries: those that the set knows were read by a clock that was wrong.
    AllExpiries,
}

/// Keys that the store has named.
type Page = Vec<Vec<u8>>;

/// A connection that nobody shares.
struct Own(MultiplexedConnection);

/// How many keys the store looks at for one page. It serves nobody else meanwhile: a millisecond or
/// two. When it is asked about the same keys right afterwards, it still has them in its caches: with
/// pages five times as large, it takes a third longer for a million keys.
const COUNT: usize = 1_000;

/// How many pages are known by name before they are read: so many that the store always has
/// something to do.
const AHEAD: usize = 1;

/// How long one page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(2);

/// How often it is begun anew because the connection broke or the primary changed.
const ATTEMPTS: u32 = 3;

// === impl Redis ===

impl Redis {
    /// Sends everything that the store holds to the feed, what is parked in the outbox included,
    /// and returns how many entries that were. Ends with an error unless it was everything. `known` is
    /// the set that the feed writes: what it has already is not sent, nor asked for.
    ///
    /// # Errors
    /// When the store fails, or nobody takes the entries.
    pub(in crate::blacklist) async fn snapshot(
        &self,
        reading: Reading,
        known: &Blacklist,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<u64, StoreError> {
        let mut attempt = 1;
        loop {
            match self.read_all(reading, known, into).await {
                Err(error) if error.is_of_the_connection() && attempt < ATTEMPTS => {
                    tracing::info!(%error, "reading the store from the start again");
                    attempt += 1;
                }
                end => return end,
            }
        }
    }

    async fn read_all(
        &self,
        reading: Reading,
        known: &Blacklist,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<u64, StoreError> {
        let began = Instant::now();
        let Connection { to, address } = self.shared.connector.connect().await?;
        let (own, keys) = (Own(to), self.keys());
        self.metrics.set_evicts(eviction::check(&own).await?);
        let (found, pages) = mpsc::channel(AHEAD);
        let read = own.read(keys, (reading, known), pages, into);
        let ((), mut count) = tokio::try_join!(own.scan(keys, found), read)?;
        let mut parked = Parked::default();
        parked.read(keys, &own).await?;
        let parked = parked.take();
        count += parked.len() as u64;
        send(into, FeedEvent::InitApply, parked).await?;
        if !self.shared.connector.leads_to_primary(own.0, &address).await? {
            return Err(StoreError::Moved);
        }
        let took = began.elapsed();
        tracing::info!(entries = count, ?reading, ?took, "everything in Redis was read");
        Ok(count)
    }
}

/// Waits while the feed is busy, so that no more is read than it can take.
async fn send<T>(
    into: &mpsc::Sender<FeedEvent>,
    as_event: impl FnOnce(Vec<T>) -> FeedEvent,
    entries: Vec<T>,
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    into.send(as_event(entries)).await.map_err(|_| StoreError::Closed)
}

// === impl Own ===

impl Own {
    /// Finds all keys, page by page.
    async fn scan(&self, keys: &Keys, into: mpsc::Sender<Page>) -> Result<(), StoreError> {
        let pattern = keys.pattern();
        let mut cursor = 0;
        loop {
            let mut commands = Pipeline::with_capacity(1);
            commands.cmd("SCAN").arg(cursor);
            commands.arg("MATCH").arg(&pattern).arg("COUNT").arg(COUNT);
            let ((next, found),): ((u64, Page),) = self.ask(&commands).await?;
            into.send(found).await.map_err(|_| StoreError::Closed)?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Reads what the keys of each page hold, and returns how many entries that were.
    async fn read(
        &self,
        keys: &Keys,
        (reading, known): (Reading, &Blacklist),
        mut pages: mpsc::Receiver<Page>,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        while let Some(page) = pages.recv().await {
            let found: Vec<_> =
                page.into_iter().filter_map(|key| Wanted::from_key(keys, key)).collect();
            count += found.len() as u64;
            // What is revoked is denied at once, however long it takes to ask for how long.
            let is_new = |token_id: &TokenId| !known.holds(token_id);
            let ids = found.iter().filter_map(Wanted::token_id).filter(is_new).collect();
            send(into, FeedEvent::InitHold, ids).await?;
            let now = Timestamp::now();
            let is_wanted = |entry: &Wanted| match (entry.token_id(), reading) {
                (None, _) | (Some(_), Reading::AllExpiries) => true,
                (Some(_), Reading::TokenIds) => false,
                (Some(token_id), Reading::MissingExpiries) => known.lacks_expiry(&token_id, now),
            };
            let wanted: Vec<_> = found.into_iter().filter(is_wanted).collect();
            send(into, FeedEvent::InitSettle, self.entries(keys, &wanted).await?).await?;
        }
        Ok(count)
    }

    async fn entries(&self, keys: &Keys, wanted: &[Wanted]) -> Result<Vec<Event>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Vec<Value> = self.ask(&entries::commands(wanted)).await?;
        let events = entries::events(keys, wanted, answers, Timestamp::now())?;
        Ok(events.into_iter().flatten().collect())
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
