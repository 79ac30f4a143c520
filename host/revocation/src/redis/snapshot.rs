//! Snapshot: reading all revocations from Redis.
//!
//! It uses a separate connection, because lookups would wait behind its large answers. Entries are
//! sent on as they are read, because the set only grows. A snapshot succeeds only if everything was
//! read, from a server that is still the primary at the end.

use std::time::Duration;

use portcullis_types::token_id::TokenId;
use redis::{FromRedisValue, Pipeline, aio::MultiplexedConnection};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{
    Redis,
    ask::Ask,
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

/// Reads a snapshot, and sends it to the feed.
pub(super) struct SnapshotReader<'a, C> {
    /// A dedicated connection.
    pub(super) from: &'a C,
    pub(super) keys: &'a Keys,
    pub(super) kind: SnapshotKind,
    /// The set that the feed writes: entries that it has already are neither read nor sent.
    pub(super) known: &'a Blacklist,
    /// The feed.
    pub(super) into: &'a mpsc::Sender<FeedEvent>,
}

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
        let keys = self.keys();
        #[cfg(test)]
        if let Some(server) = &self.inner.simulated {
            let from = &super::simulated::Connection::open(server).await?;
            let reader = SnapshotReader { from, keys, kind: reading, known, into };
            let read = reader.read_all().await?;
            return from.leads_to_primary().await.map(|()| read.pending);
        }
        let began = Instant::now();
        let (connection, address) = self.inner.connector.connect().await?;
        self.metrics.set_evicts(eviction::check(&connection).await?);
        let reader = SnapshotReader { from: &connection, keys, kind: reading, known, into };
        let StoreReading { count, pending, lacks_index } = reader.read_all().await?;
        self.inner.connector.leads_to_primary(connection.clone(), &address).await?;
        if let Some(index) = keys.index.as_deref().filter(|_| lacks_index) {
            reader.complete(index).await?;
        }
        let took = began.elapsed();
        tracing::info!(entries = count, ?reading, ?took, "everything in Redis was read");
        Ok(pending)
    }
}

// === impl SnapshotReader ===

impl<C: Ask> SnapshotReader<'_, C> {
    /// Sends all keys and the outbox to the feed.
    async fn read_all(&self) -> Result<StoreReading, StoreError> {
        let index = self.keys.index.as_deref();
        let (mut count, lacks_index) = match index {
            Some(index) if self.has_complete(index).await? => {
                (self.read_index(index).await?, false)
            }
            _ => {
                let (found, pages) = mpsc::channel(AHEAD);
                let ((), count) = tokio::try_join!(self.scan(found), self.read_pages(pages))?;
                (count, index.is_some())
            }
        };
        let mut pending = PendingOutbox::default();
        pending.read(self.keys, self.from).await?;
        let pending = pending.take_valid();
        count += pending.len() as u64;
        self.send(FeedEvent::InitApply, pending.clone()).await?;
        Ok(StoreReading { count, pending, lacks_index })
    }

    /// Sends entries to the feed. Waits while it is busy (backpressure).
    pub(super) async fn send<T>(
        &self,
        as_event: impl FnOnce(Vec<T>) -> FeedEvent,
        entries: Vec<T>,
    ) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.into.send(as_event(entries)).await.map_err(|_| StoreError::Closed)
    }

    /// Scans all keys, page by page.
    async fn scan(&self, into: mpsc::Sender<Page>) -> Result<(), StoreError> {
        let pattern = self.keys.pattern();
        let mut cursor = 0;
        loop {
            let mut commands = Pipeline::with_capacity(1);
            commands.cmd("SCAN").arg(cursor);
            commands.arg("MATCH").arg(&pattern).arg("COUNT").arg(COUNT);
            let ((next, found),): ((u64, Page),) = self.from.ask(&commands).await?;
            into.send(found).await.map_err(|_| StoreError::Closed)?;
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Reads the entries of each page, and returns how many there were.
    async fn read_pages(&self, mut pages: mpsc::Receiver<Page>) -> Result<u64, StoreError> {
        let mut count = 0;
        while let Some(page) = pages.recv().await {
            let found: Vec<_> =
                page.into_iter().filter_map(|key| Wanted::from_key(self.keys, key)).collect();
            count += found.len() as u64;
            if let Some(index) = &self.keys.index {
                self.fill(index, &found).await?;
            }
            // Ids first, so that revoked tokens are denied before their expiries are read.
            let now = ambient::now();
            let is_new = |token_id: &TokenId| !self.known.holds(token_id, now);
            let ids = found.iter().filter_map(|entry| entry.token_id).filter(is_new).collect();
            self.send(FeedEvent::InitIds, ids).await?;
            let is_wanted = |entry: &Wanted| match (entry.token_id, self.kind) {
                (None, _) | (Some(_), SnapshotKind::AllExpiries) => true,
                (Some(_), SnapshotKind::TokenIds) => false,
                (Some(token_id), SnapshotKind::MissingExpiries) => {
                    self.known.lacks_expiry(&token_id, now)
                }
            };
            let wanted: Vec<_> = found.into_iter().filter(is_wanted).collect();
            self.send(FeedEvent::InitExpiries, self.entries(&wanted).await?).await?;
        }
        Ok(count)
    }

    pub(super) async fn entries(&self, wanted: &[Wanted]) -> Result<Vec<Event>, StoreError> {
        let events = entries::read(self.keys, wanted, self.from).await?;
        Ok(events.into_iter().flatten().collect())
    }
}

impl Ask for MultiplexedConnection {
    async fn ask<T: FromRedisValue + Send>(&self, commands: &Pipeline) -> Result<T, StoreError> {
        let mut connection = self.clone();
        timeout(PAGE_LIMIT, commands.query_async(&mut connection))
            .await
            .map_err(|_| StoreError::Timeout(PAGE_LIMIT))?
            .map_err(|error| StoreError::of(&error))
    }
}
