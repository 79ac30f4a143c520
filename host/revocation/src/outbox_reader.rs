//! The one task that reads the outbox for this replica, and hands new entries to the source.
//!
//! The source requests readings at an interval, and so does each batch of lookups. The task, not a
//! caller, holds what has been read so far: a caller that is slow, paused or gone blocks no other.
//!
//! The source applies the entries, and not this task: an un-revocation that was verified before an
//! entry was read must be applied before it, and one that is being verified needs a new query.

use std::future::Future;

use futures_util::{FutureExt, future::BoxFuture};

use portcullis_runtime::drain::Drain;
use tokio::sync::{mpsc, oneshot};

use crate::{
    blacklist::Applied,
    event::Event,
    redis::{PendingOutbox, ReadOutbox, Redis, StoreError},
};

/// Requests readings. Clones use the same task.
#[derive(Debug, Clone)]
pub(crate) struct OutboxReader(mpsc::Sender<Request>);

/// Reads while [`OutboxTask::run`] runs.
#[derive(Debug)]
pub(crate) struct OutboxTask<S = Redis> {
    store: S,
    pending: PendingOutbox,
    requests: mpsc::Receiver<Request>,
    entries: mpsc::Sender<NewEntries>,
}

/// New entries of the outbox, in the order in which they are to be applied.
#[derive(Debug)]
pub(crate) struct NewEntries {
    /// All but the last one.
    pub(crate) events: Vec<Event>,
    /// The last one.
    pub(crate) last: Event,
    /// Is told when all of them have been applied.
    pub(crate) applied: oneshot::Sender<Applied>,
}

/// A request to the task.
enum Request {
    /// Read. The result goes to the caller; the reading begins after the request.
    Read(oneshot::Sender<Result<(), StoreError>>),
    /// Read nothing until this is done.
    Apart(BoxFuture<'static, ()>),
}

/// How many callers may wait. There are three kinds, and one of each waits at a time.
const WAITING: usize = 16;

/// Makes handle and task, and what the task finds.
pub(crate) fn build<S>(store: S) -> (OutboxReader, OutboxTask<S>, mpsc::Receiver<NewEntries>) {
    let (sender, requests) = mpsc::channel(WAITING);
    let (entries, found) = mpsc::channel(1);
    let task = OutboxTask { store, pending: PendingOutbox::default(), requests, entries };
    (OutboxReader(sender), task, found)
}

// === impl OutboxReader ===

impl OutboxReader {
    /// Resolves when everything has been applied that was in the outbox when this was called.
    ///
    /// # Errors
    /// When not all of it could be read. What could be read has been applied.
    pub(crate) async fn read(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Request::Read(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Does `work` while the outbox is not read. It delays lookups, so it must have a time limit.
    ///
    /// # Errors
    /// When the task has ended.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (result, done) = oneshot::channel();
        // The caller may have stopped waiting.
        let work = work.map(|done| drop(result.send(done))).boxed();
        self.0.send(Request::Apart(work)).await.map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)
    }
}

// === impl OutboxTask ===

impl<S: ReadOutbox> OutboxTask<S> {
    /// Reads until the last handle is dropped.
    pub(crate) async fn run(mut self, drain: Drain) {
        self.serve().await;
        drain.stopping().await;
    }

    async fn serve(&mut self) {
        let mut requests = Vec::with_capacity(WAITING);
        let mut waiting = Vec::with_capacity(WAITING);
        // A request that comes while the outbox is read waits for the next reading.
        while self.requests.recv_many(&mut requests, WAITING).await > 0 {
            for request in requests.drain(..) {
                match request {
                    Request::Read(answer) => waiting.push(answer),
                    Request::Apart(work) => work.await,
                }
            }
            if waiting.is_empty() {
                continue;
            }
            let read = self.read().await;
            for answer in waiting.drain(..) {
                // The caller may have stopped waiting.
                let _ = answer.send(read.clone());
            }
        }
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let read = self.store.read_outbox(&mut self.pending).await;
        let found = self.pending.take();
        self.apply(found).await?;
        read
    }

    /// Resolves when `events` have been applied, in their order.
    async fn apply(&self, mut events: Vec<Event>) -> Result<(), StoreError> {
        let Some(last) = events.pop() else { return Ok(()) };
        let (applied, done) = oneshot::channel();
        let entries = NewEntries { events, last, applied };
        self.entries.send(entries).await.map_err(|_| StoreError::Closed)?;
        done.await.map(drop).map_err(|_| StoreError::Closed)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use portcullis_runtime::drain;
    use portcullis_types::{timestamp::Timestamp, token_id::TokenId};
    use tokio::sync::Semaphore;

    use super::*;

    /// An outbox that is read when the test lets it be.
    #[derive(Clone)]
    pub(crate) struct Fake {
        entries: Arc<Mutex<VecDeque<Event>>>,
        fails: bool,
        readings: Arc<Semaphore>,
    }

    impl Fake {
        pub(crate) fn new(entries: impl IntoIterator<Item = Event>) -> Self {
            let entries = Arc::new(Mutex::new(entries.into_iter().collect()));
            Self { entries, fails: false, readings: Arc::new(Semaphore::new(1_000)) }
        }

        /// One whose readings fail at their end.
        pub(crate) fn failing(self) -> Self {
            Self { fails: true, ..self }
        }
    }

    impl ReadOutbox for Fake {
        async fn read_outbox(&self, pending: &mut PendingOutbox) -> Result<(), StoreError> {
            self.readings.acquire().await.unwrap().forget();
            pending.pretend(self.entries.lock().unwrap().drain(..));
            if self.fails { Err(StoreError::Moved) } else { Ok(()) }
        }
    }

    fn add(jti: &str) -> Event {
        Event::Add { token_id: TokenId::new(jti).unwrap(), expires_at: Some(Timestamp::MAX) }
    }

    /// A running task, and what it finds.
    pub(crate) fn start(fake: &Fake) -> (OutboxReader, mpsc::Receiver<NewEntries>) {
        let (reader, task, entries) = build(fake.clone());
        let (drain, _) = drain::pair();
        drain.spawn("outbox reader", task.run(drain.clone()));
        (reader, entries)
    }

    async fn apply_next(entries: &mut mpsc::Receiver<NewEntries>) -> Vec<Event> {
        let NewEntries { mut events, last, applied } = entries.recv().await.unwrap();
        events.push(last);
        applied.send(Applied::Added).unwrap();
        events
    }

    #[tokio::test]
    async fn new_events_are_applied_before_the_answer() {
        let fake = Fake::new([add("a"), add("b"), add("c")]);
        let (reader, mut entries) = start(&fake);
        let reading = reader.read();
        tokio::pin!(reading);
        tokio::select! {
            biased;
            read = &mut reading => panic!("nothing has been applied: {read:?}"),
            applied = apply_next(&mut entries) => assert_eq!(applied, [add("a"), add("b"), add("c")]),
        }
        assert_eq!(reading.await, Ok(()));
        assert_eq!(reader.read().await, Ok(()), "there is nothing new");
    }

    #[tokio::test]
    async fn what_was_read_before_an_error_is_applied() {
        let fake = Fake::new([add("a")]).failing();
        let (reader, mut entries) = start(&fake);
        let (read, applied) = tokio::join!(reader.read(), apply_next(&mut entries));
        assert_eq!((read, applied), (Err(StoreError::Moved), vec![add("a")]));
    }

    #[tokio::test]
    async fn a_caller_that_is_no_longer_polled_blocks_no_other() {
        let fake = Fake::new([]);
        let (reader, _entries) = start(&fake);
        let paused = reader.read();
        tokio::pin!(paused);
        assert!(futures_util::poll!(&mut paused).is_pending());
        for _ in 0..3 {
            assert_eq!(reader.read().await, Ok(()));
        }
        assert_eq!(paused.await, Ok(()));
    }

    #[tokio::test]
    async fn nothing_is_read_while_something_is_done_apart() {
        let fake = Fake::new([add("a")]);
        let (reader, mut entries) = start(&fake);
        let (finish, finished) = oneshot::channel::<()>();
        let apart = reader.apart(finished);
        let read = reader.read();
        tokio::pin!(apart, read);
        assert!(futures_util::poll!(&mut apart).is_pending());
        assert!(futures_util::poll!(&mut read).is_pending());
        tokio::task::yield_now().await;
        assert!(entries.try_recv().is_err(), "the outbox was read meanwhile");
        finish.send(()).unwrap();
        assert_eq!(apart.await, Ok(Ok(())));
        let (read, applied) = tokio::join!(read, apply_next(&mut entries));
        assert_eq!((read, applied), (Ok(()), vec![add("a")]));
    }

    #[tokio::test]
    async fn a_request_waits_for_a_reading_that_begins_after_it() {
        let fake = Fake { readings: Arc::new(Semaphore::new(0)), ..Fake::new([]) };
        let (reader, mut entries) = start(&fake);
        let early = reader.read();
        tokio::pin!(early);
        assert!(futures_util::poll!(&mut early).is_pending());
        // The first reading has begun, and waits.
        tokio::task::yield_now().await;
        let late = reader.read();
        tokio::pin!(late);
        assert!(futures_util::poll!(&mut late).is_pending());
        fake.readings.add_permits(1);
        assert_eq!(early.await, Ok(()));
        fake.entries.lock().unwrap().push_back(add("a"));
        fake.readings.add_permits(1);
        let (read, applied) = tokio::join!(late, apply_next(&mut entries));
        assert_eq!((read, applied), (Ok(()), vec![add("a")]));
    }
}
