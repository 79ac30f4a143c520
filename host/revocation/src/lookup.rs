//! Lookups in the store of tokens that the local set does not know, in batches.
//!
//! Many requests may look up tokens at the same time: while one batch is in flight, lookups wait
//! and go together with the next. While there is no connection to the store, they fail at once.
//!
//! While the broker is unavailable, revocations wait for the relay in the outbox in the store.
//! Other publishers may not have written their entries yet, so each batch has the outbox read as
//! well, and added to the set before it answers.

use std::time::Duration;

use futures_util::future::join;
use portcullis_runtime::{
    drain::Drain,
    telemetry::{Lookup, RedisMetrics},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    config::{Mode, RedisConfig},
    event::{Event, PresentedToken},
    feed::FeedEvent,
    outbox_reader::OutboxReader,
    redis::{AskStore, Query, Redis, StoreError},
};

/// Looks up tokens in the store. Clones use the same worker.
#[derive(Debug, Clone)]
pub struct LookupClient {
    requests: mpsc::Sender<LookupRequest>,
    metrics: RedisMetrics,
}

/// Answers the lookups of [`LookupClient`], while [`LookupWorker::run`] runs.
#[derive(Debug)]
pub struct LookupWorker {
    redis: Redis,
    requests: mpsc::Receiver<LookupRequest>,
    batcher: Batcher,
}

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It failed, or took longer than `blacklist.redis.timeout`.
    #[error("the store did not answer")]
    NoAnswer,
    /// Too many lookups wait.
    #[error("too many lookups wait for the store")]
    Overloaded,
}

/// The revocations in the store that cover a token.
type Answer = Result<Vec<Event>, AskError>;

/// A lookup that waits for its answer.
struct LookupRequest {
    query: Query,
    /// Where the answer goes: the revocations that cover the token.
    answer: oneshot::Sender<Answer>,
}

/// Answers lookups batch by batch; without the store and the queue.
#[derive(Debug)]
struct Batcher {
    mode: Mode,
    limit: Duration,
    outbox: OutboxReader,
    feed: mpsc::Sender<FeedEvent>,
    metrics: RedisMetrics,
}

/// How many lookups may wait. Each belongs to a request that holds more memory than the lookup
/// does.
const WAITING: usize = 4096;

/// How many lookups go together: as many as Redis answers within a millisecond or two.
const BATCH: usize = 256;

/// Makes client and worker. What is found is added to the set through `feed`, if `mode` asks for
/// it.
#[must_use]
pub(crate) fn build(
    mode: Mode,
    config: &RedisConfig,
    redis: Redis,
    outbox: OutboxReader,
    feed: mpsc::Sender<FeedEvent>,
) -> (LookupClient, LookupWorker) {
    let (sender, requests) = mpsc::channel(WAITING);
    let metrics = redis.metrics().clone();
    let limit = config.timeout.get();
    let batcher = Batcher { mode, limit, outbox, feed, metrics: metrics.clone() };
    (LookupClient { requests: sender, metrics }, LookupWorker { redis, requests, batcher })
}

// === impl LookupClient ===

impl LookupClient {
    /// The revocations in the store that cover `token`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn ask(&self, token: &PresentedToken<'_>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let token_id = token.token_id.zip(token.jti).map(|(id, jti)| (*id, jti.to_owned()));
        let query = Query { token_id, cutoffs: token.cutoffs().collect() };
        let request = LookupRequest { query, answer };
        if self.requests.try_send(request).is_err() {
            self.metrics.asked(Lookup::Error);
            return Err(AskError::Overloaded);
        }
        answered.await.map_err(|_| AskError::NoAnswer)?
    }
}

// === impl LookupWorker ===

impl LookupWorker {
    /// Answers until the last client is dropped: requests in flight when `drain` begins still look
    /// up tokens.
    pub async fn run(mut self, drain: Drain) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.requests.recv_many(&mut batch, BATCH).await > 0 {
            self.batcher.answer(&mut batch, &self.redis).await;
        }
        drain.stopping().await;
    }
}

// === impl Batcher ===

impl Batcher {
    /// Answers all lookups of `batch`, and empties it.
    async fn answer(&mut self, batch: &mut Vec<LookupRequest>, store: &impl AskStore) {
        // Callers may have stopped waiting while the last batch was in flight.
        batch.retain(|request| !request.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        let answers = self.look_up(batch, store).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "lookup in Redis failed");
            vec![Err(AskError::NoAnswer); batch.len()]
        });
        for (request, answer) in batch.drain(..).zip(answers) {
            self.metrics.asked(match &answer {
                Ok(found) if found.is_empty() => Lookup::Clear,
                Ok(_) => Lookup::Found,
                Err(_) => Lookup::Error,
            });
            let _ = request.answer.send(answer);
        }
    }

    /// The revocations in the store for each lookup of `batch`. Those that belong in the set are
    /// applied when this returns.
    async fn look_up(
        &self,
        batch: &[LookupRequest],
        store: &impl AskStore,
    ) -> Result<Vec<Answer>, StoreError> {
        let queries: Vec<_> = batch.iter().map(|request| &request.query).collect();
        let asked = store.ask(&queries, self.limit);
        if self.mode == Mode::RedisAlways {
            return Ok(asked.await?.into_iter().map(Ok).collect());
        }
        // Both take one round trip: they share the connection.
        let (found, read) = join(asked, timeout(self.limit, self.outbox.read())).await;
        // A revocation that was found is an answer in any case.
        let all_read = matches!(read, Ok(Ok(())));
        let found = found?;
        if self.mode == Mode::RedisOnMiss {
            self.apply(found.iter().flatten().copied().collect()).await;
        }
        // If the outbox cannot be read in time, what was found stays valid.
        let is_known = |found: &Vec<Event>| all_read || !found.is_empty();
        let answer = |found| if is_known(&found) { Ok(found) } else { Err(AskError::NoAnswer) };
        Ok(found.into_iter().map(answer).collect())
    }

    /// Resolves when `events` have taken effect. If the feed has ended, they are found again, or no
    /// request asks.
    async fn apply(&self, events: Vec<Event>) {
        let mut applied = Vec::with_capacity(events.len());
        for event in events {
            let (ack, ack_received) = oneshot::channel();
            let _ = self.feed.send(FeedEvent::Apply(event, Some(ack))).await;
            applied.push(ack_received);
        }
        for ack in applied {
            let _ = ack.await;
        }
    }
}

#[cfg(test)]
mod tests;
