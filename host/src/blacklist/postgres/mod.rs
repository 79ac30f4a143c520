//! Owns the table of revoked tokens as a source: it listens to PostgreSQL's notifications and reads
//! the table.
//!
//! The only place that knows PostgreSQL. It never writes. Every row is a token that is revoked for
//! ever. Where the trigger of `deploy/postgres/revocations.sql` tells of changes, they are in force
//! within milliseconds; without it, when the table is read the next time. Reading only adds. That a
//! row is gone counts if a notification says so and the table, asked about this one row, says the
//! same: anybody who may log in can send notifications, and PostgreSQL cannot forbid it.
//!
//! Three connections: were the table read, or asked, on the one that listens, notifications would
//! wait meanwhile; and removals would wait while it is read.

mod fault;
mod inspector;
mod link;
mod listener;
mod name;
mod reader;
mod removals;
mod session;

use std::{
    convert::Infallible,
    fmt,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tokio_postgres::types::{ToSql, Type};

pub(super) use name::{Name, NameError};

use self::{
    fault::Fault,
    inspector::Inspector,
    link::{Connector, Link},
    listener::Listener,
    reader::Reader,
    removals::Removals,
    session::{Progress, Session},
};
use super::{BuildError, config::PostgresConfig, feed::FeedEvent, pause, refresh::Resyncs};
use crate::{drain::Drain, telemetry::PostgresMetrics};

/// The section of the configuration.
const SECTION: &str = "blacklist.postgres";

/// Whether the trigger that tells of changes is installed and enabled; null without a table.
const HAS_TRIGGER: &str = "SELECT CASE WHEN to_regclass($1) IS NOT NULL THEN EXISTS ( \
     SELECT FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid \
     WHERE tgrelid = to_regclass($1) AND proname = 'portcullis_notify_revocation' \
     AND tgenabled IN ('O', 'A')) END";

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

/// The connections: one listens, one reads the table, one asks about single rows.
struct Connected {
    listener: Listener,
    reader: Link,
    inspector: Link,
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
#[derive(Debug, Default)]
struct Said {
    fault: Option<String>,
    has_trigger: Option<bool>,
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
        Ok(Self { connector, names, interval, feed, resyncs, metrics, said: Said::default() })
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
        let Self { connector, names, said, resyncs, .. } = self;
        let connect = async {
            let listener = Listener::start(connector.connect().await?, names.channel.as_sql());
            // Listening comes first: what is committed after the table is read must be heard.
            let listener = listener.await?;
            let mut reader = connector.connect().await?;
            let table: [(&(dyn ToSql + Sync), Type); 1] = [(&names.table.as_sql(), Type::TEXT)];
            let asked = reader.client.query_typed_one(HAS_TRIGGER, &table);
            if let Some(has_trigger) = reader.wire.during(asked).await?.try_get(0)? {
                said.trigger(has_trigger, names);
            }
            let inspector = connector.connect().await?;
            Ok(Connected { listener, reader, inspector })
        };
        tokio::select! {
            connected = connect => connected,
            never = refuse(resyncs) => match never {},
        }
    }

    /// Follows the table over these connections. Says what went wrong, and since when the set may
    /// miss something.
    async fn follow(&mut self, connected: Connected, failures: &mut u32) -> (Fault, Instant) {
        let Connected { listener, reader, inspector } = connected;
        let (reader, order, rows) = Reader::new(reader, &self.names);
        let (inspector, ask, answers) = Inspector::new(inspector, &self.names);
        self.metrics.connected();
        let mut session = Session {
            feed: &self.feed,
            metrics: &self.metrics,
            resyncs: &mut self.resyncs,
            interval: self.interval,
            listener,
            order,
            rows,
            ask,
            answers,
            progress: Progress::new(Instant::now()),
            removals: Removals::default(),
        };
        let fault = tokio::select! {
            fault = reader.run() => fault,
            fault = inspector.run() => fault,
            fault = session.run() => fault,
        };
        if session.is_live() {
            *failures = 0;
            self.said.fault = None;
        }
        (fault, session.listener.proven())
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
    fn fault(&mut self, fault: &Fault, names: &Names) {
        let text = fault.explain(names);
        if self.fault.as_ref() == Some(&text) {
            tracing::debug!(error = text, "PostgreSQL is still not there");
        } else {
            tracing::warn!(error = text, "revocations in PostgreSQL cannot be followed");
            self.fault = Some(text);
        }
    }

    fn trigger(&mut self, has_trigger: bool, names: &Names) {
        if self.has_trigger.replace(has_trigger) == Some(has_trigger) {
            return;
        }
        let table = names.table.as_sql();
        if has_trigger {
            tracing::info!(table, "the trigger tells of revocations as they are committed");
        } else {
            tracing::warn!(
                table,
                "no trigger: revocations take until `blacklist.postgres.revocation_status_cache_ttl` \
                 to come into force; install deploy/postgres/revocations.sql"
            );
        }
    }
}
