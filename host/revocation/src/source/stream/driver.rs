//! The driver of the stream source: it performs the actions of the state machine. It connects,
//! reads, sends probes, and signals the feed.
//!
//! It makes no decision about how far the set is trusted.

mod messages;
mod receipts;
mod timers;

use std::time::Duration;

use portcullis_runtime::{boot_clock::BootInstant, drain::Drain, failpoint};
use tokio::time::Instant;

use super::{
    StreamDeps, StreamSource,
    broker::BrokerSession,
    probe_timer::ProbeTimer,
    sabotage::{self, Sabotage},
    steps::{Cause, Input, NextRead, Output, Pause, Position, Say},
    stream_log::StreamLog,
    tasks::{self, Done, STORE_LIMIT, StreamTasks},
    unrevocations::Unrevocations,
};
use crate::{
    ambient,
    backoff::{self, Backoff},
    event::{Event, Unrevocation},
    feed::FeedEvent,
    rabbitmq::{BrokerError, Message, StartAt},
    redis::{AwaitedReader, SnapshotKind, StoreError},
};

/// How often timers are checked.
const TICK: Duration = Duration::from_millis(25);
/// How often the outbox is polled, while the feed is not live and while it is.
const POLL_STALE: Duration = Duration::from_millis(200);
const POLL_LIVE: Duration = Duration::from_secs(1);
/// Pauses of [`Driver::in_vain`].
const FIRST_IN_VAIN: Duration = Duration::from_millis(50);
const LONGEST_IN_VAIN: Duration = Duration::from_secs(10);
/// The pause before a retry of reading the store.
const READING_RETRY: Duration = Duration::from_secs(1);
/// The store is read again this long after the first reading of a connection.
const SOON: Duration = Duration::from_secs(4);
/// Wrong on purpose, for tests: the store is read before the broker begins to deliver.
const SNAPSHOT_BEFORE_BIND: &str = "feed::snapshot-before-bind";
const SKIP_REPLAY: &str = "feed::skip-replay";
const NO_RESNAPSHOT: &str = "feed::no-resnapshot";
/// After so many messages in a row, something else has a turn.
const BATCH: usize = 256;
/// How often a broker that takes no messages is asked whether it still delivers.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(500);

/// The running source.
pub(super) struct Driver {
    source: StreamSource,
    tasks: StreamTasks,
    session: Option<BrokerSession>,
    probe_timer: ProbeTimer,
    unrevocations: Unrevocations,
    /// `None` while it is reading.
    awaited: Option<AwaitedReader>,
    log: StreamLog,
    connect_at: Option<Instant>,
    snapshot_at: Option<Instant>,
    /// The kind of the next snapshot, if it overrides that of the state machine.
    reading: Option<SnapshotKind>,
    /// When the last reading of each kind began.
    polled_at: Instant,
    snapshot_began: Instant,
    reread_began: Instant,
    poll_at: Instant,
    renew_at: Instant,
    liveness_at: Instant,
    /// When timers were last checked.
    ticked_at: BootInstant,
    /// How far the wall clock is ahead of the boot clock, in milliseconds.
    clock_offset: i64,
    /// When timers are checked next, however many messages arrive.
    tick_at: Instant,
    /// The time of the last answer of the store.
    store_seen: Instant,
    /// At which offset the connection that is being opened resumes, if it does.
    resumed: Option<u64>,
    /// Between attempts to connect.
    backoff: Backoff,
    /// Between connections that were opened and did not lead to a live set: each is expensive for
    /// the broker.
    in_vain: Backoff,
    /// Whether there was a connection before.
    was_connected: bool,
    /// Why there is no connection now.
    why: &'static str,
    /// The message that was seen last.
    offset: Option<u64>,
    /// Whether the broker was blocked at the last check.
    was_blocked: bool,
    /// Why a probe could not be sent.
    sending_failed: Option<BrokerError>,
}

/// The feed has ended, because the process is stopping.
struct FeedEnded;

// === impl Driver ===

impl Driver {
    pub(super) fn new(source: StreamSource) -> Self {
        let now = Instant::now();
        Self {
            probe_timer: source.probe_timer(),
            awaited: Some(AwaitedReader::new(source.deps.redis.clone())),
            source,
            tasks: StreamTasks::default(),
            session: None,
            unrevocations: Unrevocations::default(),
            log: StreamLog::default(),
            connect_at: None,
            snapshot_at: None,
            reading: None,
            polled_at: now,
            snapshot_began: now,
            reread_began: now,
            poll_at: now,
            renew_at: now,
            liveness_at: now,
            ticked_at: ambient::boot(),
            clock_offset: ambient::clock_offset(),
            tick_at: now,
            store_seen: now,
            resumed: None,
            backoff: backoff::of_connecting(),
            in_vain: Backoff::new(FIRST_IN_VAIN, LONGEST_IN_VAIN),
            was_connected: false,
            why: "",
            offset: None,
            was_blocked: false,
            sending_failed: None,
        }
    }

    pub(super) async fn run(mut self, drain: Drain) {
        // In either case the feed needs nothing more.
        let _ = self.work(&drain).await;
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        // The outbox reader must not wait for it.
        drop(self);
        drain.stopping().await;
    }

    async fn work(&mut self, drain: &Drain) -> Result<(), FeedEnded> {
        self.on(Input::Start).await?;
        loop {
            let tick = tokio::time::sleep_until(self.tick_at);
            tokio::select! {
                biased;
                () = drain.stopping() => return Ok(()),
                done = self.tasks.next() => self.done(done).await?,
                Some(entries) = self.source.deps.entries.recv() => {
                    self.apply_entries(entries).await?;
                }
                resync = self.source.deps.resyncs.next(),
                    if !self.tasks.reread.is_in_progress() => {
                    self.reread_began = Instant::now();
                    let reading = self.read_store(SnapshotKind::MissingExpiries);
                    let feed = self.source.deps.feed.clone();
                    self.tasks.reread.start(tasks::reread(reading, feed, resync));
                }
                message = next_message(&mut self.session) => self.messages(message).await?,
                // Last: messages that have arrived must be handled before silence is judged.
                () = tick => {}
            }
            // Under a steady stream of messages the tick would never have its turn.
            if self.tick_at <= Instant::now() {
                self.tick_at = Instant::now() + TICK;
                self.tick().await?;
            }
        }
    }

    async fn done(&mut self, done: Done) -> Result<(), FeedEnded> {
        match done {
            Done::Connecting(Ok(session)) => {
                failpoint::reached("feed::bound");
                self.log.bound(self.resumed);
                self.probe_timer = self.source.probe_timer();
                self.session = Some(session);
                self.in_vain.failed();
                self.source.deps.metrics.set_connected(true);
                if std::mem::replace(&mut self.was_connected, true) {
                    self.source.deps.metrics.reconnected();
                }
                self.on(Input::Bound).await?;
            }
            Done::Connecting(Err(error))
            | Done::Liveness(Err(error))
            | Done::Probing(Err(error)) => self.lost(&error).await?,
            Done::Probing(Ok(())) => self.probe_timer.confirmed(),
            Done::Snapshot(read) => {
                let Some(pending) = self.reading_ended(self.snapshot_began, read) else {
                    return self.on(Input::SnapshotFailed).await;
                };
                failpoint::reached("feed::snapshot");
                self.store_seen = Instant::now();
                self.log.read();
                self.reading = None;
                self.unrevocations.found_pending(&pending, Instant::now());
                self.on(Input::SnapshotDone).await?;
            }
            Done::Poll(read) => {
                if self.reading_ended(self.polled_at, read).is_none() {
                    return self.on(Input::StoreSilent).await;
                }
                self.store_seen = Instant::now();
                self.on(Input::StoreAnswered).await?;
            }
            Done::Awaited(read) => self.read_awaited(read).await?,
            Done::Reread(read) => {
                if let Some(pending) = self.reading_ended(self.reread_began, read) {
                    self.unrevocations.found_pending(&pending, Instant::now());
                }
            }
            Done::Unrevocations(asked, gone) => self.answered(asked, gone).await?,
            Done::Liveness(Ok(())) => self.probe_timer.note_alive(Instant::now()),
            Done::Declaring(Err(error)) => self.log.broker(&error, self.offset),
            Done::Declaring(Ok(())) => {}
        }
        Ok(())
    }

    /// A reading of the store has ended, which began then. Returns what it has read, unless it has
    /// failed.
    fn reading_ended<T>(&mut self, began: Instant, read: Result<T, StoreError>) -> Option<T> {
        self.unrevocations.reading_ended(began, Instant::now());
        read.inspect_err(|error| self.log.store(error)).ok()
    }

    /// Handles the answer of the store about which revocations are gone.
    async fn answered(
        &mut self,
        asked: Vec<Unrevocation>,
        gone: Result<Vec<bool>, StoreError>,
    ) -> Result<(), FeedEnded> {
        let confirmed = self.unrevocations.answered(asked, gone.ok(), Instant::now());
        for Unrevocation { target, receipts } in confirmed {
            let mut receipts = receipts.into_iter();
            self.apply(target.event(), receipts.next()).await?;
            for receipt in receipts {
                self.apply(target.event(), Some(receipt)).await?;
            }
        }
        Ok(())
    }

    async fn lost(&mut self, error: &BrokerError) -> Result<(), FeedEnded> {
        self.log.broker(error, self.offset);
        self.why = error.why();
        self.disconnect();
        self.on(Input::Lost).await
    }

    fn disconnect(&mut self) {
        self.session = None;
        self.tasks.liveness.stop();
        self.tasks.probing.stop();
        self.tasks.declaring.stop();
        self.source.deps.metrics.set_connected(false);
    }

    async fn on(&mut self, input: Input) -> Result<(), FeedEnded> {
        let outputs = self.source.state.on(input);
        self.perform(outputs).await
    }

    async fn perform(&mut self, outputs: Vec<Output>) -> Result<(), FeedEnded> {
        for output in outputs {
            match output {
                Output::Connect(position) => {
                    if failpoint::is_on(SNAPSHOT_BEFORE_BIND) {
                        // The result does not matter: this is wrong on purpose.
                        let _ = self.read_store(SnapshotKind::AllExpiries).await;
                    }
                    failpoint::reached("feed::connect");
                    self.connect(position);
                }
                Output::Disconnect => self.disconnect(),
                Output::Pause(pause) => {
                    let pause = match pause {
                        Pause::Backoff => {
                            backoff::pause(&self.backoff).max(backoff::pause(&self.in_vain))
                        }
                        Pause::Spread => backoff::spread(),
                    };
                    self.backoff.failed();
                    self.connect_at = Some(Instant::now() + pause);
                }
                Output::StartSnapshot(reading) => self.start_snapshot(reading),
                Output::EnsureSnapshot(reading) => {
                    if !self.tasks.snapshot.is_in_progress() && self.snapshot_at.is_none() {
                        self.start_snapshot(reading);
                    }
                }
                Output::ReadAgain(_)
                    if failpoint::is_on(NO_RESNAPSHOT) || sabotage::is_on(Sabotage::ReadOnce) => {}
                Output::ReadAgain(again) => {
                    let pause = match again {
                        NextRead::Retry => READING_RETRY,
                        NextRead::Soon => SOON,
                        NextRead::Regularly => self.source.resnapshot_interval,
                    };
                    self.snapshot_at = Some(Instant::now() + backoff::jittered(pause));
                }
                Output::ReadOutbox => self.poll(),
                Output::Probe(number) => self.probe(number).await,
                Output::Say(say) => self.say(say).await?,
            }
        }
        Ok(())
    }

    fn connect(&mut self, position: Position) {
        let Some(broker) = self.source.broker.clone() else { return };
        self.resumed = match position {
            Position::Replay => None,
            Position::At(mark) => Some(mark.offset),
        };
        let from = self.resumed.map_or(StartAt::Replay, StartAt::Offset);
        self.tasks.connecting.start(broker.bind(from));
    }

    fn start_snapshot(&mut self, reading: SnapshotKind) {
        self.snapshot_began = Instant::now();
        let skipped = failpoint::is_on(SNAPSHOT_BEFORE_BIND)
            || (failpoint::is_on(SKIP_REPLAY) && self.source.state.is_resuming());
        self.snapshot_at = None;
        if let Some(session) = &self.session {
            self.tasks.declaring.start(session.declare());
        }
        let reading = self.reading.unwrap_or(reading);
        let read = self.read_store(reading);
        self.tasks.snapshot.start(async move { if skipped { Ok(vec![]) } else { read.await } });
    }

    /// Sends everything in the store to the feed, and returns the revocations that are in the
    /// outbox. If nothing is cached, only checks that the store answers.
    fn read_store(
        &self,
        reading: SnapshotKind,
    ) -> impl Future<Output = Result<Vec<Event>, StoreError>> + Send + use<> {
        let StreamDeps { redis, feed, blacklist, .. } = &self.source.deps;
        let (redis, feed, known) = (redis.clone(), feed.clone(), blacklist.clone());
        let reads_store = self.source.rules.reads_store;
        async move {
            if reads_store {
                redis.snapshot(reading, &known, &feed).await
            } else {
                redis.ping(STORE_LIMIT).await.map(|()| Vec::new())
            }
        }
    }

    /// Reads what is new in the outbox.
    fn poll(&mut self) {
        let interval = if self.source.state.is_live() { POLL_LIVE } else { POLL_STALE };
        self.poll_at = Instant::now() + interval;
        self.polled_at = Instant::now();
        let outbox = self.source.deps.outbox.clone();
        self.tasks.poll.start(async move { outbox.read().await });
        self.poll_awaited();
    }

    async fn say(&mut self, say: Say) -> Result<(), FeedEnded> {
        let event = match say {
            Say::Init => FeedEvent::Init,
            Say::Replay => FeedEvent::Replay,
            Say::InitDone => {
                failpoint::reached("feed::live");
                self.backoff.reset();
                self.in_vain.reset();
                // Renew the lease first, so that readers never see a live set with a lapsed lease.
                self.renew_lease().await?;
                FeedEvent::InitDone
            }
            Say::Unbound => FeedEvent::Unbound,
            Say::Fresh => FeedEvent::Fresh,
            Say::Paused => FeedEvent::Paused,
            Say::Lost(cause) => {
                // Poll the outbox at once: publishers may already leave events there.
                self.poll_at = Instant::now();
                let (why, since) = match cause {
                    Cause::Broker => (self.why, self.probe_timer.last_seen()),
                    Cause::Late => ("the broker delivers late", self.probe_timer.late_since()),
                    Cause::Paused => ("the process was paused", self.probe_timer.last_seen()),
                    Cause::Gap => ("gap in the stream", self.probe_timer.last_seen()),
                    Cause::Store => ("the store does not answer", self.store_seen),
                };
                FeedEvent::Lost { why, since }
            }
        };
        self.send(event).await
    }

    async fn send(&mut self, event: FeedEvent) -> Result<(), FeedEnded> {
        self.source.deps.feed.send(event).await.map_err(|_| FeedEnded)
    }
}

async fn next_message(session: &mut Option<BrokerSession>) -> Result<Message, BrokerError> {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}
