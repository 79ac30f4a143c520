//! Snapshot: reading all revocations from Redis.
//!
//! It uses a separate connection, because lookups would wait behind its large answers. Entries are
//! sent on as they are read, because the set only grows. A snapshot succeeds only if everything was
//! read, from a server that is still the primary at the end.

use std::time::Duration;

use portcullis_types::token_id::TokenId;
use redis::{FromRedisValue, Pipeline, Value, aio::MultiplexedConnection};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Redis,
    ask::Ask,
    connect::Connection,
    entries::{self, Wanted},
    error::StoreError,
    eviction,
    keys::Keys,
    pending_outbox::PendingOutbox,
};
use crate::{ambient, blacklist::Blacklist, event::Event, feed::FeedEvent};

/// What a snapshot reads of revoked tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SnapshotKind {
    /// Their ids. That takes half the time.
    TokenIds,
    /// Their ids, and the expiries that the set does not know.
    MissingExpiries,
    /// Their ids and all expiries: those that the set knows were read by a clock that was wrong.
    AllExpiries,
}

/// Keys that a scan has returned.
type Page = Vec<Vec<u8>>;

/// A dedicated connection.
pub(super) struct Own<C = MultiplexedConnection>(pub(super) C);

/// What was read.
struct StoreReading {
    /// How many entries there were.
    count: u64,
    /// The revocations in the outbox.
    pending: Vec<Event>,
    /// Whether an index is configured and not complete.
    lacks_index: bool,
}

/// How many keys the store visits for one page. It serves no other client meanwhile: a millisecond
/// or two. When the same keys are read right afterwards, they are still in its CPU caches: with
/// pages five times as large, a million keys take a third longer.
const COUNT: usize = 1_000;

/// How many pages are scanned ahead of reading their entries, so that the store is always busy.
const AHEAD: usize = 1;

/// How long one page may take.
pub(super) const PAGE_LIMIT: Duration = Duration::from_secs(2);

/// How often a snapshot is attempted if the connection breaks or the primary changes.
const ATTEMPTS: u32 = 3;

// === impl Redis ===

impl Redis {
    /// Sends all revocations in the store to the feed, and returns those that are in the outbox. Fails
    /// unless everything was read. `known` is the set that the feed writes: entries that it has already
    /// are neither read nor sent.
    ///
    /// # Errors
    /// When the store fails, or the feed has ended.
    pub(crate) async fn snapshot(
        &self,
        reading: SnapshotKind,
        known: &Blacklist,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<Vec<Event>, StoreError> {
        let mut attempt = 1;
        loop {
            match self.read_all(reading, known, into).await {
                Err(error) if error.is_of_the_connection() && attempt < ATTEMPTS => {
                    tracing::info!(%error, "snapshot failed; reading Redis again from the start");
                    attempt += 1;
                }
                end => return end,
            }
        }
    }

    async fn read_all(
        &self,
        reading: SnapshotKind,
        known: &Blacklist,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<Vec<Event>, StoreError> {
        #[cfg(test)]
        if let Some(server) = &self.inner.simulated {
            let own = Own(super::simulated::Connection::open(server).await?);
            let read = own.read_all(self.keys(), (reading, known), into).await?;
            return if own.0.leads_to_primary().await? {
                Ok(read.pending)
            } else {
                Err(StoreError::Moved)
            };
        }
        let began = Instant::now();
        let Connection { to, address } = self.inner.connector.connect().await?;
        let (own, keys) = (Own(to), self.keys());
        self.metrics.set_evicts(eviction::check(&own).await?);
        let StoreReading { count, pending, lacks_index } =
            own.read_all(keys, (reading, known), into).await?;
        if !self.inner.connector.leads_to_primary(own.0.clone(), &address).await? {
            return Err(StoreError::Moved);
        }
        if let Some(index) = keys.index.as_deref().filter(|_| lacks_index) {
            own.complete(index).await?;
        }
        let took = began.elapsed();
        tracing::info!(entries = count, ?reading, ?took, "everything in Redis was read");
        Ok(pending)
    }
}

/// Waits while the feed is busy (backpressure).
pub(super) async fn send<T>(
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

impl<C> Own<C>
where
    Self: Ask,
{
    /// Sends all keys and the outbox to the feed.
    async fn read_all(
        &self,
        keys: &Keys,
        (reading, known): (SnapshotKind, &Blacklist),
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<StoreReading, StoreError> {
        let index = keys.index.as_deref();
        let (mut count, lacks_index) = match index {
            Some(index) if self.has_complete(index).await? => {
                (self.read_index(keys, index, (reading, known), into).await?, false)
            }
            _ => {
                let (found, pages) = mpsc::channel(AHEAD);
                let read = self.read(keys, (reading, known), pages, into);
                let ((), count) = tokio::try_join!(self.scan(keys, found), read)?;
                (count, index.is_some())
            }
        };
        let mut pending = PendingOutbox::default();
        pending.read(keys, self).await?;
        let pending = pending.take_valid();
        count += pending.len() as u64;
        send(into, FeedEvent::InitApply, pending.clone()).await?;
        Ok(StoreReading { count, pending, lacks_index })
    }

    /// Scans all keys, page by page.
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

    /// Reads the entries of each page, and returns how many there were.
    async fn read(
        &self,
        keys: &Keys,
        (reading, known): (SnapshotKind, &Blacklist),
        mut pages: mpsc::Receiver<Page>,
        into: &mpsc::Sender<FeedEvent>,
    ) -> Result<u64, StoreError> {
        let mut count = 0;
        while let Some(page) = pages.recv().await {
            let found: Vec<_> =
                page.into_iter().filter_map(|key| Wanted::from_key(keys, key)).collect();
            count += found.len() as u64;
            if let Some(index) = &keys.index {
                self.fill(index, &found).await?;
            }
            // Ids first, so that revoked tokens are denied before their expiries are read.
            let now = ambient::now();
            let is_new = |token_id: &TokenId| !known.holds(token_id, now);
            let ids = found.iter().filter_map(Wanted::token_id).filter(is_new).collect();
            send(into, FeedEvent::InitIds, ids).await?;
            let is_wanted = |entry: &Wanted| match (entry.token_id(), reading) {
                (None, _) | (Some(_), SnapshotKind::AllExpiries) => true,
                (Some(_), SnapshotKind::TokenIds) => false,
                (Some(token_id), SnapshotKind::MissingExpiries) => {
                    known.lacks_expiry(&token_id, now)
                }
            };
            let wanted: Vec<_> = found.into_iter().filter(is_wanted).collect();
            send(into, FeedEvent::InitExpiries, self.entries(keys, &wanted).await?).await?;
        }
        Ok(count)
    }

    pub(super) async fn entries(
        &self,
        keys: &Keys,
        wanted: &[Wanted],
    ) -> Result<Vec<Event>, StoreError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Vec<Value> = self.ask(&entries::commands(wanted)).await?;
        let events = entries::events(keys, wanted, answers, ambient::now())?;
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
