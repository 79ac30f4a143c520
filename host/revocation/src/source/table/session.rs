//! A session with PostgreSQL: listening, then reading the table, then both.
//!
//! The table is authoritative. Revocations are passed on as they arrive, also while the table is
//! read. Un-revocations only cause a reading soon: every user who may log in can send
//! notifications, and PostgreSQL cannot forbid it. A token that a complete reading does not see,
//! and for which no revocation has arrived since it began, is no longer revoked.

use std::{convert::Infallible, time::Instant};

use portcullis_runtime::telemetry::{Notified, PostgresMetrics};
use tokio::sync::{mpsc, oneshot};

use super::{
    TableLog,
    fault::Fault,
    listener::{Heard, Listener},
    probes::{Moment, Proof},
    reader::Read,
    table_state::{Facts, ReadingEnded, TableState},
};
use crate::{
    event::Event,
    feed::{FeedEvent, refresh::Resyncs},
};

/// A connected source.
pub(super) struct TableSession<'a> {
    /// The feed.
    pub(super) feed: &'a mpsc::Sender<FeedEvent>,
    /// The metrics.
    pub(super) metrics: &'a PostgresMetrics,
    /// Orders to read the table again.
    pub(super) resyncs: &'a mut Resyncs,
    /// The log.
    pub(super) log: &'a mut TableLog,
    /// Where notifications arrive.
    pub(super) listener: Listener,
    /// Orders for the reader.
    pub(super) order: mpsc::Sender<()>,
    /// Rows from the reader.
    pub(super) rows: mpsc::Receiver<Read>,
    /// What has arrived and been read so far.
    pub(super) state: TableState,
}

// === impl TableSession ===

impl TableSession<'_> {
    /// Keeps the feed current until something goes wrong.
    pub(super) async fn run(&mut self) -> Fault {
        match self.follow().await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Fault> {
        self.send(FeedEvent::Init).await?;
        loop {
            if self.state.begins_reading(Moment::now()) {
                // First: notifications from now on may be about rows that the reading does not see.
                self.send(FeedEvent::BeginReading).await?;
                // The reader is idle, so there is room, unless it has ended: then its fault ends
                // the session.
                let _ = self.order.try_send(());
            }
            let due = self.state.next_reading(Instant::now());
            tokio::select! {
                heard = self.listener.next() => match heard? {
                    Heard::Message(message) => self.hear(&message).await?,
                    Heard::Proof(proof) => self.prove(proof).await?,
                    Heard::Silence => self.fall_silent(),
                },
                Some(read) = self.rows.recv() => self.read(read).await?,
                resync = self.resyncs.next(), if self.state.may_be_asked() => {
                    self.state.ask(resync);
                }
                () = sleep_until(due) => {}
            }
        }
    }

    async fn hear(&mut self, message: &str) -> Result<(), Fault> {
        let notified = match Event::parse(message.as_bytes()) {
            Ok(event @ Event::Add { .. }) => {
                self.metrics.notified(Notified::Event);
                return self.send(FeedEvent::Apply(event, None)).await;
            }
            Ok(Event::Unrevoke { .. }) => Notified::Removal,
            Ok(event @ (Event::CutOff { .. } | Event::LiftCutoff { .. })) => {
                let kind = event.kind();
                tracing::warn!(kind, "unsupported notification; reloading the table");
                Notified::Malformed
            }
            Err(_) if message.is_empty() => Notified::Empty,
            Err(error) => {
                tracing::warn!(%error, "malformed notification; reloading the table");
                Notified::Malformed
            }
        };
        self.metrics.notified(notified);
        self.state.doubt();
        Ok(())
    }

    async fn prove(&mut self, proof: Proof) -> Result<(), Fault> {
        self.metrics.set_listening(true);
        self.log.listening(true);
        match self.state.prove(proof) {
            Some(lease) => self.send(FeedEvent::Lease(lease)).await,
            None => Ok(()),
        }
    }

    fn fall_silent(&mut self) {
        self.metrics.set_listening(false);
        self.log.listening(false);
        self.state.fall_silent();
    }

    async fn read(&mut self, read: Read) -> Result<(), Fault> {
        match read {
            Read::Facts(facts) => {
                self.learn(facts);
                Ok(())
            }
            Read::Some(token_ids) => {
                self.state.read(token_ids.len());
                let add = |token_id| Event::Add { token_id, expires_at: None };
                self.send(FeedEvent::InitApply(token_ids.into_iter().map(add).collect())).await
            }
            Read::All { unusable } => self.end_reading(unusable).await,
            Read::Failed(fault) => {
                if self.state.fail_reading(Instant::now()) {
                    self.log.reading(Some(&fault));
                    return Ok(());
                }
                Err(fault)
            }
        }
    }

    fn learn(&mut self, facts: Facts) {
        self.metrics.set_trigger(facts.has_trigger);
        self.log.facts(facts);
        self.state.learn(facts);
    }

    async fn end_reading(&mut self, unusable: u64) -> Result<(), Fault> {
        let Some(ended) = self.state.end_reading(Moment::now()) else { return Ok(()) };
        let ReadingEnded { asked, rows, took, is_first, is_authoritative, lease } = ended;
        self.log.reading(None);
        if unusable > 0 {
            tracing::warn!(unusable, "rows without a usable token id: blank, or not UTF-8");
        }
        if is_authoritative {
            self.send(FeedEvent::EndReading).await?;
        }
        // Before the set counts as complete, so that it is trusted at once.
        self.send(FeedEvent::Lease(lease)).await?;
        if is_first {
            self.send(FeedEvent::InitDone).await?;
            tracing::info!(rows, ?took, "table of revoked tokens read");
        } else {
            tracing::debug!(rows, ?took, "table of revoked tokens read again");
        }
        if let Some(asked) = asked {
            let (barrier, applied) = oneshot::channel();
            self.send(FeedEvent::Barrier(barrier)).await?;
            applied.await.map_err(|_| Fault::Stopping)?;
            asked.done();
        }
        Ok(())
    }

    async fn send(&mut self, event: FeedEvent) -> Result<(), Fault> {
        self.feed.send(event).await.map_err(|_| Fault::Stopping)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
