//! The world around the replica: broker, Redis, publishers, and what was acknowledged to them.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    broker::{Broker, Confirm, EventId},
    plan::{Rng, TOKENS, Way},
    store::Store,
};
use crate::ambient;

/// The world, and notifications of its changes.
#[derive(Debug)]
pub(in crate::source::stream) struct Net {
    world: Mutex<World>,
    pub(super) changed: Notify,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) broker: Broker,
    pub(super) store: Store,
    pub(super) rng: Rng,
    pub(super) tokens: [Token; TOKENS],
    /// Everything that was published, for steps that publish again.
    published: Vec<(EventId, Vec<u8>)>,
    /// The token of each event, in the order of their numbers.
    owners: Vec<usize>,
    /// Second halves of what publishers do, and when.
    pub(super) later: Vec<(Duration, Half)>,
    /// Since when there has been no fault, if there is none now.
    pub(super) broker_well: Option<Duration>,
    pub(super) store_well: Option<Duration>,
    /// Until when Redis may have answered the replica: still, if it may now.
    pub(super) store_heard: Option<Duration>,
    /// Whether the replica has trusted its set since it started.
    pub(super) was_trusted: bool,
    /// How often the replica was started.
    pub(super) starts: u64,
    /// When it was started last.
    pub(super) started: Duration,
    /// Since when nothing has happened that may keep the replica from being live, but for an alarm
    /// and, once it is live, faults of Redis.
    pub(super) steady: Option<Duration>,
    alarm: Option<Duration>,
    /// When the broker had an alarm that is over: from when, and until when.
    alarms: Vec<(Duration, Duration)>,
    /// When the process was paused: from when, and until when.
    pub(super) stops: Vec<(Duration, Duration)>,
    /// When the present pause began, if it is paused.
    pub(super) stopped: Option<Duration>,
}

/// What is true of a token.
#[derive(Debug, Default)]
pub(super) struct Token {
    pub(super) truth: Truth,
    /// Grows with each change of the truth.
    pub(super) version: u64,
    /// The events of the revocation that holds, or of the last one.
    pub(super) revocations: Vec<EventId>,
    /// The events that un-revoked it.
    pub(super) removals: Vec<EventId>,
    /// Whether a publisher is half done with it.
    pub(super) busy: bool,
    was_removed: bool,
    /// Since when its key is lost, if it is revoked, and was un-revoked before.
    lost: Option<Duration>,
    /// When an event of it left the outbox last.
    relayed: Duration,
}

/// The longest pause before connecting again, and some for what follows.
const LIVE_AFTER: Duration = Duration::from_secs(13);

/// A probe is sent this long after a message, or earlier.
const PROBED: Duration = Duration::from_millis(750);

/// A replica asks Redis about an un-revocation for no longer than this.
const ASKED: Duration = Duration::from_secs(9);

/// Whether a token is revoked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Truth {
    #[default]
    Clear,
    /// Its publisher got the acknowledgement at this time.
    Revoked(Duration),
    /// A publisher is not done, or was left with half of it.
    Open,
}

/// The second half of what a publisher does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Half {
    token: usize,
    revokes: bool,
    /// Whether the key is written; else it is the event.
    key: bool,
}

// === impl Net ===

impl Net {
    pub(super) fn new(chance: u64) -> Self {
        Self { world: Mutex::new(World::new(chance)), changed: Notify::new() }
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Changes the world, and notifies waiting tasks.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.world();
        let changed = change(&mut world);
        world.note_faults();
        drop(world);
        self.changed.notify_waiters();
        changed
    }

    /// Resolves when this is so.
    pub(super) async fn until(&self, is_so: impl Fn(&World) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is_so(&self.world()) {
                return;
            }
            changed.await;
        }
    }
}

// === impl World ===

impl World {
    fn new(chance: u64) -> Self {
        Self {
            broker: Broker::new(),
            store: Store::new(),
            rng: Rng(chance),
            tokens: Default::default(),
            published: vec![],
            owners: vec![],
            later: vec![],
            broker_well: Some(now()),
            store_well: Some(now()),
            store_heard: None,
            was_trusted: false,
            starts: 0,
            started: Duration::ZERO,
            steady: None,
            alarm: None,
            alarms: vec![],
            stops: vec![],
            stopped: None,
        }
    }

    /// The time outside: it goes on whatever becomes of the replica.
    #[expect(clippy::unused_self, reason = "there is no time without a world")]
    pub(super) fn now(&self) -> Duration {
        now()
    }

    fn note_faults(&mut self) {
        let well =
            |is_well: bool, since: Option<Duration>| is_well.then(|| since.unwrap_or_else(now));
        self.broker_well = well(self.broker.is_well(), self.broker_well);
        self.store_well = well(self.store.is_well(), self.store_well);
        self.note_answers();
        let is_live = self.steady.is_some_and(|since| now() >= since + LIVE_AFTER);
        if self.broker.alarm {
            self.alarm.get_or_insert_with(now);
        } else if let Some(began) = self.alarm.take() {
            self.alarms.push((began, now()));
            if self.steady.is_none_or(|since| began < since + LIVE_AFTER) {
                self.steady = None;
            }
        }
        let is_steady = self.broker.delivers() && (is_live || self.store.is_well());
        self.steady = well(is_steady, self.steady);
    }

    /// Answers of Redis end with the moment in which it was last reachable.
    fn note_answers(&mut self) {
        let Store { up, linked, silent, .. } = self.store;
        match (up && linked && !silent, self.store_heard) {
            (true, _) => self.store_heard = None,
            (false, None) => self.store_heard = Some(now()),
            (false, Some(_)) => {}
        }
    }

    /// Whether the replica has to be live.
    pub(super) fn must_be_live(&self) -> bool {
        let until = self.alarm.unwrap_or_else(now);
        self.steady.is_some_and(|since| until >= since + LIVE_AFTER)
    }

    /// A publisher begins to revoke or un-revoke a token.
    pub(super) fn publish(&mut self, token: usize, revokes: bool, way: Way, gap: u32) {
        if self.tokens[token].busy {
            return;
        }
        let now = now();
        let (key_first, whole) = match way {
            Way::Ours => (true, true),
            Way::KeyFirst => (true, false),
            Way::EventFirst => (false, false),
        };
        if key_first && !self.store.up {
            return;
        }
        self.begin(token, revokes);
        if whole {
            self.store.set(token, revokes, now);
            let (event, body) = self.event(token, revokes);
            self.store.push(event, body, now);
            self.store.replicate();
            return self.end(token, revokes);
        }
        let half = Half { token, revokes, key: key_first };
        if self.halve(half) {
            self.tokens[token].busy = true;
            let due = now + Duration::from_millis(gap.into());
            self.later.push((due, Half { key: !key_first, ..half }));
        }
    }

    /// What publishers are to do by now.
    pub(super) fn do_what_is_due(&mut self) {
        let now = now();
        let all = std::mem::take(&mut self.later);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at <= now);
        self.later = later;
        for (_, half) in due {
            self.tokens[half.token].busy = false;
            if self.halve(half) {
                self.end(half.token, half.revokes);
            }
        }
    }

    /// Does one half. Returns whether that could be done.
    fn halve(&mut self, Half { token, revokes, key }: Half) -> bool {
        let now = now();
        if key {
            if self.store.up {
                self.store.set(token, revokes, now);
            }
            return self.store.up;
        }
        let (event, body) = self.event(token, revokes);
        if self.broker.publish(event, &body, now) != Confirm::Refused {
            return true;
        }
        if self.store.up {
            self.store.push(event, body, now);
        }
        self.store.up
    }

    fn begin(&mut self, token: usize, revokes: bool) {
        let token = &mut self.tokens[token];
        // Revoking a revoked token changes nothing, unless its key is lost.
        if revokes && matches!(token.truth, Truth::Revoked(_)) && token.lost.is_none() {
            return;
        }
        token.set(Truth::Open);
        if revokes {
            token.revocations.clear();
        } else {
            token.removals.clear();
            token.was_removed = true;
        }
    }

    fn end(&mut self, token: usize, revokes: bool) {
        let has_key = self.store.keys[token].is_some();
        let token = &mut self.tokens[token];
        if !revokes {
            token.set(if has_key { Truth::Open } else { Truth::Clear });
        } else if token.truth == Truth::Open && (has_key || !token.was_removed) {
            token.set(Truth::Revoked(now()));
        }
    }

    fn event(&mut self, token: usize, revokes: bool) -> (EventId, Vec<u8>) {
        self.owners.push(token);
        let (event, jti) = (self.owners.len() as EventId, jti(token));
        let token = &mut self.tokens[token];
        let body = if revokes {
            token.revocations.push(event);
            format!(r#"{{"jti":"{jti}","exp":2000090000,"id":{event}}}"#)
        } else {
            token.removals.push(event);
            format!(r#"{{"type":"remove","jti":"{jti}","id":{event}}}"#)
        };
        self.published.push((event, body.clone().into_bytes()));
        (event, body.into_bytes())
    }

    /// A publisher without a confirmation publishes again, or a relay does.
    pub(super) fn repeat(&mut self, back: usize) {
        let Some(at) = self.published.len().checked_sub(1 + back) else { return };
        let (event, body) = self.published[at].clone();
        self.broker.publish(event, &body, now());
    }

    /// The relay insists that the stream takes what it publishes.
    pub(super) fn relay(&mut self) {
        while self.store.up && self.broker.up && !self.broker.alarm && self.broker.routes() {
            let Some(entry) = self.store.outbox.pop_back() else { return };
            let owner = self.owner(entry.event);
            self.tokens[owner].relayed = now();
            self.broker.publish(entry.event, &entry.body, now());
        }
    }

    /// Another Redis takes over. What it lacks may make the truth uncertain.
    pub(super) fn fail_over(&mut self, lost: usize) {
        let before = self.store.keys;
        let calm = now().saturating_sub(ASKED);
        // Else the replica may have had no answer about an old un-revocation, and asks again.
        let is_calm = self.store_well.is_some_and(|since| since <= calm)
            && self.stops.iter().all(|(_, end)| *end <= calm);
        self.store.fail_over(lost, now());
        for (at, token) in self.tokens.iter_mut().enumerate() {
            let (was, is) = (before[at].is_some(), self.store.keys[at].is_some());
            match token.truth {
                Truth::Clear if is => token.set(Truth::Open),
                Truth::Revoked(_) if was && !is && token.was_removed => {
                    if is_calm {
                        token.lost = Some(now());
                    } else {
                        token.set(Truth::Open);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether the replica may have asked about a token whose key is lost: then an un-revocation from
    /// before is confirmed. It asks for a time after each event of the token.
    pub(super) fn is_doubtful(&self, token: usize) -> bool {
        let Some(lost) = self.tokens[token].lost else { return false };
        let since = lost.saturating_sub(ASKED);
        let is_of_it = |event: EventId| self.owner(event) == token;
        self.tokens[token].relayed >= since
            || self.store.outbox.iter().any(|entry| is_of_it(entry.event))
            || self.broker.handed.iter().any(|(event, at)| *at >= since && is_of_it(*event))
    }

    fn owner(&self, event: EventId) -> usize {
        self.owners[usize::try_from(event).unwrap() - 1]
    }

    /// All is well again.
    pub(super) fn heal(&mut self) {
        let broker = &mut self.broker;
        broker.up = true;
        broker.linked = true;
        broker.silent = false;
        broker.alarm = false;
        broker.delay = Duration::ZERO;
        broker.routes_at = broker.routes_at.min(Instant::now());
        let now = now();
        broker.read(now);
        let store = &mut self.store;
        store.up = true;
        store.linked = true;
        store.silent = false;
        store.slow = Duration::ZERO;
    }

    /// Whether the broker had an alarm before a probe could be sent behind a message that was published
    /// then: no probe proves that the message has arrived.
    pub(super) fn is_unproven(&self, published: Duration) -> bool {
        let present = self.alarm.map(|began| (began, Duration::MAX));
        let mut alarms = self.alarms.iter().copied().chain(present);
        alarms.any(|(begin, end)| begin <= published + PROBED && end > published)
    }

    /// Whether the process was paused then, for at least so long, and goes on.
    pub(super) fn paused_at(&self, then: Duration, long: Duration) -> bool {
        self.stops.iter().any(|(begin, end)| {
            end.saturating_sub(*begin) >= long && (*begin..=*end).contains(&then) && *end > then
        })
    }

    /// How long the process was paused between two times; only pauses shorter than `limit` count.
    pub(super) fn stopped_between(
        &self,
        from: Duration,
        to: Duration,
        limit: Duration,
    ) -> Duration {
        let counts = self.stops.iter().filter(|(begin, end)| end.saturating_sub(*begin) < limit);
        counts.map(|(begin, end)| to.min(*end).saturating_sub(from.max(*begin))).sum()
    }
}

// === impl Token ===

impl Token {
    const fn set(&mut self, truth: Truth) {
        self.truth = truth;
        self.lost = None;
        self.version += 1;
    }
}

/// The id of a token.
pub(super) const fn jti(token: usize) -> &'static str {
    ["good", "t1", "t2", "t3"][token]
}

fn now() -> Duration {
    Duration::from_millis(ambient::boot().as_millis())
}
