//! Owns what is done with a connection: listening, then reading the table, then both.
//!
//! What adds is passed on as it is heard, also while the table is read. A removal has to be confirmed
//! by the table; see [`Removals`]. What was read may be older than that, so rows that the table has
//! called gone since the reading began do not count, and are asked about once more.

use std::{
    collections::HashMap,
    convert::Infallible,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    fault::Fault,
    inspector::{Answer, Question, Row},
    listener::Listener,
    reader::Read,
    removals::Removals,
};
use crate::{
    blacklist::{
        event::Event,
        feed::FeedEvent,
        refresh::{Resync, Resyncs},
        revocation::Revocation,
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
    /// Has the table asked about single ids.
    pub(super) ask: mpsc::Sender<Vec<Question>>,
    /// What it says of them.
    pub(super) answers: mpsc::Receiver<Vec<Answer>>,
    /// What was heard and read so far.
    pub(super) progress: Progress,
    /// What was heard and is not confirmed.
    pub(super) removals: Removals,
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
    /// What the table has called gone since.
    removed: HashMap<TokenId, Question>,
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
            if let Some(questions) = self.removals.next() {
                // As above.
                let _ = self.ask.try_send(questions);
            }
            let due = self.progress.next_reading();
            tokio::select! {
                heard = self.listener.next() => self.heard(&heard?).await?,
                Some(read) = self.rows.recv() => self.read(read).await?,
                Some(answers) = self.answers.recv() => self.answered(answers).await?,
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
            Ok(event @ Event::Add { token_id, .. }) => {
                self.metrics.notified(Notified::Event);
                self.progress.added(&token_id);
                self.removals.added(&token_id);
                self.tell(FeedEvent::Apply(event, None)).await?;
            }
            Ok(Event::Remove { token_id }) => self.heard_removal(token_id, message),
            Ok(event @ (Event::CutOff { .. } | Event::Lift { .. })) => {
                self.metrics.notified(Notified::Malformed);
                let kind = event.kind();
                tracing::warn!(kind, "no row can say what a notification says; the table is read");
                self.progress.is_in_doubt = true;
            }
            Err(error) => {
                self.metrics.notified(Notified::Malformed);
                tracing::warn!(%error, "a notification is no event; the table is read instead");
                self.progress.is_in_doubt = true;
            }
        }
        Ok(())
    }

    fn heard_removal(&mut self, token_id: TokenId, message: &str) {
        // The event was read from the same text, so both are there.
        let removal = Revocation::parse(message.as_bytes()).ok();
        let Some(jti) = removal.as_ref().and_then(|removal| removal.target().jti()) else { return };
        if !self.removals.heard(Question { token_id, text: jti.into() }) {
            self.metrics.notified(Notified::Unconfirmed);
            tracing::warn!("more removals at once than can be looked at; one does not count");
        }
    }

    async fn answered(&mut self, answers: Vec<Answer>) -> Result<(), Fault> {
        let mut unconfirmed = 0_u64;
        for Answer { of, row } in self.removals.answered(answers) {
            let token_id = of.token_id;
            if row == Row::Gone {
                self.metrics.notified(Notified::Event);
                self.progress.removed(of);
                self.tell(FeedEvent::Apply(Event::Remove { token_id }, None)).await?;
                continue;
            }
            self.metrics.notified(Notified::Unconfirmed);
            unconfirmed += 1;
            if row == Row::There {
                // Known already, unless it came back without a word.
                let event = Event::Add { token_id, expires_at: None };
                self.tell(FeedEvent::Apply(event, None)).await?;
            }
        }
        if unconfirmed > 0 {
            tracing::warn!(unconfirmed, "removals were heard that the table does not confirm");
        }
        Ok(())
    }

    async fn read(&mut self, read: Read) -> Result<(), Fault> {
        match read {
            Read::Some(token_ids) => {
                for token_id in &token_ids {
                    self.removals.read(*token_id);
                }
                let (events, contradicted) = self.progress.events(token_ids);
                for question in contradicted {
                    self.removals.heard(question);
                }
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
            removed: HashMap::new(),
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

    /// A row was heard of.
    fn added(&mut self, token_id: &TokenId) {
        if let Some(reading) = &mut self.reading {
            reading.removed.remove(token_id);
        }
    }

    /// The table has called a row gone.
    fn removed(&mut self, question: Question) {
        if let Some(reading) = &mut self.reading {
            reading.removed.insert(question.token_id, question);
        }
    }

    /// What rows mean, and about which of them the table has to be asked: it has called them gone
    /// since the reading began, so they are older than that, or back.
    fn events(&mut self, token_ids: Vec<TokenId>) -> (Vec<Event>, Vec<Question>) {
        let Some(reading) = &mut self.reading else { return (Vec::new(), Vec::new()) };
        reading.rows += token_ids.len();
        let mut contradicted = Vec::new();
        let mut events = Vec::with_capacity(token_ids.len());
        for token_id in token_ids {
            match reading.removed.get(&token_id) {
                Some(question) => contradicted.push(question.clone()),
                None => events.push(Event::Add { token_id, expires_at: None }),
            }
        }
        (events, contradicted)
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
    fn a_row_that_the_table_has_called_gone_meanwhile_does_not_count_and_is_asked_about() {
        let mut progress = Progress::new(Instant::now());
        let add = |name| Event::Add { token_id: id(name), expires_at: None };
        let question = |name: &str| Question { token_id: id(name), text: name.into() };
        progress.removed(question("before"));
        progress.begins_reading(Instant::now());
        progress.removed(question("gone"));
        progress.removed(question("back"));
        progress.added(&id("back"));
        let (events, contradicted) = progress.events(["before", "gone", "back"].map(id).to_vec());
        assert_eq!(events, [add("before"), add("back")]);
        let contradicted: Vec<_> = contradicted.iter().map(|question| &*question.text).collect();
        assert_eq!(contradicted, ["gone"]);
    }
}
