//! Revoking tokens for the CLI and the admin API: in this process, or for all replicas through the
//! store.
//!
//! With a store, a revocation is stored first, then applied here: after the answer it is effective
//! here and will be on all replicas. A revocation that could not be stored is not applied, so that
//! no replica has an entry that the others never get. With a table as the source, tokens are
//! revoked only by writing to the table.

mod replica;

use std::time::{Duration, Instant};

use portcullis_types::timestamp::Timestamp;

pub use self::replica::Replica;
use crate::{
    blacklist::lease::LEASE,
    config::Config,
    event::{self, Event, ParseEventError, Revocation},
    random::{self, RandomError},
    redis::{
        Producer, ReceiptStatus, Redis, ReplicaRegistry, StoreError, WriteError, ask_for_receipt,
    },
    source::local::{Closed, InProcess},
};

/// Revokes tokens for all replicas. Clones share the same store.
#[derive(Debug, Clone)]
pub struct Revoker {
    /// Applies events in this process, if it has a blacklist.
    local: Option<InProcess>,
    way: Way,
    skew: Duration,
}

/// How to revoke.
#[derive(Debug, Clone, Copy, Default)]
pub struct RevokeOptions {
    /// How long to wait until all ready replicas have applied the last revocation.
    pub wait: Option<Duration>,
    /// Whether a cut-off may cover tokens that are issued in the future, so that logins are refused
    /// until then.
    pub future: bool,
}

#[derive(Debug, Clone)]
enum Way {
    /// Only this process has to know.
    InProcess,
    Redis(ViaRedis),
    /// The table is the source: an entry that is not in it would be lost.
    Table(String),
}

#[derive(Debug, Clone)]
struct ViaRedis {
    producer: Producer,
    registry: ReplicaRegistry,
    redis: Redis,
    margin: Duration,
}

/// A line of a request in both forms: for the blacklist, and with the names that the store needs.
struct Line {
    event: Event,
    revocation: Revocation,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// How many have been stored, and applied here.
    pub applied: usize,
    /// How many were skipped, because every token that they cover has expired already.
    pub over: usize,
    /// The time, by the clock of the issuer, from which new tokens are not covered by these
    /// cut-offs, if there is one. Earlier cut-offs may cover more.
    pub logins_from: Option<Timestamp>,
    /// Which replicas have confirmed, if that was requested.
    pub receipt: Option<Receipt>,
}

/// Which replicas have applied the last of the revocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// How many replicas are ready.
    pub replicas: usize,
    /// How many of them have not confirmed in time.
    pub missing: usize,
    /// Whether there may be ready replicas that the store does not know yet, because it was
    /// flushed.
    pub replicas_unknown: bool,
    /// How long it took from the moment at which it was stored.
    pub took: Duration,
}

/// A revocation failed.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// One of the events is invalid.
    #[error("line {line}: {source}")]
    Parse {
        /// The line number.
        line: usize,
        /// The cause.
        source: ParseEventError,
    },
    /// A cut-off would cover future logins.
    #[error(
        "line {line}: `issued_before` is later than now and `blacklist.skew`, so that logins would be \
         refused until then; leave it out to mean now, or insist: `--future`, over HTTP `?future=true`"
    )]
    Future {
        /// The line number.
        line: usize,
    },
    /// The process is stopping.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The store does not have it, or that is unknown.
    #[error(
        "{source}; {stored} of {total} revocations are stored and effective here, the others are not \
         effective here and may or may not be stored; send all of them again"
    )]
    Write {
        /// How many are certainly stored.
        stored: usize,
        /// How many there are in all.
        total: usize,
        /// The cause.
        source: WriteError,
    },
    /// It is stored, but the store did not return which replicas have applied it.
    #[error("it is stored, but the store did not return which replicas have applied it: {0}")]
    Unconfirmed(StoreError),
    /// The table is the source.
    #[error(
        "revocations come from the table `{0}` (`blacklist.postgres`), which Portcullis only reads; \
         insert the token id there, or delete it"
    )]
    Table(String),
    /// No name for a receipt.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Some publishers write times in whole seconds, rounded up.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

/// How many revocations are written at once.
const BATCH: usize = 512;

/// Receipts are not kept for longer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The shortest and the longest pause between two polls of a receipt. The pause is an eighth of the
/// time so far, so that fast confirmations are seen soon, and slow ones cost few polls.
const POLL_PAUSE: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

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
                Way::Redis(ViaRedis {
                    producer,
                    registry: ReplicaRegistry::new(redis.clone()),
                    redis,
                    margin,
                })
            }
            (None, None) => Way::InProcess,
        };
        Self { local, way, skew: config.skew.get() }
    }

    /// The latest time at which a token may have been issued by `now`, by the clock of its issuer:
    /// the default for a cut-off without `issued_before`.
    #[must_use]
    pub fn issued_until(&self, now: Timestamp) -> Timestamp {
        now.plus(self.skew)
    }

    /// Applies events that revoke or un-revoke, in their order. None is applied unless all are
    /// valid. The numbers are their lines, for messages. The default of `issued_before` is
    /// [`Revoker::issued_until`] now.
    ///
    /// # Errors
    /// When not all are applied here and stored for all replicas.
    pub async fn revoke_events(
        &self,
        events: &[(usize, &[u8])],
        options: RevokeOptions,
    ) -> Result<Revoked, RevokeError> {
        let now = Timestamp::now();
        let mut lines = self.read(events, now, options)?;
        let total = lines.len();
        let receipt = match &self.way {
            Way::Table(table) => return Err(RevokeError::Table(table.clone())),
            Way::InProcess => self.apply_here(&lines, options.wait).await?,
            Way::Redis(store) => {
                let lasts = |end: Timestamp| end.plus(store.margin) > now;
                lines.retain(|line| line.event.expires_at().is_none_or(lasts));
                self.store(store, &lines, options.wait).await?
            }
        };
        // The first whole second, as issuers write it, that no cut-off covers.
        let extents = lines.iter().filter_map(|line| line.event.extent());
        let last = extents.map(|extent| extent.issued_before().as_secs()).max();
        let logins_from = last.map(|last| Timestamp::from_secs(last.saturating_add(1)));
        let applied = lines.len();
        Ok(Revoked { applied, over: total - applied, logins_from, receipt })
    }

    /// Applies one revocation; see [`Revoker::revoke_events`].
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

    fn read(
        &self,
        events: &[(usize, &[u8])],
        now: Timestamp,
        options: RevokeOptions,
    ) -> Result<Vec<Line>, RevokeError> {
        let default = self.issued_until(now);
        let latest = default.plus(CLOCK_GRAIN);
        let mut lines = Vec::with_capacity(events.len());
        for &(number, text) in events {
            let line = Line::read(text, default);
            let line = line.map_err(|source| RevokeError::Parse { line: number, source })?;
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
        events: &[Line],
        wait: Option<Duration>,
    ) -> Result<Option<Receipt>, RevokeError> {
        let begin = Instant::now();
        for line in events {
            self.apply(line.event).await?;
        }
        // There is one replica, and it has applied them.
        let took = begin.elapsed();
        Ok(wait.map(|_| Receipt { replicas: 1, missing: 0, replicas_unknown: false, took }))
    }

    async fn store(
        &self,
        store: &ViaRedis,
        events: &[Line],
        wait: Option<Duration>,
    ) -> Result<Option<Receipt>, RevokeError> {
        let name = wait.map(|_| random::random_name()).transpose()?;
        let total = events.len();
        let mut stored = 0;
        let mut stored_at = Instant::now();
        for batch in events.chunks(BATCH) {
            let receipt = name.as_deref().filter(|_| stored + batch.len() == total);
            let revocations: Vec<_> = batch.iter().map(|line| line.revocation.clone()).collect();
            let written = store.producer.write(&revocations, receipt).await;
            written.map_err(|source| RevokeError::Write { stored, total, source })?;
            stored_at = Instant::now();
            for Line { event, .. } in batch {
                // Without a broker this replica would never receive the un-revocation, and the
                // store is queried for every token that is not in the local set anyway.
                if store.producer.has_relay() || !event.revokes() {
                    // A process that is stopping no longer needs it, and it is stored.
                    let _ = self.apply(*event).await;
                }
            }
            stored += batch.len();
        }
        let awaited = wait.zip(name).filter(|_| total > 0);
        let Some((limit, name)) = awaited else { return Ok(None) };
        store.ask_for_receipt(&name, events).await;
        store.wait(&name, stored_at, limit).await.map(Some)
    }

    async fn apply(&self, event: Event) -> Result<(), Closed> {
        match &self.local {
            Some(local) => local.apply(event).await.map(drop),
            None => Ok(()),
        }
    }
}

// === impl Line ===

impl Line {
    /// Reads a line. `issued_before` is the default for a cut-off without one.
    fn read(text: &[u8], issued_before: Timestamp) -> Result<Self, ParseEventError> {
        let fields = event::fields(text)?;
        let event = Event::from_fields(&fields, Some(issued_before))?;
        Ok(Self { event, revocation: Revocation::of(&event, &fields)? })
    }
}

// === impl ViaRedis ===

impl ViaRedis {
    /// Leaves the events in the store for replicas that receive nothing from the broker.
    async fn ask_for_receipt(&self, name: &str, events: &[Line]) {
        if !self.producer.has_relay() {
            return;
        }
        let now = Timestamp::now();
        let last = events.len().saturating_sub(1);
        let message = |(index, line): (usize, &Line)| {
            line.revocation.to_event_json(now, Some(name).filter(|_| index == last))
        };
        let messages: Vec<_> = events.iter().enumerate().map(message).collect();
        if let Err(error) = ask_for_receipt(&self.redis, name, &messages).await {
            tracing::debug!(%error, "cannot store the awaited receipt for replicas without the broker");
        }
    }

    /// Waits until every replica that is ready has applied the event with this receipt.
    ///
    /// A replica that becomes ready meanwhile counts, too: it may have read the store before the
    /// revocation was there. It receives the event nevertheless.
    async fn wait(
        &self,
        receipt: &str,
        stored_at: Instant,
        limit: Duration,
    ) -> Result<Receipt, RevokeError> {
        loop {
            let status =
                self.registry.status_of(receipt).await.map_err(RevokeError::Unconfirmed)?;
            let took = stored_at.elapsed();
            let ReceiptStatus { ready: replicas, missing, registry_is_stable, has_lost_replica } =
                status;
            // A replica that cannot reach the store may still receive from the broker, or may be
            // paused.
            let is_leased = has_lost_replica && took < LEASE;
            // Without a broker the store is queried for every token, so there is nothing to apply.
            let missing = if self.producer.has_relay() { missing } else { 0 };
            let receipt = Receipt {
                replicas,
                missing,
                replicas_unknown: !registry_is_stable || is_leased,
                took,
            };
            if receipt.is_complete() || took >= limit.min(LONGEST_WAIT) {
                return Ok(receipt);
            }
            let [shortest, longest] = POLL_PAUSE;
            tokio::time::sleep((took / 8).clamp(shortest, longest)).await;
        }
    }
}

// === impl Receipt ===

impl Receipt {
    /// Whether there are replicas, and all of them have confirmed.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.replicas > 0 && self.missing == 0 && !self.replicas_unknown
    }
}
