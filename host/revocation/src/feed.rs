//! The feed: the one task that holds the blacklist's writer and applies what the source sends.
//!
//! A source (in process, a broker with a store, or a table) sends [`FeedEvent`]s. It binds first,
//! then reads a snapshot, then passes on what was published meanwhile; every event is applied at
//! once, because the set only grows and the order in which it grows does not matter. An
//! un-revocation is sent only when the store has confirmed that the revocation is gone. A table is
//! authoritative: an entry that a complete reading does not see leaves the set.
//!
//! Readiness, the [`Reliance`] of the set and the published state change together, here.

pub(crate) mod progress;
pub(crate) mod refresh;
mod status;
mod sweep;

use std::time::Duration;

use portcullis_runtime::{
    boot_clock::BootInstant,
    drain::Drain,
    readiness::{BlockReady, Readiness},
};
use portcullis_types::token_id::TokenId;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

pub use self::{
    progress::FeedState,
    refresh::{Refresh, Refreshed, Refresher},
    status::{FeedStatus, Status},
};
use self::{progress::Progress, status::FeedSummary, sweep::Sweep};
use crate::{
    ambient,
    blacklist::{Applied, Blacklist, BlacklistWriter, Reliance},
    config::{Mode, WhileStale},
    event::Event,
};

/// An event from a source to the feed. A source sends `Init`, any number of `Init…`, if it buffered
/// `Replay` and what it buffered, then `InitDone`; `Apply` at any time; after `Lost`, `Init` again.
#[derive(Debug)]
pub enum FeedEvent {
    /// The source is connected: everything published from now on will arrive as `Apply`.
    Init,
    /// Entries of the snapshot. Only those that revoke are applied.
    InitApply(Vec<Event>),
    /// As `InitApply`, for tokens of which only the ids have been read: they are revoked for the
    /// longest life of a token, until `InitExpiries` sets their expiry.
    InitIds(Vec<TokenId>),
    /// Entries of the snapshot with the expiries that the store has.
    InitExpiries(Vec<Event>),
    /// The snapshot has been read completely; what was published meanwhile follows as `Apply`.
    Replay,
    /// Everything that was published before this moment has been sent.
    InitDone,
    /// An event was published. The sender, if there is one, is told when it has taken effect.
    Apply(Event, Option<oneshot::Sender<Applied>>),
    /// Until then, readers may trust the set as far as the state of the feed allows.
    Lease(BootInstant),
    /// The process was paused. Until the set is complete again, no token passes without an answer of
    /// the store, if it can be asked.
    Paused,
    /// A reading of the table begins.
    BeginReading,
    /// The table has been read completely: token ids that were not added since are no longer in it.
    EndReading,
    /// Answered as soon as everything that was sent before has been applied.
    Barrier(oneshot::Sender<()>),
    /// The snapshot has been read completely, but there is no connection: what is published from
    /// now on does not arrive.
    Unbound,
    /// The connection is lost, but the set still serves: requests that find nothing in it are
    /// answered from the store.
    Fresh,
    /// The connection is lost.
    Lost {
        /// Why, in a few words for people.
        why: &'static str,
        /// When the last sign of life arrived. Staleness counts from then.
        since: Instant,
    },
}

/// Keeps the blacklist current while [`Feed::run`] runs.
#[derive(Debug)]
pub struct Feed {
    applier: Applier,
    events: mpsc::Receiver<FeedEvent>,
    blacklist: Blacklist,
    sweep_interval: Duration,
    /// Keeps the channel open for a source that never ends and holds no sender.
    keep_open: Option<mpsc::Sender<FeedEvent>>,
}

/// The feed without its timing: applies events and publishes the state.
#[derive(Debug)]
struct Applier {
    writer: BlacklistWriter,
    progress: Progress,
    mode: Mode,
    while_stale: WhileStale,
    longest_life: Duration,
    readiness: Readiness,
    block_ready: Option<BlockReady>,
    published: watch::Sender<FeedSummary>,
    /// Callers that wait until everything that was sent before has been applied.
    barriers: Vec<oneshot::Sender<()>>,
}

/// How many expired entries are removed after each event, and while idle.
const BETWEEN_EVENTS: usize = 64;
const WHILE_IDLE: usize = 1_000;

// === impl Feed ===

impl Feed {
    pub(crate) fn new(
        (writer, blacklist): (BlacklistWriter, Blacklist),
        events: mpsc::Receiver<FeedEvent>,
        config: &crate::config::Config,
        readiness: &Readiness,
    ) -> (Self, watch::Receiver<FeedSummary>) {
        let (published, watch) = watch::channel(FeedSummary {
            state: FeedState::Bind,
            since: ambient::now(),
            stale_since: None,
            lost: None,
            last_event_at: None,
        });
        let applier = Applier {
            writer,
            progress: Progress::new(config.staleness_bound()),
            mode: config.mode,
            while_stale: config.while_stale,
            longest_life: config.longest_life(),
            readiness: readiness.clone(),
            block_ready: Some(readiness.block("the blacklist has no complete snapshot yet")),
            published,
            barriers: Vec::new(),
        };
        let sweep_interval = config.sweep_interval.get();
        (Self { applier, events, blacklist, sweep_interval, keep_open: None }, watch)
    }

    /// Keeps the feed waiting for ever when the last handle of its source is dropped, instead of
    /// treating that as a loss.
    pub(crate) fn keep_open(&mut self, sender: mpsc::Sender<FeedEvent>) {
        self.keep_open = Some(sender);
    }

    /// Applies what the source sends, until `drain` begins. What was sent before that is applied.
    pub async fn run(self, drain: Drain) {
        let Self { mut applier, mut events, blacklist, sweep_interval, keep_open: _keep_open } =
            self;
        let mut sweep = Sweep::new(blacklist, sweep_interval);
        let mut open = true;
        let mut next_change = None;
        loop {
            tokio::select! {
                biased;
                () = drain.stopping() => break,
                () = tokio::time::sleep_until(next_change.unwrap_or_else(Instant::now)),
                    if next_change.is_some() => {}
                event = events.recv(), if open => {
                    open = event.is_some();
                    let end = FeedEvent::Lost { why: "the source ended", since: Instant::now() };
                    applier.handle(event.unwrap_or(end), Instant::now());
                    sweep.remove_some(&mut applier.writer, BETWEEN_EVENTS);
                }
                () = sweep.next() => sweep.remove_some(&mut applier.writer, WHILE_IDLE),
            }
            if let Some(complete) = applier.writer.take_complete() {
                sweep.look_for_missing(complete);
            }
            if sweep.is_done() {
                applier.flush_barriers();
            }
            next_change = applier.publish(Instant::now());
        }
        events.close();
        while let Ok(event) = events.try_recv() {
            applier.handle(event, Instant::now());
        }
        applier.flush_barriers();
        applier.writer.retire();
    }
}

// === impl Applier ===

impl Applier {
    fn handle(&mut self, event: FeedEvent, now: Instant) {
        self.progress.on(&event, now);
        match event {
            FeedEvent::Init
            | FeedEvent::Replay
            | FeedEvent::InitDone
            | FeedEvent::Unbound
            | FeedEvent::Fresh => {}
            FeedEvent::InitApply(events) => {
                self.note_event();
                for event in events.into_iter().filter(Event::revokes) {
                    self.writer.apply(event);
                }
            }
            FeedEvent::InitIds(token_ids) => {
                self.note_event();
                let now = ambient::now();
                let until = now.plus(self.longest_life);
                for token_id in token_ids {
                    self.writer.hold(token_id, until, now);
                }
            }
            FeedEvent::InitExpiries(events) => {
                self.note_event();
                for event in events.into_iter().filter(Event::revokes) {
                    self.writer.set_expiry(event);
                }
            }
            FeedEvent::Apply(event, ack) => {
                self.note_event();
                let applied = self.writer.apply(event);
                tracing::debug!(kind = event.kind(), ?applied, "blacklist event applied");
                // The caller may have stopped waiting; the event is applied nevertheless.
                let _ = ack.map(|ack| ack.send(applied));
            }
            FeedEvent::Lease(end) => self.writer.renew(end),
            FeedEvent::BeginReading => self.writer.begin_reading(),
            FeedEvent::EndReading => self.writer.end_reading(),
            FeedEvent::Barrier(applied) => self.barriers.push(applied),
            // At once: a renewal of the lease may follow.
            FeedEvent::Paused => self.writer.set_reliance(self.reliance(now)),
            FeedEvent::Lost { why, .. } => {
                self.published.send_modify(|published| published.lost = Some(why));
            }
        }
    }

    /// Tells waiting callers that everything that was sent before has been applied.
    fn flush_barriers(&mut self) {
        for barrier in self.barriers.drain(..) {
            // The caller may have stopped waiting.
            let _ = barrier.send(());
        }
    }

    /// Publishes the present state. Returns when that has to be done again, even if no event
    /// arrives before.
    fn publish(&mut self, now: Instant) -> Option<Instant> {
        if self.progress.is_expired(now) {
            let cause = "the blacklist has been out of date for too long";
            self.block_ready.get_or_insert_with(|| self.readiness.block(cause));
        } else {
            self.block_ready = None;
        }
        self.writer.set_reliance(self.reliance(now));
        let before = *self.published.borrow();
        let state = self.progress.state(now);
        let since = if state == before.state { before.since } else { ambient::now() };
        let stale_since = self.progress.stale_since();
        let after = FeedSummary { state, since, stale_since, ..before };
        self.published.send_if_modified(|published| std::mem::replace(published, after) != after);
        if state != before.state {
            self.log(before.state, state);
        }
        self.progress.next_change(now)
    }

    /// How far readers may rely on the set at the time `now`.
    fn reliance(&self, now: Instant) -> Reliance {
        if self.progress.is_expired(now) {
            return Reliance::None;
        }
        let is_live = self.progress.state(now) == FeedState::Live;
        match (self.mode, self.while_stale) {
            (Mode::RedisOnMiss | Mode::RedisAlways, _) => Reliance::AskOrDeny,
            (Mode::Authoritative, WhileStale::AskRedis) if !is_live => {
                if self.progress.may_pass_without_lookup(now) {
                    Reliance::AskOrServe
                } else {
                    Reliance::AskOrDeny
                }
            }
            (Mode::Authoritative, _) => Reliance::Final,
        }
    }

    fn log(&self, from: FeedState, to: FeedState) {
        let entries = self.writer.len();
        let lost = self.published.borrow().lost;
        match to {
            FeedState::Stale => tracing::warn!(%from, %to, entries, lost, "blacklist feed lost"),
            FeedState::Expired => tracing::error!(
                %from, %to, entries, lost,
                "blacklist out of date for too long: every request that needs it is denied"
            ),
            _ => tracing::info!(%from, %to, entries, "blacklist feed"),
        }
    }

    fn note_event(&self) {
        let now = ambient::now();
        self.published
            .send_if_modified(|published| published.last_event_at.replace(now) != Some(now));
    }
}

#[cfg(test)]
mod tests;
