//! The table source: it listens to PostgreSQL's notifications and reads the table of revoked
//! tokens.
//!
//! The only module that knows PostgreSQL. It never writes. Every row is a token that is revoked
//! permanently. If the trigger of `deploy/postgres/revocations.sql` publishes changes, and
//! notifications arrive, new rows are applied within milliseconds; otherwise at the next reading of
//! the table. A deleted row takes effect when the table has been read completely.
//!
//! Three connections: one listens, one sends the probes that prove that notifications arrive, and
//! one reads the table. None waits for the others.

mod fault;
mod link;
mod listener;
mod prober;
mod probes;
mod reader;
mod session;
mod table_state;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use portcullis_runtime::{
    drain::Drain,
    telemetry::{PostgresMetrics, RateLimitedLog},
};
use tokio::sync::mpsc;

use self::{
    fault::Fault,
    link::PgConnector,
    listener::Listener,
    prober::Prober,
    probes::Moment,
    reader::Reader,
    session::TableSession,
    table_state::{Facts, TableState},
};
use crate::{
    backoff::{self, Backoff},
    build_error::BuildError,
    config::{PostgresConfig, sql_name::SqlNames},
    feed::{FeedEvent, refresh::Resyncs},
};

/// The section of the configuration.
const SECTION: &str = "blacklist.postgres";

/// The source, which keeps the feed current while [`TableSource::run`] runs.
pub(crate) struct TableSource {
    connector: PgConnector,
    names: SqlNames,
    interval: Duration,
    feed: mpsc::Sender<FeedEvent>,
    resyncs: Resyncs,
    metrics: PostgresMetrics,
    log: TableLog,
}

/// The connections of a session. The reader opens its own.
struct Connected {
    listener: Listener,
    prober: Prober,
}

/// The last logged state, so that a line is not repeated with every attempt.
#[derive(Debug)]
struct TableLog {
    table: String,
    fault: RateLimitedLog,
    facts: Option<Facts>,
    is_listening: Option<bool>,
    reading: RateLimitedLog,
}

// === impl TableSource ===

impl TableSource {
    /// A source that sends to `feed`, and reads the table for each order from `resyncs`.
    pub(crate) fn new(
        config: &PostgresConfig,
        feed: mpsc::Sender<FeedEvent>,
        resyncs: Resyncs,
        metrics: PostgresMetrics,
    ) -> Result<Self, BuildError> {
        let names = config.names()?;
        let connector = PgConnector::new(config)?;
        let interval = config.revocation_status_cache_ttl.get();
        let log = TableLog::new(&names);
        Ok(Self { connector, names, interval, feed, resyncs, metrics, log })
    }

    /// Keeps the feed current until `drain` begins.
    pub(crate) async fn run(mut self, drain: Drain) {
        tokio::select! {
            () = drain.stopping() => {}
            () = self.keep_current() => drain.stopping().await,
        }
    }

    /// Until the feed has ended.
    async fn keep_current(&mut self) {
        let mut backoff = backoff::of_connecting();
        loop {
            let (fault, since) = match self.connect().await {
                Ok(connected) => Box::pin(self.follow(connected, &mut backoff)).await,
                Err(fault) => (fault, Instant::now()),
            };
            self.metrics.disconnected();
            self.log.fault(&fault, &self.names);
            let lost = FeedEvent::Lost { why: fault.why(), since: since.into() };
            if self.feed.send(lost).await.is_err() {
                return;
            }
            let pause = tokio::time::sleep(backoff::pause(&backoff));
            backoff.failed();
            tokio::select! {
                () = pause => {}
                never = refuse(&mut self.resyncs) => match never {},
            }
        }
    }

    async fn connect(&mut self) -> Result<Connected, Fault> {
        let Self { connector, names, resyncs, .. } = self;
        let connect = async {
            let channel = names.channel.as_sql();
            let (prober, sent) = Prober::new(connector.connect().await?, channel);
            let listener = Listener::start(connector.connect().await?, channel, sent);
            Ok(Connected { listener: listener.await?, prober })
        };
        tokio::select! {
            connected = connect => connected,
            never = refuse(resyncs) => match never {},
        }
    }

    /// Follows the table over these connections. Returns what went wrong, and since when the set
    /// may miss something.
    async fn follow(&mut self, connected: Connected, backoff: &mut Backoff) -> (Fault, Instant) {
        let Connected { listener, prober } = connected;
        let (reader, order, rows) = Reader::new(&self.connector, &self.names);
        self.metrics.connected();
        let mut session = TableSession {
            feed: &self.feed,
            metrics: &self.metrics,
            resyncs: &mut self.resyncs,
            log: &mut self.log,
            listener,
            order,
            rows,
            state: TableState::new(self.interval, Moment::now()),
        };
        let fault = tokio::select! {
            fault = reader.run() => fault,
            fault = prober.run() => fault,
            fault = session.run() => fault,
        };
        let (is_live, since) =
            (session.state.is_live(), session.state.complete_until(Instant::now()));
        if is_live {
            backoff.reset();
            self.log.fault.clear();
        }
        (fault, since)
    }
}

/// Fails requests at once while there is no connection.
async fn refuse(resyncs: &mut Resyncs) -> Infallible {
    loop {
        drop(resyncs.next().await);
    }
}

// === impl TableLog ===

impl TableLog {
    fn new(names: &SqlNames) -> Self {
        let table = names.table.as_sql().to_owned();
        let (fault, reading) = (RateLimitedLog::default(), RateLimitedLog::default());
        Self { table, fault, facts: None, is_listening: None, reading }
    }

    fn fault(&self, fault: &Fault, names: &SqlNames) {
        let text = fault.explain(names);
        if self.fault.admit(&text, RateLimitedLog::UNTIL_CLEARED).is_some() {
            tracing::warn!(error = text, "cannot follow revocations in PostgreSQL");
        } else {
            tracing::debug!(error = text, "PostgreSQL is still unavailable");
        }
    }

    fn facts(&mut self, facts: Facts) {
        let before = self.facts.replace(facts);
        let table = self.table.as_str();
        if before.map(|before| before.has_trigger) != Some(facts.has_trigger) {
            if facts.has_trigger {
                tracing::info!(table, "the trigger publishes revocations as they are committed");
            } else {
                tracing::warn!(
                    table,
                    "no trigger publishes revocations: they take up to \
                     `blacklist.postgres.revocation_status_cache_ttl` to become effective; run \
                     deploy/postgres/revocations.sql, for this table, column and channel"
                );
            }
        }
        if facts.is_standby && before.is_none_or(|before| !before.is_standby) {
            tracing::warn!(
                table,
                "the table is read on a standby, which may lag behind: deleted rows stay revoked; let \
                 `blacklist.postgres.url` lead to the primary"
            );
        }
    }

    fn listening(&mut self, is_listening: bool) {
        let before = self.is_listening.replace(is_listening);
        match (before, is_listening) {
            (Some(false), true) => tracing::info!("notifications of PostgreSQL arrive again"),
            (Some(true) | None, false) => tracing::warn!(
                "notifications of PostgreSQL do not arrive, so that revocations take up to \
                 `blacklist.postgres.revocation_status_cache_ttl` to become effective; a pooler in \
                 transaction mode drops them: let `blacklist.postgres.url` lead to the server itself, \
                 or to a pool in session mode"
            ),
            _ => {}
        }
    }

    /// A reading has failed although nothing is missed meanwhile, or has been completed.
    fn reading(&self, fault: Option<&Fault>) {
        let table = self.table.as_str();
        if let Some(why) = fault.map(Fault::why) {
            if self.reading.admit(why, RateLimitedLog::UNTIL_CLEARED).is_some() {
                tracing::warn!(
                    table,
                    error = why,
                    "cannot read the table now; retrying. Notifications arrive, so no revocation \
                     is missed; see pg_locks for the session that locks the table"
                );
            }
        } else if self.reading.clear() {
            tracing::info!(table, "the table can be read again");
        }
    }
}
