//! Owns revoking tokens on behalf of people and scripts: in this process, or for all replicas by way
//! of the store.
//!
//! With a store, what is revoked is stored first, then applied here: whoever gets an answer knows
//! that it is in force here and will be everywhere. What could not be stored is not applied, so that
//! no replica knows more than the others will. With a table as the source, only whoever writes to
//! the table can revoke.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::{
    Config,
    event::{self, Event, ParseEventError},
    in_process::{Closed, InProcess},
    lease::LEASE,
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
    skew: Duration,
}

/// How to revoke.
#[derive(Debug, Clone, Copy, Default)]
pub struct RevokeOptions {
    /// Wait for so long until all ready replicas have applied the last revocation.
    pub wait: Option<Duration>,
    /// Whether a cut-off may cover tokens that are yet to be issued, so that logins are refused until
    /// then.
    pub future: bool,
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
    /// What a cut-off means that does not say `issued_before`.
    issued_before: Timestamp,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// How many have been stored, and are in force here.
    pub applied: usize,
    /// How many were left out, because every token that they cover is refused already.
    pub over: usize,
    /// From when on tokens are issued that no cut-off among them covers, by the clock of the issuer, if
    /// there is a cut-off. What was cut off before may cover more.
    pub logins_from: Option<Timestamp>,
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
    /// A cut-off would cover logins of the future.
    #[error(
        "line {line}: `issued_before` is later than now and `blacklist.skew`, so that logins would be \
         refused until then; leave it out to mean now, or insist: `--future`, over HTTP `?future=true`"
    )]
    Future {
        /// Which.
        line: usize,
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

/// Times are written in whole seconds, rounded up by some.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

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
        Self { local, way, skew: config.skew.get() }
    }

    /// The time up to which tokens may have been issued by `now`, by the clock of their issuer: what a
    /// cut-off means that says none.
    #[must_use]
    pub fn issued_until(&self, now: Timestamp) -> Timestamp {
        now.plus(self.skew)
    }

    /// Revokes, or ends revocations, as events say, in their order. None is heeded unless all are
    /// events. The numbers are their lines, for messages. A cut-off that does not say `issued_before`
    /// means [`Revoker::issued_until`] now.
    ///
    /// # Errors
    /// When not all are in force here, and known to all replicas sooner or later.
    pub async fn revoke_events(
        &self,
        events: &[(usize, &[u8])],
        options: RevokeOptions,
    ) -> Result<Revoked, RevokeError> {
        let now = Timestamp::now();
        let mut lines = self.read(events, now, options)?;
        let revoked = match &self.way {
            Way::Table(table) => return Err(RevokeError::Table(table.clone())),
            Way::InProcess => self.apply_here(&lines, options.wait).await?,
            Way::Store(store) => {
                let total = lines.len();
                lines.retain(|line| !is_over(&line.event, now, store.margin));
                let over = total - lines.len();
                let revoked = self.store(store, &lines, options.wait).await?;
                Revoked { over, ..revoked }
            }
        };
        let logins_from = lines.iter().filter_map(|line| logins_from(&line.event)).max();
        Ok(Revoked { logins_from, ..revoked })
    }

    /// Revokes one thing; see [`Revoker::revoke_events`].
    ///
    /// # Errors
    /// See there.
    pub async fn revoke(
        &self,
        revocation: &Revocation,
        options: RevokeOptions,
    ) -> Result<Revoked, RevokeError> {
        let message = revocation.to_event_json(Timestamp::now(), None);
        self.revoke_events(&[(1, message.as_bytes())], options).await
    }

    fn read<'a>(
        &self,
        events: &[(usize, &'a [u8])],
        now: Timestamp,
        options: RevokeOptions,
    ) -> Result<Vec<Line<'a>>, RevokeError> {
        let default = self.issued_until(now);
        let latest = default.plus(CLOCK_GRAIN);
        let mut lines = Vec::with_capacity(events.len());
        for &(number, text) in events {
            let line = Line::read(number, text, default)?;
            if let Event::CutOff { issued_before, .. } = line.event
                && issued_before > latest
                && !options.future
            {
                return Err(RevokeError::Future { line: number });
            }
            lines.push(line);
        }
        Ok(lines)
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
        Ok(Revoked { applied: events.len(), over: 0, logins_from: None, receipt })
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
        Ok(Revoked { applied: total, over: 0, logins_from: None, receipt })
    }

    async fn apply(&self, event: Event) -> Result<(), Closed> {
        match &self.local {
            Some(local) => local.apply(event).await.map(drop),
            None => Ok(()),
        }
    }
}

// === impl Line ===

impl<'a> Line<'a> {
    fn read(number: usize, text: &'a [u8], issued_before: Timestamp) -> Result<Self, RevokeError> {
        let event = fields(text, issued_before).and_then(|fields| Event::from_fields(&fields));
        let event = event.map_err(|source| RevokeError::Parse { line: number, source })?;
        Ok(Self { number, text, event, issued_before })
    }

    fn revocation(&self) -> Result<Revocation, RevokeError> {
        let fields = fields(self.text, self.issued_before);
        let revocation = fields.and_then(|fields| Revocation::from_fields(&fields));
        revocation.map_err(|source| RevokeError::Parse { line: self.number, source })
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
            let Reach { ready: replicas, missing, is_whole, has_lost_one } = reach;
            // One that cannot reach the store may hear from the broker, and have stood still since.
            let is_leased = has_lost_one && took < LEASE;
            // Without a broker the store is asked about every token, so there is nothing to apply.
            let missing = if self.producer.has_relay() { missing } else { 0 };
            let receipt =
                Receipt { replicas, missing, may_lack_some: !is_whole || is_leased, took };
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

fn fields(text: &[u8], issued_before: Timestamp) -> Result<Map<String, Value>, ParseEventError> {
    Ok(event::with_issued_before(event::fields(text)?, issued_before))
}

/// The first whole second, as issuers write it, that a cut-off does not cover.
fn logins_from(event: &Event) -> Option<Timestamp> {
    match event {
        Event::CutOff { issued_before, .. } => {
            Some(Timestamp::from_secs(issued_before.as_secs().saturating_add(1)))
        }
        Event::Add { .. } | Event::Remove { .. } | Event::Lift { .. } => None,
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
