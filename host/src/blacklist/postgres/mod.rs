//! Owns the table of revoked tokens as a source: it listens to PostgreSQL's notifications and reads
//! the table.
//!
//! The only place that knows PostgreSQL. It never writes. Every row is a token that is revoked for
//! ever. Where the trigger of `deploy/postgres/revocations.sql` tells of changes, and notifications
//! arrive, rows are in force within milliseconds; without, when the table is read the next time. A
//! row that is gone counts when the table has been read completely.
//!
//! Three connections: one listens, one sends the probes that prove that it hears, and one reads the
//! table. Neither waits for the others.

mod fault;
mod link;
mod listener;
mod name;
mod prober;
mod probes;
mod reader;
mod session;
mod table_state;

use std::{
    convert::Infallible,
    fmt,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

pub(super) use name::{Name, NameError};

use self::{
    fault::Fault,
    link::Connector,
    listener::Listener,
    prober::Prober,
    probes::Moment,
    reader::Reader,
    session::Session,
    table_state::{Facts, TableState},
};
use super::{BuildError, config::PostgresConfig, feed::FeedEvent, pause, refresh::Resyncs};
use crate::{drain::Drain, telemetry::PostgresMetrics};

/// The section of the configuration.
const SECTION: &str = "blacklist.postgres";

/// The source, which serves while [`Source::run`] runs.
pub(super) struct Source {
    connector: Connector,
    names: Names,
    interval: Duration,
    feed: mpsc::Sender<FeedEvent>,
    resyncs: Resyncs,
    metrics: PostgresMetrics,
    said: Said,
}

/// The connections that are there as long as a session. The reader makes its own.
struct Connected {
    listener: Listener,
    prober: Prober,
}

/// What the server is asked for.
#[derive(Debug)]
pub(super) struct Names {
    /// The table of revoked tokens.
    pub(super) table: Name,
    /// The column that holds their ids.
    pub(super) column: Name,
    /// Where changes are told.
    pub(super) channel: Name,
}

/// What has been said in the log, so that it is not said again with every attempt.
#[derive(Debug)]
struct Said {
    table: String,
    fault: Option<String>,
    facts: Option<Facts>,
    is_listening: Option<bool>,
    reading: Option<&'static str>,
}

// === impl Source ===

impl Source {
    /// A source that tells `feed`, and reads the table whenever `resyncs` says.
    pub(super) fn new(
        config: &PostgresConfig,
        feed: mpsc::Sender<FeedEvent>,
        resyncs: Resyncs,
        metrics: PostgresMetrics,
    ) -> Result<Self, BuildError> {
        let names = config.names()?;
        let connector = Connector::new(config)?;
        let interval = config.revocation_status_cache_ttl.get();
        let said = Said::new(&names);
        Ok(Self { connector, names, interval, feed, resyncs, metrics, said })
    }

    /// Keeps the feed current until `drain` begins.
    pub(super) async fn run(mut self, drain: Drain) {
        tokio::select! {
            () = drain.stopping() => {}
            () = self.keep_current() => drain.stopping().await,
        }
    }

    /// Until there is nobody left to tell.
    async fn keep_current(&mut self) {
        let mut failures = 0;
        loop {
            let (fault, since) = match self.connect().await {
                Ok(connected) => Box::pin(self.follow(connected, &mut failures)).await,
                Err(fault) => (fault, Instant::now()),
            };
            self.metrics.disconnected();
            self.said.fault(&fault, &self.names);
            let lost = FeedEvent::Lost { why: fault.why(), since };
            if self.feed.send(lost).await.is_err() {
                return;
            }
            let pause = tokio::time::sleep(pause::before_connecting(failures, 0));
            failures = failures.saturating_add(1);
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

    /// Follows the table over these connections. Says what went wrong, and since when the set may
    /// miss something.
    async fn follow(&mut self, connected: Connected, failures: &mut u32) -> (Fault, Instant) {
        let Connected { listener, prober } = connected;
        let (reader, order, rows) = Reader::new(&self.connector, &self.names);
        self.metrics.connected();
        let mut session = Session {
            feed: &self.feed,
            metrics: &self.metrics,
            resyncs: &mut self.resyncs,
            said: &mut self.said,
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
            *failures = 0;
            self.said.fault = None;
        }
        (fault, since)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Whoever asks while there is no connection had better know at once.
async fn refuse(resyncs: &mut Resyncs) -> Infallible {
    loop {
        drop(resyncs.next().await);
    }
}

// === impl Said ===

impl Said {
    fn new(names: &Names) -> Self {
        let table = names.table.as_sql().to_owned();
        Self { table, fault: None, facts: None, is_listening: None, reading: None }
    }

    fn fault(&mut self, fault: &Fault, names: &Names) {
        let text = fault.explain(names);
        if self.fault.as_ref() == Some(&text) {
            tracing::debug!(error = text, "PostgreSQL is still not there");
        } else {
            tracing::warn!(error = text, "revocations in PostgreSQL cannot be followed");
            self.fault = Some(text);
        }
    }

    fn facts(&mut self, facts: Facts) {
        let before = self.facts.replace(facts);
        let table = self.table.as_str();
        if before.map(|before| before.has_trigger) != Some(facts.has_trigger) {
            if facts.has_trigger {
                tracing::info!(table, "the trigger tells of revocations as they are committed");
            } else {
                tracing::warn!(
                    table,
                    "no trigger tells of revocations: they take until \
                     `blacklist.postgres.revocation_status_cache_ttl` to come into force; run \
                     deploy/postgres/revocations.sql, for this table, column and channel"
                );
            }
        }
        if facts.is_standby && before.is_none_or(|before| !before.is_standby) {
            tracing::warn!(
                table,
                "the table is read on a standby, which may lag behind: rows that it does not have \
                 stay revoked; let `blacklist.postgres.url` lead to the primary"
            );
        }
    }

    fn listening(&mut self, is_listening: bool) {
        let before = self.is_listening.replace(is_listening);
        match (before, is_listening) {
            (Some(false), true) => tracing::info!("notifications of PostgreSQL arrive again"),
            (Some(true) | None, false) => tracing::warn!(
                "notifications of PostgreSQL do not arrive, so that revocations take until \
                 `blacklist.postgres.revocation_status_cache_ttl` to come into force; a pooler in \
                 transaction mode drops them: let `blacklist.postgres.url` lead to the server itself, \
                 or to a pool in session mode"
            ),
            _ => {}
        }
    }

    /// A reading has failed although nothing is missed meanwhile, or has come to its end.
    fn reading(&mut self, fault: Option<&Fault>) {
        let why = fault.map(Fault::why);
        let before = std::mem::replace(&mut self.reading, why);
        let table = self.table.as_str();
        match why {
            Some(why) if before != Some(why) => tracing::warn!(
                table,
                error = why,
                "the table is read later; notifications arrive, so that no revocation is missed; see \
                 pg_locks for who holds the table"
            ),
            None if before.is_some() => tracing::info!(table, "the table can be read again"),
            _ => {}
        }
    }
}
