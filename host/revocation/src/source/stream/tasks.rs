//! Futures of the driver beside the consumer: connecting, reading the store, queries to it.
//!
//! They are not spawned: they make progress while the driver waits, and end when they are dropped.

use std::{future::pending, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::broker::BrokerSession;
use crate::{
    event::{Event, Unrevocation},
    feed::{FeedEvent, refresh::Resync},
    outbox_reader::OutboxReader,
    rabbitmq::BrokerError,
    redis::{Awaited, AwaitedReader, Redis, StoreError},
};

/// How long the store may take for a query.
pub(super) const STORE_LIMIT: Duration = Duration::from_secs(1);

/// A future that may be in progress.
pub(super) struct OptionalTask<T>(Option<BoxFuture<'static, T>>);

/// Un-revocations, and which of their revocations are gone.
pub(super) type Asked = (Vec<Unrevocation>, Result<Vec<bool>, StoreError>);

/// The reader of awaited receipts, and what it has read.
pub(super) type ReadAwaited = (AwaitedReader, Result<Vec<Awaited>, StoreError>);

/// Everything that can be in progress.
#[derive(Default)]
pub(super) struct StreamTasks {
    pub(super) connecting: OptionalTask<Result<BrokerSession, BrokerError>>,
    pub(super) snapshot: OptionalTask<Result<Vec<Event>, StoreError>>,
    pub(super) poll: OptionalTask<Result<(), StoreError>>,
    pub(super) awaited: OptionalTask<ReadAwaited>,
    pub(super) reread: OptionalTask<Result<Vec<Event>, StoreError>>,
    pub(super) unrevocations: OptionalTask<Asked>,
    pub(super) liveness: OptionalTask<Result<(), BrokerError>>,
    pub(super) declaring: OptionalTask<Result<(), BrokerError>>,
    pub(super) probing: OptionalTask<Result<(), BrokerError>>,
}

/// A future that has completed.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, on its way from one line to the next"
)]
pub(super) enum Done {
    Connecting(Result<BrokerSession, BrokerError>),
    /// The revocations that are in the outbox.
    Snapshot(Result<Vec<Event>, StoreError>),
    Poll(Result<(), StoreError>),
    Awaited(ReadAwaited),
    /// The same.
    Reread(Result<Vec<Event>, StoreError>),
    Unrevocations(Vec<Unrevocation>, Result<Vec<bool>, StoreError>),
    Liveness(Result<(), BrokerError>),
    Declaring(Result<(), BrokerError>),
    Probing(Result<(), BrokerError>),
}

// === impl OptionalTask ===

impl<T> OptionalTask<T> {
    pub(super) fn start(&mut self, what: impl Future<Output = T> + Send + 'static) {
        self.0 = Some(what.boxed());
    }

    pub(super) fn stop(&mut self) {
        self.0 = None;
    }

    pub(super) const fn is_in_progress(&self) -> bool {
        self.0.is_some()
    }

    /// Its result, once it is done; pending for ever if it is not in progress.
    async fn done(&mut self) -> T {
        let Some(doing) = &mut self.0 else { return pending().await };
        let result = doing.await;
        self.0 = None;
        result
    }
}

impl<T> Default for OptionalTask<T> {
    fn default() -> Self {
        Self(None)
    }
}

// === impl StreamTasks ===

impl StreamTasks {
    /// The next result. Cancel safe.
    pub(super) async fn next(&mut self) -> Done {
        tokio::select! {
            // None of them can starve the others: each completes once.
            biased;
            connected = self.connecting.done() => Done::Connecting(connected),
            read = self.snapshot.done() => Done::Snapshot(read),
            read = self.poll.done() => Done::Poll(read),
            read = self.awaited.done() => Done::Awaited(read),
            read = self.reread.done() => Done::Reread(read),
            (asked, gone) = self.unrevocations.done() => Done::Unrevocations(asked, gone),
            answered = self.liveness.done() => Done::Liveness(answered),
            declared = self.declaring.done() => Done::Declaring(declared),
            taken = self.probing.done() => Done::Probing(taken),
        }
    }
}

/// Queries the store for which of the revocations are gone. The outbox is not read meanwhile: a
/// newer revocation in it must not be applied before this older answer.
pub(super) async fn ask_about(
    redis: Redis,
    outbox: OutboxReader,
    unrevocations: Vec<Unrevocation>,
) -> Asked {
    let asked = unrevocations.clone();
    let ask = async move { redis.are_gone(&asked, STORE_LIMIT).await };
    let gone = outbox.apart(ask).await.unwrap_or(Err(StoreError::Closed));
    (unrevocations, gone)
}

/// Reads the store again because a request asked for it, and reports when all of it has been
/// applied.
pub(super) async fn reread(
    reading: impl Future<Output = Result<Vec<Event>, StoreError>>,
    feed: mpsc::Sender<FeedEvent>,
    resync: Resync,
) -> Result<Vec<Event>, StoreError> {
    let pending = reading.await?;
    barrier(&feed).await?;
    resync.done();
    Ok(pending)
}

/// Resolves when everything that was sent to the feed before has been applied.
async fn barrier(feed: &mpsc::Sender<FeedEvent>) -> Result<(), StoreError> {
    let (sender, applied) = oneshot::channel();
    feed.send(FeedEvent::Barrier(sender)).await.map_err(|_| StoreError::Closed)?;
    applied.await.map_err(|_| StoreError::Closed)
}
