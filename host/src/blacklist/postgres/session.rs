//! Owns what is done with a connection: listening, then reading the table, then both.
//!
//! Notifications are passed on as they come, also while the table is read. What was read may be older
//! than what was heard, so rows whose removal was heard since the reading began do not count.

use std::{
    collections::HashSet,
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{fault::Fault, listener::Listener, reader::Read};
use crate::{
    blacklist::{
        event::Event,
        feed::FeedEvent,
        refresh::{Resync, Resyncs},
    },
    telemetry::{Notified, PostgresMetrics},
    token_id::TokenId,
};

/// A connected source.
pub(super) struct Session<'a> {
    /// Where everything goes.
    pub(super) feed: &'a mpsc::Sender<FeedEvent>,
    /// What is counted.
    pub(super) metrics: &'a PostgresMetrics,
    /// Who asks for the table to be read again.
    pub(super) resyncs: &'a mut Resyncs,
    /// How often the table is read if nobody asks.
    pub(super) interval: Duration,
    /// Where changes are heard.
    pub(super) listener: Listener,
    /// Has the table read.
    pub(super) order: mpsc::Sender<()>,
    /// What was read.
    pub(super) rows: mpsc::Receiver<Read>,
    /// What was heard and read so far.
    pub(super) progress: Progress,
}

/// How far a session has come.
#[derive(Debug)]
pub(super) struct Progress {
    /// Whether the table has been read whole.
    is_live: bool,
    /// The reading under way.
    reading: Option<Reading>,
    /// Who waits for the next reading.
    asked: Option<Resync>,
    /// When the next one begins if nobody asks.
    due: Instant,
    /// Until when no notification causes one: the table is not read more than half of the time.
    rest: Instant,
    /// Whether something was heard that says too little.
    is_in_doubt: bool,
}

/// The table being read.
#[derive(Debug)]
struct Reading {
    begun: Instant,
    asked: Option<Resync>,
    removed: HashSet<TokenId>,
    rows: usize,
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

    /// Whether the table has been read whole.
    pub(super) const fn is_live(&self) -> bool {
        self.progress.is_live
    }

    async fn follow(&mut self) -> Result<Infallible, Fault> {
        self.tell(FeedEvent::Init).await?;
        loop {
            if self.progress.begins_reading(Instant::now()) {
                // The reader is idle, so there is room, unless it is gone: then that is the fault.
                let _ = self.order.try_send(());
            }
            let due = self.progress.next_reading();
            tokio::select! {
                heard = self.listener.next() => self.heard(&heard?).await?,
                Some(read) = self.rows.recv() => self.read(read).await?,
                resync = self.resyncs.next(), if self.progress.asked.is_none() => {
                    self.progress.asked = Some(resync);
                }
                () = sleep_until(due) => {}
            }
        }
    }

    async fn heard(&mut self, message: &str) -> Result<(), Fault> {
        if message.is_empty() {
            self.metrics.notified(Notified::Empty);
            self.progress.is_in_doubt = true;
            return Ok(());
        }
        match Event::parse(message.as_bytes()) {
            Ok(event) => {
                self.metrics.notified(Notified::Event);
                self.progress.note(&event);
                self.tell(FeedEvent::Apply(event, None)).await
            }
            Err(error) => {
                self.metrics.notified(Notified::Malformed);
                tracing::warn!(%error, "a notification is no event; the table is read instead");
                self.progress.is_in_doubt = true;
                Ok(())
            }
        }
    }

    async fn read(&mut self, read: Read) -> Result<(), Fault> {
        match read {
            Read::Some(token_ids) => {
                let events = self.progress.events(token_ids);
                self.tell(FeedEvent::InitApply(events)).await
            }
            Read::All { unusable } => self.read_all(unusable).await,
        }
    }

    async fn read_all(&mut self, unusable: u64) -> Result<(), Fault> {
        let first = !self.progress.is_live;
        let Some(reading) = self.progress.ends_reading(Instant::now(), self.interval) else {
            return Ok(());
        };
        let (rows, took) = (reading.rows, reading.begun.elapsed());
        if unusable > 0 {
            tracing::warn!(unusable, "rows that are the id of no token: blank, or not UTF-8");
        }
        if first {
            self.tell(FeedEvent::InitDone).await?;
            tracing::info!(rows, ?took, "table of revoked tokens read");
        } else {
            tracing::debug!(rows, ?took, "table of revoked tokens read again");
        }
        if let Some(asked) = reading.asked {
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

// === impl Progress ===

impl Progress {
    /// Nothing has been read yet, and that is to begin at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { is_live: false, reading: None, asked: None, due: now, rest: now, is_in_doubt: false }
    }

    /// When the next reading begins, unless one is under way.
    fn next_reading(&self) -> Option<Instant> {
        match (&self.reading, &self.asked, self.is_in_doubt) {
            (Some(_), ..) => None,
            // How often that happens is the refresher's business.
            (None, Some(_), _) => Some(Instant::now()),
            (None, None, true) => Some(self.due.min(self.rest)),
            (None, None, false) => Some(self.due),
        }
    }

    /// Whether a reading begins now.
    fn begins_reading(&mut self, now: Instant) -> bool {
        if self.next_reading().is_none_or(|at| at > now && self.asked.is_none()) {
            return false;
        }
        self.is_in_doubt = false;
        self.reading = Some(Reading {
            begun: now,
            asked: self.asked.take(),
            removed: HashSet::new(),
            rows: 0,
        });
        true
    }

    fn ends_reading(&mut self, now: Instant, interval: Duration) -> Option<Reading> {
        let reading = self.reading.take()?;
        self.is_live = true;
        self.rest = now + (now - reading.begun);
        self.due = (reading.begun + interval).max(self.rest);
        Some(reading)
    }

    /// Takes notice of what was heard.
    fn note(&mut self, event: &Event) {
        let Some(reading) = &mut self.reading else { return };
        match event {
            Event::Remove { token_id } => drop(reading.removed.insert(*token_id)),
            Event::Add { token_id, .. } => drop(reading.removed.remove(token_id)),
            Event::CutOff { .. } | Event::Lift { .. } => {}
        }
    }

    /// What rows mean.
    fn events(&mut self, token_ids: Vec<TokenId>) -> Vec<Event> {
        let Some(reading) = &mut self.reading else { return Vec::new() };
        reading.rows += token_ids.len();
        let count = |token_id: &TokenId| !reading.removed.contains(token_id);
        let add = |token_id| Event::Add { token_id, expires_at: None };
        token_ids.into_iter().filter(count).map(add).collect()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> TokenId {
        TokenId::new(name).unwrap()
    }

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn the_table_is_read_at_once_then_once_an_interval() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert!(progress.begins_reading(start));
        assert!(!progress.begins_reading(start), "one at a time");
        let end = start + Duration::from_secs(2);
        assert!(progress.ends_reading(end, INTERVAL).is_some() && progress.is_live);
        assert_eq!(progress.next_reading(), Some(start + INTERVAL));
        assert!(!progress.begins_reading(end));
        assert!(progress.begins_reading(start + INTERVAL));
        let end = start + INTERVAL * 2;
        progress.ends_reading(end, INTERVAL);
        assert_eq!(progress.next_reading(), Some(end + INTERVAL), "half of the time at the most");
    }

    #[test]
    fn doubt_is_answered_by_reading_which_has_to_begin_after_it() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert!(progress.begins_reading(start));
        progress.is_in_doubt = true;
        let end = start + Duration::from_secs(2);
        progress.ends_reading(end, INTERVAL);
        assert!(!progress.begins_reading(end), "a flood of nonsense does not keep the table busy");
        assert!(progress.begins_reading(end + Duration::from_secs(2)));
        progress.ends_reading(end + Duration::from_secs(2), INTERVAL);
        assert!(!progress.begins_reading(end + Duration::from_secs(5)), "all doubt is gone");
    }

    #[test]
    fn a_row_whose_removal_was_heard_meanwhile_does_not_count() {
        let mut progress = Progress::new(Instant::now());
        let add = |name| Event::Add { token_id: id(name), expires_at: None };
        progress.note(&Event::Remove { token_id: id("before") });
        progress.begins_reading(Instant::now());
        progress.note(&Event::Remove { token_id: id("gone") });
        progress.note(&Event::Remove { token_id: id("back") });
        progress.note(&add("back"));
        let rows = ["before", "gone", "back"].map(id).to_vec();
        assert_eq!(progress.events(rows), [add("before"), add("back")]);
    }
}
