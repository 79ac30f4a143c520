//! Owns the task that keeps the blacklist current: the only place where its writer is held.
//!
//! A source (in process, a broker with a store, or a table) sends [`FeedEvent`]s. It binds first, then
//! reads a snapshot, then passes on what was published meanwhile; whatever arrives is applied at
//! once, because the set only grows and the order in which it grows does not matter. A removal is
//! sent only when the store has said that the revocation is gone. A table is the truth: what a
//! complete reading of it does not see leaves the set.
//!
//! Readiness, [`Blacklist::is_expired`](super::Blacklist::is_expired) and the published state
//! change together, here.

mod sweep;

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use self::sweep::Sweep;
use super::{
    config::{Mode, WhileStale},
    event::Event,
    progress::{Progress, Signal, State},
    status::Published,
    store::{Applied, Blacklist, Reliance, Writer},
};
use crate::{
    boot_clock::BootInstant,
    drain::Drain,
    readiness::{BlockReady, Readiness},
    timestamp::Timestamp,
    token_id::TokenId,
};

/// What a source has to say. A source sends `Init`, any number of `Init…`, if it buffered
/// `Replay` and what it buffered, then `InitDone`; `Apply` at any time; after `Lost`, `Init` again.
#[derive(Debug)]
pub enum FeedEvent {
    /// The source is connected: whatever is published from now on will arrive as `Apply`.
    Init,
    /// Entries of the snapshot. Only those that revoke are heeded.
    InitApply(Vec<Event>),
    /// As `InitApply`, of tokens of which only the ids have been read: they are revoked for the longest
    /// life of a token, until `InitSettle` says for how long.
    InitHold(Vec<TokenId>),
    /// Entries of the snapshot as the store has them, which knows how long they last.
    InitSettle(Vec<Event>),
    /// The snapshot has been read whole; what was published meanwhile follows as `Apply`.
    Replay,
    /// Everything that was published before this moment has been sent.
    InitDone,
    /// Something was published. Who waits to be told that it took effect gives a sender.
    Apply(Event, Option<oneshot::Sender<Applied>>),
    /// The source has proven that the set is current: it may be believed until then.
    Lease(BootInstant),
    /// A table is going to be read from its beginning.
    BeginReading,
    /// It has been read completely: token ids that were not added since are no longer in it.
    EndReading,
    /// Answered as soon as everything that was sent before is in force.
    Settle(oneshot::Sender<()>),
    /// The snapshot has been read whole, but there is no connection: what is published from now on
    /// does not arrive.
    Unbound,
    /// Although the connection is lost, the source vouches that the set still serves: requests that
    /// find nothing in it are answered from the store.
    Fresh,
    /// The connection is lost.
    Lost {
        /// Why, in a few words for people.
        why: &'static str,
        /// When the other side was last heard of. Staleness counts from then.
        since: Instant,
    },
}

/// Keeps the blacklist current while [`Feed::run`] runs.
#[derive(Debug)]
pub struct Feed {
    core: Core,
    events: mpsc::Receiver<FeedEvent>,
    blacklist: Blacklist,
    sweep_interval: Duration,
    /// Keeps the channel open where a source without an end has nobody who speaks for it.
    keep_open: Option<mpsc::Sender<FeedEvent>>,
}

/// Everything but the waiting.
#[derive(Debug)]
struct Core {
    writer: Writer,
    progress: Progress,
    mode: Mode,
    while_stale: WhileStale,
    longest_life: Duration,
    readiness: Readiness,
    block_ready: Option<BlockReady>,
    published: watch::Sender<Published>,
    /// Those who wait until everything that was sent before is in force.
    settling: Vec<oneshot::Sender<()>>,
}

/// How many expired entries are removed after each event, and where there is none.
const BETWEEN_EVENTS: usize = 64;
const WHILE_IDLE: usize = 1_000;

// === impl Feed ===

impl Feed {
    pub(super) fn new(
        (writer, blacklist): (Writer, Blacklist),
        events: mpsc::Receiver<FeedEvent>,
        config: &super::Config,
        readiness: &Readiness,
    ) -> (Self, watch::Receiver<Published>) {
        let (published, watch) = watch::channel(Published {
            state: State::Bind,
            since: Timestamp::now(),
            stale_since: None,
            lost: None,
            last_event_at: None,
        });
        let core = Core {
            writer,
            progress: Progress::new(config.staleness_bound()),
            mode: config.mode,
            while_stale: config.while_stale,
            longest_life: config.longest_life(),
            readiness: readiness.clone(),
            block_ready: Some(readiness.block("the blacklist has no complete snapshot yet")),
            published,
            settling: Vec::new(),
        };
        let sweep_interval = config.sweep_interval.get();
        (Self { core, events, blacklist, sweep_interval, keep_open: None }, watch)
    }

    /// Keeps the feed waiting for ever when the last handle of its source is gone, rather than
    /// taking that for a loss.
    pub(super) fn keep_open(mut self, sender: mpsc::Sender<FeedEvent>) -> Self {
        self.keep_open = Some(sender);
        self
    }

    /// Applies what the source sends, until `drain` begins. What was sent before that is applied.
    pub async fn run(self, drain: Drain) {
        let Self { mut core, mut events, blacklist, sweep_interval, keep_open: _keep_open } = self;
        let mut sweep = Sweep::new(blacklist, sweep_interval);
        let mut open = true;
        let mut next_change = None;
        loop {
            tokio::select! {
                biased;
                () = drain.stopping() => break,
                () = reach(next_change) => {}
                event = events.recv(), if open => {
                    open = event.is_some();
                    let end = FeedEvent::Lost { why: "the source ended", since: Instant::now() };
                    core.handle(event.unwrap_or(end), Instant::now());
                    sweep.remove_some(&mut core.writer, BETWEEN_EVENTS);
                }
                () = sweep.next() => sweep.remove_some(&mut core.writer, WHILE_IDLE),
            }
            if core.writer.owes_sweep() {
                sweep.look_for_missing(core.writer.take_complete());
            }
            if sweep.is_done() {
                core.settle();
            }
            next_change = core.publish(Instant::now());
        }
        events.close();
        while let Ok(event) = events.try_recv() {
            core.handle(event, Instant::now());
        }
        core.settle();
        core.writer.retire();
    }
}

async fn reach(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

// === impl Core ===

impl Core {
    fn handle(&mut self, event: FeedEvent, now: Instant) {
        match event {
            FeedEvent::Init => self.progress.on(Signal::Init, now),
            FeedEvent::InitApply(events) => {
                self.heard();
                for event in events.into_iter().filter(Event::revokes) {
                    self.writer.apply(event);
                }
            }
            FeedEvent::InitHold(token_ids) => {
                self.heard();
                let until = Timestamp::now().plus(self.longest_life);
                for token_id in token_ids {
                    self.writer.hold(token_id, until);
                }
            }
            FeedEvent::InitSettle(events) => {
                self.heard();
                for event in events.into_iter().filter(Event::revokes) {
                    self.writer.settle(event);
                }
            }
            FeedEvent::Replay => self.progress.on(Signal::Replay, now),
            FeedEvent::InitDone => self.progress.on(Signal::InitDone, now),
            FeedEvent::Apply(event, ack) => {
                self.heard();
                let applied = self.writer.apply(event);
                tracing::debug!(kind = event.kind(), ?applied, "blacklist event applied");
                // Whoever asked may have stopped waiting; the event holds all the same.
                let _ = ack.map(|ack| ack.send(applied));
            }
            FeedEvent::Lease(end) => self.writer.renew(end),
            FeedEvent::BeginReading => self.writer.begin_reading(),
            FeedEvent::EndReading => self.writer.end_reading(),
            FeedEvent::Settle(settled) => self.settling.push(settled),
            FeedEvent::Unbound => {
                self.progress.on(Signal::Unbound, now);
                // The set is complete at this moment, and may not be at the next.
                self.writer.renew(BootInstant::now());
            }
            FeedEvent::Fresh => self.progress.on(Signal::Fresh, now),
            FeedEvent::Lost { why, since } => {
                self.progress.on(Signal::Lost { since }, now);
                self.published.send_modify(|published| published.lost = Some(why));
            }
        }
    }

    /// Tells those who wait that everything that was sent before is in force.
    fn settle(&mut self) {
        for settled in self.settling.drain(..) {
            // The caller may have stopped waiting.
            let _ = settled.send(());
        }
    }

    /// Makes what the progress has come to visible from outside. Says when that has to be done
    /// again, even if nothing is heard before.
    fn publish(&mut self, now: Instant) -> Option<Instant> {
        let state = self.progress.state(now);
        let stale_since = self.progress.stale_since();
        let before = *self.published.borrow();
        if self.progress.is_expired(now) {
            if self.block_ready.is_none() {
                let cause = "the blacklist has been out of date for too long";
                self.block_ready = Some(self.readiness.block(cause));
            }
        } else {
            self.block_ready = None;
        }
        self.writer.set_reliance(self.reliance(state, now));
        let next_change = self.progress.next_change(now);
        if (state, stale_since) == (before.state, before.stale_since) {
            return next_change;
        }
        self.published.send_modify(|published| {
            published.stale_since = stale_since;
            if published.state != state {
                published.state = state;
                published.since = Timestamp::now();
            }
        });
        if state != before.state {
            self.log(before.state, state);
        }
        next_change
    }

    /// What the set is worth in this state.
    fn reliance(&self, state: State, now: Instant) -> Reliance {
        if self.progress.is_expired(now) {
            return Reliance::None;
        }
        match (self.mode, self.while_stale) {
            (Mode::RedisOnMiss | Mode::RedisAlways, _) => Reliance::AskOrDeny,
            (Mode::Authoritative, WhileStale::AskRedis) if state != State::Live => {
                if self.progress.may_pass_unasked(now) {
                    Reliance::AskOrServe
                } else {
                    Reliance::AskOrDeny
                }
            }
            (Mode::Authoritative, _) => Reliance::Final,
        }
    }

    fn log(&self, from: State, to: State) {
        let entries = self.writer.len();
        let lost = self.published.borrow().lost;
        match to {
            State::Stale => tracing::warn!(%from, %to, entries, lost, "blacklist feed lost"),
            State::Expired => tracing::error!(
                %from, %to, entries, lost,
                "blacklist out of date for too long: every request that needs it is denied"
            ),
            _ => tracing::info!(%from, %to, entries, "blacklist feed"),
        }
    }

    fn heard(&self) {
        let now = Timestamp::now();
        self.published
            .send_if_modified(|published| published.last_event_at.replace(now) != Some(now));
    }
}

#[cfg(test)]
mod tests;
