//! Owns what is done with a connection: listening, then reading the table, then both.
//!
//! The table is the truth. What adds is passed on as it is heard, also while the table is read. What
//! removes only has the table read soon: anybody who may log in can send notifications, and
//! PostgreSQL cannot forbid it. What a complete reading does not see, and was not heard of since it
//! began, is no longer revoked.

use std::{convert::Infallible, time::Instant};

use tokio::sync::{mpsc, oneshot};

use super::{
    Said,
    fault::Fault,
    listener::{Heard, Listener},
    probes::{Moment, Proof},
    reader::Read,
    table_state::{Ended, Facts, TableState},
};
use crate::{
    blacklist::{event::Event, feed::FeedEvent, refresh::Resyncs},
    telemetry::{Notified, PostgresMetrics},
};

/// A connected source.
pub(super) struct Session<'a> {
    /// Where everything goes.
    pub(super) feed: &'a mpsc::Sender<FeedEvent>,
    /// What is counted.
    pub(super) metrics: &'a PostgresMetrics,
    /// Who asks for the table to be read again.
    pub(super) resyncs: &'a mut Resyncs,
    /// What the log has been told.
    pub(super) said: &'a mut Said,
    /// Where changes are heard.
    pub(super) listener: Listener,
    /// Has the table read.
    pub(super) order: mpsc::Sender<()>,
    /// What was read.
    pub(super) rows: mpsc::Receiver<Read>,
    /// What was heard and read so far.
    pub(super) state: TableState,
}

// === impl Session ===

impl Session<'_> {
    /// Keeps the feed current until something goes wrong.
    pub(super) async fn run(&mut self) -> Fault {
        match self.follow().await {
            Ok(never) => match never {},
            Err(fault) => fault,
        }
    }

    async fn follow(&mut self) -> Result<Infallible, Fault> {
        self.tell(FeedEvent::Init).await?;
        loop {
            if self.state.begins_reading(Moment::now()) {
                // First: what is heard from now on may be missing from what is read.
                self.tell(FeedEvent::BeginReading).await?;
                // The reader is idle, so there is room, unless it is gone: then that is the fault.
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
        if message.is_empty() {
            self.metrics.notified(Notified::Empty);
            self.state.doubt();
            return Ok(());
        }
        match Event::parse(message.as_bytes()) {
            Ok(event @ Event::Add { .. }) => {
                self.metrics.notified(Notified::Event);
                self.tell(FeedEvent::Apply(event, None)).await?;
            }
            Ok(Event::Remove { .. }) => {
                self.metrics.notified(Notified::Removal);
                self.state.doubt();
            }
            Ok(event @ (Event::CutOff { .. } | Event::Lift { .. })) => {
                self.metrics.notified(Notified::Malformed);
                let kind = event.kind();
                tracing::warn!(kind, "no row can say what a notification says; the table is read");
                self.state.doubt();
            }
            Err(error) => {
                self.metrics.notified(Notified::Malformed);
                tracing::warn!(%error, "a notification is no event; the table is read instead");
                self.state.doubt();
            }
        }
        Ok(())
    }

    async fn prove(&mut self, proof: Proof) -> Result<(), Fault> {
        self.metrics.set_listening(true);
        self.said.listening(true);
        match self.state.prove(proof) {
            Some(lease) => self.tell(FeedEvent::Lease(lease)).await,
            None => Ok(()),
        }
    }

    fn fall_silent(&mut self) {
        self.metrics.set_listening(false);
        self.said.listening(false);
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
                self.tell(FeedEvent::InitApply(token_ids.into_iter().map(add).collect())).await
            }
            Read::All { unusable } => self.end_reading(unusable).await,
            Read::Failed(fault) => {
                if self.state.fail_reading(Instant::now()) {
                    self.said.reading(Some(&fault));
                    return Ok(());
                }
                Err(fault)
            }
        }
    }

    fn learn(&mut self, facts: Facts) {
        self.metrics.set_trigger(facts.has_trigger);
        self.said.facts(facts);
        self.state.learn(facts);
    }

    async fn end_reading(&mut self, unusable: u64) -> Result<(), Fault> {
        let Some(ended) = self.state.end_reading(Moment::now()) else { return Ok(()) };
        let Ended { asked, rows, took, is_first, is_truth, lease } = ended;
        self.said.reading(None);
        if unusable > 0 {
            tracing::warn!(unusable, "rows that are the id of no token: blank, or not UTF-8");
        }
        if is_truth {
            self.tell(FeedEvent::EndReading).await?;
        }
        // Before the set counts as complete, so that it is believed at once.
        self.tell(FeedEvent::Lease(lease)).await?;
        if is_first {
            self.tell(FeedEvent::InitDone).await?;
            tracing::info!(rows, ?took, "table of revoked tokens read");
        } else {
            tracing::debug!(rows, ?took, "table of revoked tokens read again");
        }
        if let Some(asked) = asked {
            let (settle, settled) = oneshot::channel();
            self.tell(FeedEvent::Settle(settle)).await?;
            settled.await.map_err(|_| Fault::Stopping)?;
            asked.done();
        }
        Ok(())
    }

    async fn tell(&mut self, event: FeedEvent) -> Result<(), Fault> {
        self.feed.send(event).await.map_err(|_| Fault::Stopping)
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
