//! The driver of the source: it does what the state machine says. It connects, reads, asks, and tells
//! the feed.
//!
//! It decides nothing about what the set is worth.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{
    Source,
    message::{self, Parsed},
    notes::Notes,
    pulse::{Beat, Pulse},
    removals::{Removal, Removals},
    steps::{Again, Cause, Input, Mark, Output, Pause, Position, Returned, Say},
    tasks::{self, Done, Tasks},
};
use crate::{
    blacklist::{
        Event, StoreError,
        feed::FeedEvent,
        pause,
        rabbitmq::{BrokerError, From, Message, Session},
        redis::Reading,
    },
    boot_clock::BootInstant,
    drain::Drain,
    failpoint,
    telemetry::Received,
    timestamp::Timestamp,
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
/// How often the lease is renewed while the set is live, and for how long. A replica that is silent
/// is taken off the registry after three seconds, and must not believe its set then.
const RENEWAL: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_millis(1_500);
/// After standing still for this long, what arrives may be old: the lease is renewed only when a
/// probe has come back.
const PAUSED: Duration = Duration::from_secs(1);
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
            poll_at: now,
            renew_at: now,
            liveness_at: now,
            ticked_at: BootInstant::now(),
            clock_offset: clock_offset(),
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
            Done::Connecting(Err(error)) => self.lost(&error).await,
            Done::Snapshot(Ok(_)) => {
                failpoint::reached("feed::snapshot");
                self.store_seen = Instant::now();
                self.notes.read();
                self.removals.reading_ended(Instant::now());
                self.on(Input::SnapshotDone).await
            }
            Done::Snapshot(Err(error)) => {
                self.notes.store(&error);
                self.removals.reading_ended(Instant::now());
                self.on(Input::SnapshotFailed).await
            }
            Done::Poll(Ok(())) => {
                self.store_seen = Instant::now();
                self.on(Input::StoreAnswered).await
            }
            Done::Poll(Err(error)) => {
                self.notes.store(&error);
                self.on(Input::StoreSilent).await
            }
            Done::Reread => {
                self.removals.reading_ended(Instant::now());
                Ok(())
            }
            Done::Removals(asked, gone) => self.answered(asked, gone).await,
            Done::Liveness(Ok(())) => {
                self.pulse.alive(Instant::now());
                Ok(())
            }
            Done::Liveness(Err(error)) => self.lost(&error).await,
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
        let reading = self.tasks.snapshot.is_under_way() || self.tasks.reread.is_under_way();
        let confirmed = self.removals.answered(asked, gone.ok(), reading, Instant::now());
        for removal in confirmed {
            let event = removal.event();
            self.apply(event, removal.receipt).await?;
        }
        Ok(())
    }

    /// Handles a message, and those that are at hand behind it.
    async fn messages(&mut self, first: Result<Message, BrokerError>) -> Result<(), Ended> {
        let mut next = Some(first);
        for _ in 0..BATCH {
            match next {
                Some(Ok(message)) => self.message(message).await?,
                Some(Err(error)) => return self.lost(&error).await,
                None => return Ok(()),
            }
            next = match &mut self.session {
                Some(session) => session.next_at_hand().await,
                None => None,
            };
        }
        // One that was taken must not be forgotten.
        match next {
            Some(Ok(message)) => self.message(message).await,
            Some(Err(error)) => self.lost(&error).await,
            None => Ok(()),
        }
    }

    async fn message(&mut self, message: Message) -> Result<(), Ended> {
        self.pulse.seen(Instant::now());
        let mark =
            message.offset.map(|offset| Mark { offset, digest: message::digest(&message.body) });
        let mut probe = None;
        match Parsed::read(&message.body, &self.source.replica) {
            // Applied before: to do so again could undo what came from elsewhere meanwhile.
            _ if self.source.core.has_seen(mark) => {}
            Parsed::Revocation(..) | Parsed::Removal(..) if self.skips_replay() => {}
            Parsed::Revocation(event, receipt) => {
                self.pulse.has_traffic();
                self.source.ends.metrics.received(message::kind(&event));
                self.removals.revoked(&event);
                self.source.count_expiry(&event, &message.body);
                self.apply(event, receipt).await?;
            }
            Parsed::Removal(removal) => {
                self.pulse.has_traffic();
                self.source.ends.metrics.received(message::kind(&removal.event()));
                if !self.removals.heard(removal, Instant::now()) {
                    tracing::warn!("too many removals wait for the store; one was dropped");
                }
            }
            Parsed::Probe(number) => {
                let returned = |number| Returned { number, in_time: self.pulse.is_in_time(number) };
                probe = number.map(returned);
            }
            Parsed::Malformed(error) => {
                self.pulse.has_traffic();
                self.source.ends.metrics.received(Received::Malformed);
                self.notes.malformed(&message, error);
                if let Some(session) = &self.session
                    && let Err(error) = session.dead_letter(&message).await
                {
                    self.notes.not_put_aside(&error);
                }
            }
        }
        let before = self.offset;
        if let Some(offset) = message.offset {
            self.offset = Some(offset);
            self.source.ends.metrics.set_offset(offset);
        }
        let outputs = self.source.core.on(Input::Delivered { mark, probe });
        if outputs.contains(&Output::Say(Say::Lost(Cause::Gap))) {
            Notes::gap(before, message.offset);
        }
        self.perform(outputs).await
    }

    async fn apply(&mut self, event: Event, receipt: Option<String>) -> Result<(), Ended> {
        let received = message::kind(&event);
        match receipt.zip(self.source.ends.receipts.clone()) {
            None => self.tell(FeedEvent::Apply(event, None)).await?,
            Some((receipt, receipts)) => {
                let (ack, applied) = oneshot::channel();
                self.tell(FeedEvent::Apply(event, Some(ack))).await?;
                applied.await.map_err(|_| Ended)?;
                // Where more receipts come than can be told of, revocations go first.
                let _ = receipts.try_send(receipt);
            }
        }
        self.source.ends.metrics.processed(received);
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        self.look_at_clocks().await?;
        if self.connect_at.take_if(|at| *at <= now).is_some() {
            self.on(Input::ConnectDue).await?;
        }
        if self.snapshot_at.take_if(|at| *at <= now).is_some() {
            self.on(Input::SnapshotDue).await?;
        }
        if self.poll_at <= now && !self.tasks.poll.is_under_way() {
            self.poll();
        }
        if !self.tasks.removals.is_under_way() {
            self.ask_about_removals(now);
        }
        if self.renew_at <= now {
            self.renew_lease().await?;
        }
        self.beat(now).await
    }

    /// Notices that the process stood still, or that the wall clock was set.
    async fn look_at_clocks(&mut self) -> Result<(), Ended> {
        let ticked_at = BootInstant::now();
        let paused = ticked_at.since(self.ticked_at);
        self.ticked_at = ticked_at;
        let offset = clock_offset();
        let skew = self.source.skew.as_millis();
        if u128::from(offset.abs_diff(self.clock_offset)) > skew {
            self.clock_offset = offset;
            tracing::warn!("the wall clock was set; the store is read again");
            // Expiries that were read before may be wrong.
            self.reading = Some(Reading::AllExpiries);
            self.snapshot_at = Some(Instant::now());
        }
        if paused < PAUSED {
            return Ok(());
        }
        tracing::warn!(
            ?paused,
            "the process stood still; the set is not believed until a probe is back"
        );
        self.on(Input::Paused).await
    }

    /// Tells readers that they may believe the set for some longer.
    async fn renew_lease(&mut self) -> Result<(), Ended> {
        if !self.source.core.is_live() {
            return Ok(());
        }
        self.renew_at = Instant::now() + RENEWAL;
        self.tell(FeedEvent::Lease(self.ticked_at.plus(LEASE))).await
    }

    fn ask_about_removals(&mut self, now: Instant) {
        let due = self.removals.due(now);
        if !due.is_empty() {
            let redis = self.source.ends.redis.clone();
            self.tasks.removals.start(tasks::ask_about(redis, due));
        }
    }

    /// Looks whether the broker still delivers.
    async fn beat(&mut self, now: Instant) -> Result<(), Ended> {
        let sending_failed = self.sending_failed.take();
        let Some(session) = &self.session else { return Ok(()) };
        let blocked = session.is_blocked();
        if std::mem::replace(&mut self.was_blocked, blocked) != blocked {
            Notes::alarm(blocked);
        }
        if blocked {
            // In an alarm the broker takes no message from anyone, so that none can be missed, and no
            // probe comes back. It answers what is no message.
            self.pulse.pause(now);
            if self.liveness_at <= now && !self.tasks.liveness.is_under_way() {
                self.liveness_at = now + LIVENESS;
                self.tasks.liveness.start(session.liveness());
            }
        }
        if let Some(error) = sending_failed
            && !blocked
        {
            return self.lost(&error).await;
        }
        match self.pulse.beat(now) {
            Beat::Dead => {
                let silence = BrokerError::Silent(self.source.probes.timeout);
                self.lost(&silence).await
            }
            Beat::Late if self.source.core.is_live() => self.on(Input::Late).await,
            Beat::Probe => self.on(Input::ProbeDue).await,
            _ if self.source.core.awaits_probe() && self.pulse.is_probe_overdue(now) => {
                self.on(Input::ProbeDue).await
            }
            Beat::Late | Beat::Rest => Ok(()),
        }
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

    /// Wrong on purpose, for tests: what was published meanwhile is let go.
    fn skips_replay(&self) -> bool {
        failpoint::is_on(SKIP_REPLAY) && !self.source.core.is_live()
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
        if let Some(session) = &self.session {
            self.tasks.declaring.start(session.declare());
        }
        let reading = self.reading.take().unwrap_or(reading);
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
        let ends = &self.source.ends;
        let (redis, outbox, feed) = (ends.redis.clone(), ends.parked.clone(), ends.feed.clone());
        self.tasks.poll.start(tasks::poll(redis, outbox, feed));
    }

    /// Sends a probe. That it could not be sent is noticed at the next look.
    async fn probe(&mut self, number: u64) {
        let Some(session) = &self.session else { return };
        self.pulse.sent(number, Instant::now(), pause::chance());
        let body = message::probe(&self.source.replica, number);
        if let Err(error) = session.send_to_self(&body).await {
            self.sending_failed = Some(error);
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

/// How far the wall clock is ahead of the boot clock, in milliseconds.
fn clock_offset() -> i64 {
    let boot = i64::try_from(BootInstant::now().as_millis()).unwrap_or(i64::MAX);
    Timestamp::now().as_millis().saturating_sub(boot)
}
