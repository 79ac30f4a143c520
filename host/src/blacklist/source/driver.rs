//! The driver of the source: it does what the state machine says. It connects, reads, asks, and tells
//! the feed.
//!
//! It decides nothing about what the set is worth.

mod messages;
mod timers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Source, message,
    notes::Notes,
    pulse::Pulse,
    removals::{Removal, Removals},
    steps::{Again, Cause, Input, Output, Pause, Position, Say},
    tasks::{self, Done, Tasks},
};
use crate::{
    blacklist::{
        StoreError,
        feed::FeedEvent,
        pause,
        rabbitmq::{BrokerError, From, Message, Session},
        redis::Reading,
    },
    boot_clock::BootInstant,
    drain::Drain,
    failpoint,
};

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(25);
/// How often the store is asked what is parked, while the broker is away and while it is not.
const POLL_STALE: Duration = Duration::from_millis(200);
const POLL_LIVE: Duration = Duration::from_secs(1);
/// Wrong on purpose, for tests: the store is read before the broker begins to deliver.
const SNAPSHOT_BEFORE_BIND: &str = "feed::snapshot-before-bind";
const SKIP_REPLAY: &str = "feed::skip-replay";
/// After so many messages in a row, something else has a turn.
const BATCH: usize = 256;
/// How often a broker that takes no messages is asked whether it still delivers.
const LIVENESS: Duration = Duration::from_millis(500);

/// The source at work.
pub(super) struct Driver {
    source: Source,
    tasks: Tasks,
    session: Option<Session>,
    pulse: Pulse,
    removals: Removals,
    notes: Notes,
    connect_at: Option<Instant>,
    snapshot_at: Option<Instant>,
    /// What the next reading reads in place of what the state machine says.
    reading: Option<Reading>,
    began: Began,
    poll_at: Instant,
    renew_at: Instant,
    liveness_at: Instant,
    /// When it was last looked whether something is due.
    ticked_at: BootInstant,
    /// How far the wall clock is ahead of the boot clock, in milliseconds.
    clock_offset: i64,
    /// When it is looked again whether something is due, however many messages arrive.
    tick_at: Instant,
    /// When the store answered last.
    store_seen: Instant,
    /// Where the connection that is being made begins to read.
    position: Position,
    /// How often connecting failed in a row, or did not lead to anything.
    failures: u32,
    /// How many connections in a row were made and did not lead to a set that is live.
    in_vain: u32,
    /// Whether there was a connection before.
    was_connected: bool,
    /// Why there is none now.
    why: &'static str,
    /// The message that was seen last.
    offset: Option<u64>,
    /// Whether the broker took no messages when it was last looked at.
    was_blocked: bool,
    /// Why a probe could not be sent.
    sending_failed: Option<BrokerError>,
}

/// When each kind of reading that is under way began.
struct Began {
    snapshot: Instant,
    poll: Instant,
    reread: Instant,
}

/// The feed has ended, because the process does.
struct Ended;

#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, on its way from one line to the next"
)]
enum Next {
    Stop,
    Done(Done),
    Reread(crate::blacklist::refresh::Resync),
    Message(Result<Message, BrokerError>),
    Tick,
}

// === impl Driver ===

impl Driver {
    pub(super) fn new(source: Source) -> Self {
        let now = Instant::now();
        Self {
            pulse: source.pulse(),
            source,
            tasks: Tasks::default(),
            session: None,
            removals: Removals::default(),
            notes: Notes::default(),
            connect_at: None,
            snapshot_at: None,
            reading: None,
            began: Began { snapshot: now, poll: now, reread: now },
            poll_at: now,
            renew_at: now,
            liveness_at: now,
            ticked_at: BootInstant::now(),
            clock_offset: timers::clock_offset(),
            tick_at: now,
            store_seen: now,
            position: Position::Replay,
            failures: 0,
            in_vain: 0,
            was_connected: false,
            why: "",
            offset: None,
            was_blocked: false,
            sending_failed: None,
        }
    }

    pub(super) async fn run(mut self, drain: Drain) {
        // Either way, nobody is left to be told anything.
        let _ = self.work(&drain).await;
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        drain.stopping().await;
    }

    async fn work(&mut self, drain: &Drain) -> Result<(), Ended> {
        if self.source.broker.is_some() {
            self.source.ends.metrics.expect_broker();
        }
        self.on(Input::Start).await?;
        loop {
            let tick = tokio::time::sleep_until(self.tick_at.into());
            let next = tokio::select! {
                biased;
                () = drain.stopping() => Next::Stop,
                done = self.tasks.next() => Next::Done(done),
                resync = self.source.ends.resyncs.next(),
                    if !self.tasks.reread.is_under_way() => Next::Reread(resync),
                message = next_message(&mut self.session) => Next::Message(message),
                // Last: what has arrived must have been seen before silence is judged.
                () = tick => Next::Tick,
            };
            match next {
                Next::Stop => return Ok(()),
                Next::Done(done) => self.done(done).await?,
                Next::Reread(resync) => {
                    self.began.reread = Instant::now();
                    let reading = self.read_store(Reading::MissingExpiries);
                    let feed = self.source.ends.feed.clone();
                    self.tasks.reread.start(tasks::reread(reading, feed, resync));
                }
                Next::Message(message) => self.messages(message).await?,
                Next::Tick => {}
            }
            // Under a steady stream of messages the tick would never have its turn.
            if self.tick_at <= Instant::now() {
                self.tick_at = Instant::now() + TICK;
                self.tick().await?;
            }
        }
    }

    async fn done(&mut self, done: Done) -> Result<(), Ended> {
        match done {
            Done::Connecting(Ok(session)) => {
                failpoint::reached("feed::bound");
                let resumed = match self.position {
                    Position::At(mark) => Some(mark.offset),
                    Position::Replay => None,
                };
                self.notes.bound(resumed);
                self.pulse = self.source.pulse();
                self.session = Some(session);
                self.in_vain = self.in_vain.saturating_add(1);
                self.source.ends.metrics.set_connected(true);
                if std::mem::replace(&mut self.was_connected, true) {
                    self.source.ends.metrics.reconnected();
                }
                self.on(Input::Bound).await
            }
            Done::Connecting(Err(error))
            | Done::Liveness(Err(error))
            | Done::Probing(Err(error)) => self.lost(&error).await,
            Done::Probing(Ok(())) => Ok(()),
            Done::Snapshot(Ok(_)) => {
                failpoint::reached("feed::snapshot");
                self.store_seen = Instant::now();
                self.notes.read();
                self.reading = None;
                self.removals.reading_ended(self.began.snapshot, Instant::now());
                self.on(Input::SnapshotDone).await
            }
            Done::Snapshot(Err(error)) => {
                self.notes.store(&error);
                self.removals.reading_ended(self.began.snapshot, Instant::now());
                self.on(Input::SnapshotFailed).await
            }
            Done::Poll(Ok(())) => {
                self.removals.reading_ended(self.began.poll, Instant::now());
                self.store_seen = Instant::now();
                self.on(Input::StoreAnswered).await
            }
            Done::Poll(Err(error)) => {
                self.removals.reading_ended(self.began.poll, Instant::now());
                self.notes.store(&error);
                self.on(Input::StoreSilent).await
            }
            Done::Reread => {
                self.removals.reading_ended(self.began.reread, Instant::now());
                Ok(())
            }
            Done::Removals(asked, gone) => self.answered(asked, gone).await,
            Done::Liveness(Ok(())) => {
                self.pulse.alive(Instant::now());
                Ok(())
            }
            Done::Declaring(declared) => {
                if let Err(error) = declared {
                    self.notes.broker(&error, self.offset);
                }
                Ok(())
            }
        }
    }

    /// The store has said which of the revocations are gone that removals are about.
    async fn answered(
        &mut self,
        asked: Vec<Removal>,
        gone: Result<Vec<bool>, StoreError>,
    ) -> Result<(), Ended> {
        let confirmed = self.removals.answered(asked, gone.ok(), Instant::now());
        for Removal { target, receipts } in confirmed {
            let mut receipts = receipts.into_iter();
            self.apply(target.removal(), receipts.next()).await?;
            for receipt in receipts {
                self.apply(target.removal(), Some(receipt)).await?;
            }
        }
        Ok(())
    }

    async fn lost(&mut self, error: &BrokerError) -> Result<(), Ended> {
        self.notes.broker(error, self.offset);
        self.why = error.why();
        self.disconnect();
        self.on(Input::Lost).await
    }

    fn disconnect(&mut self) {
        self.session = None;
        self.tasks.liveness.stop();
        self.tasks.probing.stop();
        self.tasks.declaring.stop();
        self.source.ends.metrics.set_connected(false);
    }

    async fn on(&mut self, input: Input) -> Result<(), Ended> {
        let outputs = self.source.core.on(input);
        self.perform(outputs).await
    }

    async fn perform(&mut self, outputs: Vec<Output>) -> Result<(), Ended> {
        for output in outputs {
            match output {
                Output::Connect(position) => {
                    if failpoint::is_on(SNAPSHOT_BEFORE_BIND) {
                        // Whether it succeeds does not matter: it is wrong anyway.
                        let _ = self.read_store(Reading::AllExpiries).await;
                    }
                    failpoint::reached("feed::connect");
                    self.connect(position);
                }
                Output::Disconnect => self.disconnect(),
                Output::Pause(pause) => {
                    let pause = match pause {
                        Pause::Backoff => pause::before_connecting(self.failures, self.in_vain),
                        Pause::Spread => pause::spread(),
                    };
                    self.failures = self.failures.saturating_add(1);
                    self.connect_at = Some(Instant::now() + pause);
                }
                Output::StartSnapshot(reading) => self.start_snapshot(reading),
                Output::EnsureSnapshot(reading) => {
                    if !self.tasks.snapshot.is_under_way() && self.snapshot_at.is_none() {
                        self.start_snapshot(reading);
                    }
                }
                Output::ReadAgain(again) => {
                    let pause = match again {
                        Again::Retry => pause::before_retry(),
                        Again::Soon => pause::before_soon(),
                        Again::Regularly => pause::regularly(self.source.resnapshot_interval),
                    };
                    self.snapshot_at = Some(Instant::now() + pause);
                }
                Output::Probe(number) => self.probe(number).await,
                Output::Say(say) => self.say(say).await?,
            }
        }
        Ok(())
    }

    fn connect(&mut self, position: Position) {
        let Some(broker) = self.source.broker.clone() else { return };
        let from = match position {
            Position::Replay => From::Replay,
            Position::At(mark) => From::Offset(mark.offset),
        };
        self.position = position;
        self.tasks.connecting.start(tasks::connect(broker, from));
    }

    fn start_snapshot(&mut self, reading: Reading) {
        let skipped = failpoint::is_on(SNAPSHOT_BEFORE_BIND)
            || (failpoint::is_on(SKIP_REPLAY) && self.source.core.is_resuming());
        self.snapshot_at = None;
        self.began.snapshot = Instant::now();
        if let Some(session) = &self.session {
            self.tasks.declaring.start(session.declare());
        }
        let reading = self.reading.unwrap_or(reading);
        let read = self.read_store(reading);
        self.tasks.snapshot.start(async move { if skipped { Ok(0) } else { read.await } });
    }

    fn read_store(
        &self,
        reading: Reading,
    ) -> impl Future<Output = Result<u64, StoreError>> + Send + use<> {
        let ends = &self.source.ends;
        let reads = self.source.rules.reads_store;
        let reading = reads.then(|| (reading, ends.blacklist.clone()));
        tasks::read_store(ends.redis.clone(), ends.feed.clone(), reading)
    }

    /// Reads what is new in the outbox.
    fn poll(&mut self) {
        let interval = if self.source.core.is_live() { POLL_LIVE } else { POLL_STALE };
        self.poll_at = Instant::now() + interval;
        self.began.poll = Instant::now();
        let ends = &self.source.ends;
        let outbox = Arc::clone(&ends.parked);
        self.tasks.poll.start(tasks::poll(ends.redis.clone(), outbox, ends.feed.clone()));
    }

    /// Sends a probe. That it could not be sent is noticed at the next look.
    async fn probe(&mut self, number: u64) {
        // In an alarm the broker would not read it.
        let Some(session) = self.session.as_ref().filter(|session| !session.is_blocked()) else {
            return;
        };
        self.pulse.sent(number, Instant::now(), pause::chance());
        let body = message::probe(&self.source.replica, number);
        match session.send_to_self(&body).await {
            Ok(taken) => self.tasks.probing.start(taken),
            Err(error) => self.sending_failed = Some(error),
        }
    }

    async fn say(&mut self, say: Say) -> Result<(), Ended> {
        let event = match say {
            Say::Init => FeedEvent::Init,
            Say::Replay => FeedEvent::Replay,
            Say::InitDone => {
                failpoint::reached("feed::live");
                (self.failures, self.in_vain) = (0, 0);
                // Readers must not find the set current and its lease over.
                self.renew_lease().await?;
                FeedEvent::InitDone
            }
            Say::Unbound => FeedEvent::Unbound,
            Say::Fresh => FeedEvent::Fresh,
            Say::Lost(cause) => {
                // The store can be asked at once: publishers may be parking events already.
                self.poll_at = Instant::now();
                let (why, since) = match cause {
                    Cause::Broker => (self.why, self.pulse.last_seen()),
                    Cause::Late => ("the broker delivers late", self.pulse.late_since()),
                    Cause::Paused => ("the process stood still", self.pulse.last_seen()),
                    Cause::Gap => (
                        "the stream no longer holds what was to be read next",
                        self.pulse.last_seen(),
                    ),
                    Cause::Store => ("the store does not answer", self.store_seen),
                };
                FeedEvent::Lost { why, since }
            }
        };
        self.tell(event).await
    }

    async fn tell(&mut self, event: FeedEvent) -> Result<(), Ended> {
        self.source.ends.feed.send(event).await.map_err(|_| Ended)
    }
}

async fn next_message(session: &mut Option<Session>) -> Result<Message, BrokerError> {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}
