//! Tasks beside the reading of messages: connecting, reading the store, asking it.
//!
//! These are no tasks of their own: they make progress while the driver waits, and end when they
//! are dropped.

use std::{future::pending, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

use super::removals::Removal;
use crate::blacklist::{
    feed::FeedEvent,
    lookup::SharedParked,
    rabbitmq::{Broker, BrokerError, From, Session},
    redis::{Reading, Redis, StoreError},
    refresh::Resync,
    store::Blacklist,
};

/// How long the store may take to tell what is parked, or that it is there.
const STORE_LIMIT: Duration = Duration::from_secs(1);

/// Something that may be under way.
pub(super) struct Doing<T>(Option<BoxFuture<'static, T>>);

/// Removals, and which of their revocations are gone.
pub(super) type Asked = (Vec<Removal>, Result<Vec<bool>, StoreError>);

/// Everything that can be under way.
#[derive(Default)]
pub(super) struct Tasks {
    pub(super) connecting: Doing<Result<Session, BrokerError>>,
    pub(super) snapshot: Doing<Result<u64, StoreError>>,
    pub(super) poll: Doing<Result<(), StoreError>>,
    pub(super) reread: Doing<Result<(), StoreError>>,
    pub(super) removals: Doing<Asked>,
    pub(super) liveness: Doing<Result<(), BrokerError>>,
    pub(super) declaring: Doing<Result<(), BrokerError>>,
    pub(super) probing: Doing<Result<(), BrokerError>>,
}

/// What was under way and is done.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, on its way from one line to the next"
)]
pub(super) enum Done {
    Connecting(Result<Session, BrokerError>),
    Snapshot(Result<u64, StoreError>),
    Poll(Result<(), StoreError>),
    Reread,
    Removals(Vec<Removal>, Result<Vec<bool>, StoreError>),
    Liveness(Result<(), BrokerError>),
    Declaring(Result<(), BrokerError>),
    Probing(Result<(), BrokerError>),
}

// === impl Doing ===

impl<T> Doing<T> {
    pub(super) fn start(&mut self, what: impl Future<Output = T> + Send + 'static) {
        self.0 = Some(what.boxed());
    }

    pub(super) fn stop(&mut self) {
        self.0 = None;
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.0.is_some()
    }

    /// Its result, once it is done; never, if it is not under way.
    async fn done(&mut self) -> T {
        let Some(doing) = &mut self.0 else { return pending().await };
        let result = doing.await;
        self.0 = None;
        result
    }
}

impl<T> Default for Doing<T> {
    fn default() -> Self {
        Self(None)
    }
}

// === impl Tasks ===

impl Tasks {
    /// The next thing that is done. Loses nothing if it is dropped before it resolves.
    pub(super) async fn next(&mut self) -> Done {
        tokio::select! {
            connected = self.connecting.done() => Done::Connecting(connected),
            read = self.snapshot.done() => Done::Snapshot(read),
            read = self.poll.done() => Done::Poll(read),
            _ = self.reread.done() => Done::Reread,
            (asked, gone) = self.removals.done() => Done::Removals(asked, gone),
            answered = self.liveness.done() => Done::Liveness(answered),
            declared = self.declaring.done() => Done::Declaring(declared),
            taken = self.probing.done() => Done::Probing(taken),
        }
    }
}

/// Connects to the broker.
pub(super) fn connect(
    broker: Broker,
    from: From,
) -> impl Future<Output = Result<Session, BrokerError>> {
    broker.bind(from)
}

/// Gives everything that the store holds to the feed, or if nothing is to be kept, only sees that
/// the store answers.
pub(super) async fn read_store(
    redis: Redis,
    feed: mpsc::Sender<FeedEvent>,
    reading: Option<(Reading, Blacklist)>,
) -> Result<u64, StoreError> {
    match reading {
        Some((reading, known)) => redis.snapshot(reading, &known, &feed).await,
        None => redis.ping(STORE_LIMIT).await.map(|()| 0),
    }
}

/// Puts on the set what is new in the outbox.
pub(super) async fn poll(
    redis: Redis,
    parked: SharedParked,
    feed: mpsc::Sender<FeedEvent>,
) -> Result<(), StoreError> {
    let mut parked = parked.lock().await;
    let read = redis.parked(&mut parked, STORE_LIMIT).await;
    let found = parked.take();
    if !found.is_empty() {
        feed.send(FeedEvent::InitApply(found)).await.map_err(|_| StoreError::Closed)?;
        // The next reader finds nothing new, and relies on the set.
        settle(&feed).await?;
    }
    read
}

/// Asks the store which of the revocations are gone that removals are about.
pub(super) async fn ask_about(redis: Redis, removals: Vec<Removal>) -> Asked {
    let gone = redis.are_gone(&removals, STORE_LIMIT).await;
    (removals, gone)
}

/// Reads the store again because a request asked for it, and says so when all of it is in force.
pub(super) async fn reread(
    reading: impl Future<Output = Result<u64, StoreError>>,
    feed: mpsc::Sender<FeedEvent>,
    resync: Resync,
) -> Result<(), StoreError> {
    reading.await?;
    settle(&feed).await?;
    resync.done();
    Ok(())
}

/// Resolves when everything that was sent to the feed before has taken effect.
async fn settle(feed: &mpsc::Sender<FeedEvent>) -> Result<(), StoreError> {
    let (settled, in_force) = oneshot::channel();
    feed.send(FeedEvent::Settle(settled)).await.map_err(|_| StoreError::Closed)?;
    in_force.await.map_err(|_| StoreError::Closed)
}
