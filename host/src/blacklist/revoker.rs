//! Owns revoking tokens on behalf of people and scripts: in this process, or for all replicas by way
//! of the store.
//!
//! With a store, what is revoked is stored first, then applied here: whoever gets an answer knows
//! that it is in force here and will be everywhere. What could not be stored is not applied, so that
//! no replica knows more than the others will. With a table as the source, only whoever writes to
//! the table can revoke.

use std::time::{Duration, Instant};

use super::{
    Config,
    event::{Event, ParseEventError},
    in_process::{Closed, InProcess},
    nonce::{self, NoChance},
    redis::{Producer, Reach, Redis, Roll, StoreError, WriteError},
    revocation::Revocation,
};
use crate::timestamp::Timestamp;

/// Revokes tokens for all replicas. Clones do the same.
#[derive(Debug, Clone)]
pub struct Revoker {
    /// Who applies events in this process, if it has a blacklist.
    local: Option<InProcess>,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    /// Nobody else has to know.
    InProcess,
    Store(Store),
    /// Whatever is not in the table would be forgotten.
    Table(String),
}

#[derive(Debug, Clone)]
struct Store {
    producer: Producer,
    roll: Roll,
    margin: Duration,
}

/// An event, where it stood, and its text with the names that the store needs.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    text: &'a [u8],
    event: Event,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// How many have been stored, and are in force here.
    pub applied: usize,
    /// How many were left out, because every token that they cover is refused already.
    pub over: usize,
    /// Who has confirmed, if that was asked for.
    pub receipt: Option<Receipt>,
}

/// Who has applied the last of the revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How many replicas are ready.
    pub replicas: usize,
    /// How many of them have not confirmed in time.
    pub missing: usize,
    /// Whether others may be ready of whom the store does not know yet, because it was flushed.
    pub may_lack_some: bool,
    /// How long it took from the moment in which it was stored.
    pub took: Duration,
}

/// Something was not revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// One of the events is none.
    #[error("line {line}: {source}")]
    Parse {
        /// Which.
        line: usize,
        /// Why.
        source: ParseEventError,
    },
    /// The process is stopping.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The store does not have it, or nobody knows.
    #[error(
        "{source}; {stored} of {total} revocations are stored and in force here, the others are not \
         in force here and may or may not be stored; send all of them again"
    )]
    Write {
        /// How many certainly are.
        stored: usize,
        /// How many there are.
        total: usize,
        /// Why not all.
        source: WriteError,
    },
    /// It is stored, but nobody knows who has applied it.
    #[error("it is stored, but the store does not say which replicas have applied it: {0}")]
    Unconfirmed(StoreError),
    /// The table is the source.
    #[error(
        "revocations come from the table `{0}` (`blacklist.postgres`), which Portcullis only reads; \
         insert the token id there, or delete it"
    )]
    Table(String),
    /// No name for a receipt.
    #[error(transparent)]
    NoChance(#[from] NoChance),
}

/// How many revocations are written at once.
const BATCH: usize = 512;

/// A receipt is not kept for longer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Between two looks at who has confirmed, at least and at the most: an eighth of the time that it has
/// taken so far, so that it is seen soon where it is soon, and costs little where it is not.
const LOOK_PAUSE: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

// === impl Revoker ===

impl Revoker {
    /// Connects to nothing. `local` applies events in this process, if it has a blacklist, and
    /// `redis` is the store, if there is one; `margin` is how long a revocation outlives its token.
    pub fn new(
        config: &Config,
        margin: Duration,
        local: Option<InProcess>,
        redis: Option<Redis>,
    ) -> Self {
        let way = match (&config.postgres, redis) {
            (Some(postgres), _) => Way::Table(postgres.table.clone()),
            (None, Some(redis)) => {
                let producer = Producer::new(redis.clone(), margin, config.rabbitmq.is_some());
                Way::Store(Store { producer, roll: Roll::new(redis), margin })
            }
            (None, None) => Way::InProcess,
        };
        Self { local, way }
    }

    /// Revokes, or ends revocations, as events say, in their order. None is heeded unless all are
    /// events. `lines` are their places, for messages. Waits until all ready replicas have
    /// applied the last one, if `wait` says for how long.
    ///
    /// # Errors
    /// When not all are in force here, and known to all replicas sooner or later.
    pub async fn revoke_events(
        &self,
        events: &[(usize, &[u8])],
        wait: Option<Duration>,
    ) -> Result<Revoked, RevokeError> {
        let mut parsed = Vec::with_capacity(events.len());
        for &(number, text) in events {
            let event =
                Event::parse(text).map_err(|source| RevokeError::Parse { line: number, source })?;
            parsed.push(Line { number, text, event });
        }
        match &self.way {
            Way::Table(table) => Err(RevokeError::Table(table.clone())),
            Way::InProcess => self.apply_here(&parsed, wait).await,
            Way::Store(store) => {
                let now = Timestamp::now();
                let total = parsed.len();
                parsed.retain(|line| !is_over(&line.event, now, store.margin));
                let over = total - parsed.len();
                let revoked = self.store(store, &parsed, wait).await?;
                Ok(Revoked { over, ..revoked })
            }
        }
    }

    /// Revokes one thing; see [`Revoker::revoke_events`].
    ///
    /// # Errors
    /// See there.
    pub async fn revoke(
        &self,
        revocation: &Revocation,
        wait: Option<Duration>,
    ) -> Result<Revoked, RevokeError> {
        let message = revocation.to_event_json(Timestamp::now(), None);
        self.revoke_events(&[(1, message.as_bytes())], wait).await
    }

    async fn apply_here(
        &self,
        events: &[Line<'_>],
        wait: Option<Duration>,
    ) -> Result<Revoked, RevokeError> {
        let begin = Instant::now();
        for line in events {
            self.apply(line.event).await?;
        }
        // What is applied is in force on the one replica that there is.
        let receipt = wait.map(|_| Receipt {
            replicas: 1,
            missing: 0,
            may_lack_some: false,
            took: begin.elapsed(),
        });
        Ok(Revoked { applied: events.len(), over: 0, receipt })
    }

    async fn store(
        &self,
        store: &Store,
        events: &[Line<'_>],
        wait: Option<Duration>,
    ) -> Result<Revoked, RevokeError> {
        let name = wait.map(|_| nonce::random_name()).transpose()?;
        let total = events.len();
        let mut stored = 0;
        let mut stored_at = Instant::now();
        for batch in events.chunks(BATCH) {
            let receipt = name.as_deref().filter(|_| stored + batch.len() == total);
            let revocations = batch.iter().map(Line::revocation).collect::<Result<Vec<_>, _>>()?;
            let written = store.producer.write(&revocations, receipt).await;
            written.map_err(|source| RevokeError::Write { stored, total, source })?;
            stored_at = Instant::now();
            for Line { event, .. } in batch {
                // Without a broker nobody would tell this replica of the pardon, and the store is
                // asked about every token that is not on the local set anyway.
                if store.producer.has_relay() || !event.revokes() {
                    self.apply(*event).await?;
                }
            }
            stored += batch.len();
        }
        let receipt = match (wait, &name) {
            (Some(limit), Some(name)) if total > 0 => {
                Some(store.wait(name, stored_at, limit).await?)
            }
            _ => None,
        };
        Ok(Revoked { applied: total, over: 0, receipt })
    }

    async fn apply(&self, event: Event) -> Result<(), Closed> {
        match &self.local {
            Some(local) => local.apply(event).await.map(drop),
            None => Ok(()),
        }
    }
}

// === impl Line ===

impl Line<'_> {
    fn revocation(&self) -> Result<Revocation, RevokeError> {
        let line = self.number;
        Revocation::parse(self.text).map_err(|source| RevokeError::Parse { line, source })
    }
}

// === impl Store ===

impl Store {
    /// Waits until every replica that is ready has applied the event with this receipt.
    ///
    /// A replica that becomes ready meanwhile counts, too: it may have looked into the store before
    /// the revocation was there. It gets to see the event all the same.
    async fn wait(
        &self,
        receipt: &str,
        stored_at: Instant,
        limit: Duration,
    ) -> Result<Receipt, RevokeError> {
        loop {
            let reach = self.roll.reach(receipt).await.map_err(RevokeError::Unconfirmed)?;
            let took = stored_at.elapsed();
            let Reach { ready: replicas, missing, is_whole } = reach;
            // Without a broker the store is asked about every token, so there is nothing to apply.
            let missing = if self.producer.has_relay() { missing } else { 0 };
            let receipt = Receipt { replicas, missing, may_lack_some: !is_whole, took };
            if receipt.is_complete() || took >= limit.min(LONGEST_WAIT) {
                return Ok(receipt);
            }
            let [shortest, longest] = LOOK_PAUSE;
            tokio::time::sleep((took / 8).clamp(shortest, longest)).await;
        }
    }
}

// === impl Receipt ===

impl Receipt {
    /// Whether there are replicas, and all of them have confirmed.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.replicas > 0 && self.missing == 0 && !self.may_lack_some
    }
}

fn is_over(event: &Event, now: Timestamp, margin: Duration) -> bool {
    match event {
        Event::Add { expires_at, .. } | Event::CutOff { expires_at, .. } => {
            expires_at.is_some_and(|expires_at| expires_at.plus(margin) <= now)
        }
        Event::Remove { .. } | Event::Lift { .. } => false,
    }
}
