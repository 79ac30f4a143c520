//! Owns asking the store about tokens that the local set does not know.
//!
//! Many requests may ask at once: questions wait while one batch is on its way, and go together with
//! the next. While there is no connection to the store, they are refused at once.
//!
//! While the broker is away, publishers leave revocations in the store for the relay. They are in
//! no entry yet, so each batch reads them as well, and puts them on the set before it answers.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::future::join;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    config::{Mode, RedisConfig},
    cutoff::Cutoff,
    event::Event,
    feed::FeedEvent,
    redis::{Parked, Redis, StoreError},
    store::Presented,
};
use crate::{
    drain::Drain,
    telemetry::{Lookup, RedisMetrics},
    token_id::TokenId,
};

/// Asks the store. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct Lookups {
    questions: mpsc::Sender<Question>,
    metrics: RedisMetrics,
}

/// Answers what is asked of [`Lookups`], while [`Answers::run`] runs.
#[derive(Debug)]
pub struct Answers {
    redis: Redis,
    questions: mpsc::Receiver<Question>,
    desk: Desk,
}

/// The store did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It failed, or took longer than `blacklist.redis.timeout`.
    #[error("the store did not answer")]
    NoAnswer,
    /// More questions wait than can be answered.
    #[error("too many questions wait for the store")]
    Overloaded,
}

/// What the store holds against a token.
type Answer = Result<Vec<Event>, AskError>;

/// One token to ask about.
pub(super) struct Question {
    /// The token's id, with the text that the store has in its keys.
    pub(super) token_id: Option<(TokenId, String)>,
    /// The cut-offs that would cover it.
    pub(super) cutoffs: Vec<Cutoff>,
    /// Where the answer goes: what the store holds of all these.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What a batch asks of the store; Redis, but for tests.
trait Store: Sync {
    fn ask(
        &self,
        questions: &[Question],
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Vec<Event>>, StoreError>> + Send;

    fn parked(
        &self,
        parked: &mut Parked,
        limit: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Everything but the store and the waiting.
#[derive(Debug)]
struct Desk {
    mode: Mode,
    limit: Duration,
    parked: SharedParked,
    feed: mpsc::Sender<FeedEvent>,
    metrics: RedisMetrics,
}

/// How far the outbox has been read: by the source at an interval, and with each batch.
pub(super) type SharedParked = Arc<Mutex<Parked>>;

/// How many questions may wait. Each belongs to a request that holds more memory than this does.
const WAITING: usize = 4096;

/// How many questions go together: what Redis answers within a millisecond or two.
const BATCH: usize = 256;

/// Makes both ends. What is found is put on the set through `feed`, as far as `mode` wants it.
#[must_use]
pub(super) fn build(
    mode: Mode,
    config: &RedisConfig,
    redis: Redis,
    parked: SharedParked,
    feed: mpsc::Sender<FeedEvent>,
) -> (Lookups, Answers) {
    let (sender, questions) = mpsc::channel(WAITING);
    let metrics = redis.metrics().clone();
    let desk = Desk::new(mode, config, parked, feed, metrics.clone());
    (Lookups { questions: sender, metrics }, Answers { redis, questions, desk })
}

// === impl Lookups ===

impl Lookups {
    /// What the store holds against `token`.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn ask(&self, token: &Presented<'_>) -> Answer {
        let (answer, answered) = oneshot::channel();
        let token_id = token.token_id.zip(token.jti).map(|(id, jti)| (*id, jti.to_owned()));
        let question = Question { token_id, cutoffs: token.cutoffs().collect(), answer };
        if self.questions.try_send(question).is_err() {
            self.metrics.asked(Lookup::Error);
            return Err(AskError::Overloaded);
        }
        answered.await.map_err(|_| AskError::NoAnswer)?
    }
}

// === impl Answers ===

impl Answers {
    /// Answers until nobody is left to ask: requests that are under way when `drain` begins still
    /// have questions.
    pub async fn run(mut self, drain: Drain) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.questions.recv_many(&mut batch, BATCH).await > 0 {
            self.desk.answer(&mut batch, &self.redis).await;
        }
        drain.stopping().await;
    }
}

// === impl Desk ===

impl Desk {
    fn new(
        mode: Mode,
        config: &RedisConfig,
        parked: SharedParked,
        feed: mpsc::Sender<FeedEvent>,
        metrics: RedisMetrics,
    ) -> Self {
        Self { mode, limit: config.timeout.get(), parked, feed, metrics }
    }

    /// Answers all questions of `batch`, and empties it.
    async fn answer(&mut self, batch: &mut Vec<Question>, store: &impl Store) {
        // Whoever asked may have stopped waiting while the last batch was on its way.
        batch.retain(|question| !question.answer.is_closed());
        if batch.is_empty() {
            return;
        }
        match self.look_up(batch, store).await {
            Ok(answers) => {
                for (question, answer) in batch.drain(..).zip(answers) {
                    self.metrics.asked(match &answer {
                        Ok(found) if found.is_empty() => Lookup::Clear,
                        Ok(_) => Lookup::Found,
                        Err(_) => Lookup::Error,
                    });
                    let _ = question.answer.send(answer);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "Redis does not say which tokens are revoked");
                self.refuse(batch);
            }
        }
    }

    fn refuse(&self, batch: &mut Vec<Question>) {
        for question in batch.drain(..) {
            self.metrics.asked(Lookup::Error);
            let _ = question.answer.send(Err(AskError::NoAnswer));
        }
    }

    /// What the store holds against each of `batch`. What belongs on the set is on it afterwards.
    async fn look_up(
        &self,
        batch: &[Question],
        store: &impl Store,
    ) -> Result<Vec<Answer>, StoreError> {
        let asked = store.ask(batch, self.limit);
        if self.mode == Mode::RedisAlways {
            return Ok(asked.await?.into_iter().map(Ok).collect());
        }
        // Two questions, one round trip: they share the connection.
        let (found, all_read) = join(asked, self.read_outbox(store)).await;
        // What was found is an answer in any case.
        let all_read = all_read.unwrap_or(false);
        let found = found?;
        if self.mode == Mode::RedisOnMiss {
            // If nobody keeps it any more, it is found again, or nobody asks.
            let _ = self.apply(found.iter().flatten().copied().collect()).await;
        }
        // A list that is too long to be read in time takes nothing from what was found.
        let is_known = |found: &Vec<Event>| all_read || !found.is_empty();
        let answer = |found| if is_known(&found) { Ok(found) } else { Err(AskError::NoAnswer) };
        Ok(found.into_iter().map(answer).collect())
    }

    /// Puts on the set what is new in the outbox. Returns whether that is all there is.
    ///
    /// The lock is held until it has taken effect: the next reader finds nothing new, and relies on
    /// the set.
    async fn read_outbox(&self, store: &impl Store) -> Result<bool, StoreError> {
        let Ok(mut parked) = tokio::time::timeout(self.limit, self.parked.lock()).await else {
            return Ok(false);
        };
        let all_read = store.parked(&mut parked, self.limit).await.is_ok();
        self.apply(parked.take()).await?;
        Ok(all_read)
    }

    /// Resolves when `events` have taken effect.
    async fn apply(&self, events: Vec<Event>) -> Result<(), StoreError> {
        let mut applied = Vec::with_capacity(events.len());
        for event in events {
            let (ack, ack_received) = oneshot::channel();
            let event = FeedEvent::Apply(event, Some(ack));
            self.feed.send(event).await.map_err(|_| StoreError::Closed)?;
            applied.push(ack_received);
        }
        for ack in applied {
            ack.await.map_err(|_| StoreError::Closed)?;
        }
        Ok(())
    }
}

// === impl Redis ===

impl Store for Redis {
    fn ask(
        &self,
        questions: &[Question],
        limit: Duration,
    ) -> impl Future<Output = Result<Vec<Vec<Event>>, StoreError>> + Send {
        Self::ask(self, questions, limit)
    }

    fn parked(
        &self,
        parked: &mut Parked,
        limit: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        Self::parked(self, parked, limit)
    }
}

// === impl Question ===

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("cutoffs", &self.cutoffs).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
