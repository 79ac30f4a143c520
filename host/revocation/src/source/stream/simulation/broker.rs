//! The scripted broker: a stream with offsets, its connections, and its failures.

use std::time::Duration;

use tokio::time::Instant;

/// The broker and its connections.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fact")]
pub(super) struct Broker {
    pub(super) up: bool,
    /// Whether the replica can connect.
    pub(super) linked: bool,
    /// Nothing comes through the replica's connections.
    pub(super) silent: bool,
    pub(super) alarm: bool,
    /// How long messages take that are published now.
    pub(super) delay: Duration,
    pub(super) stream: Option<Vec<Entry>>,
    /// Whether the stream is bound to the exchange.
    pub(super) bound: bool,
    /// Until then nothing that is published reaches the stream, though it is bound.
    pub(super) routes_at: Instant,
    /// The session that lives, and how many there were.
    pub(super) session: Option<u64>,
    pub(super) sessions: u64,
    /// Why the last one ended.
    pub(super) cancelled: bool,
    /// What the replica sent and the broker has not read.
    pub(super) unread: Vec<Vec<u8>>,
    /// Events that were handed to the replica, and when.
    pub(super) handed: Vec<(EventId, Duration)>,
}

/// The event of a message, if it is not a probe.
pub(super) type EventId = u64;

/// A message of the stream.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) body: Vec<u8>,
    pub(super) event: Option<EventId>,
    /// When it was published, by the clock of the outside world.
    pub(super) published: Duration,
    /// When it arrives.
    pub(super) due: Instant,
}

/// The outcome of a message for the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confirm {
    /// It was not taken.
    Refused,
    /// It was confirmed and kept nowhere.
    Forgotten,
    Kept,
}

/// The shortest delay of a message.
pub(super) const UNDER_WAY: Duration = Duration::from_millis(2);

// === impl Broker ===

impl Broker {
    pub(super) fn new() -> Self {
        Self {
            up: true,
            linked: true,
            silent: false,
            alarm: false,
            delay: Duration::ZERO,
            stream: None,
            bound: false,
            routes_at: Instant::now(),
            session: None,
            sessions: 0,
            cancelled: false,
            unread: vec![],
            handed: vec![],
        }
    }

    /// Whether nothing keeps it from working, the binding aside.
    pub(super) fn is_well(&self) -> bool {
        self.delivers() && !self.alarm
    }

    /// Whether what is in the stream arrives in time.
    pub(super) fn delivers(&self) -> bool {
        self.up && self.linked && !self.silent && self.delay.is_zero()
    }

    /// A publisher publishes to the exchange.
    pub(super) fn publish(&mut self, event: EventId, body: &[u8], now: Duration) -> Confirm {
        if !self.up || self.alarm {
            return Confirm::Refused;
        }
        if !self.routes() {
            return Confirm::Forgotten;
        }
        self.append(body.to_vec(), Some(event), now);
        Confirm::Kept
    }

    pub(super) fn routes(&self) -> bool {
        self.bound && self.stream.is_some() && Instant::now() >= self.routes_at
    }

    /// A message reaches the stream, on any path.
    pub(super) fn append(&mut self, body: Vec<u8>, event: Option<EventId>, published: Duration) {
        let due = Instant::now() + UNDER_WAY + self.delay;
        if let Some(stream) = &mut self.stream {
            // Nothing overtakes.
            let due = stream.last().map_or(due, |last| due.max(last.due));
            stream.push(Entry { body, event, published, due });
        }
    }

    /// Takes what waits, unless something keeps it from that.
    pub(super) fn read(&mut self, now: Duration) {
        if !self.silent && !self.alarm {
            for body in std::mem::take(&mut self.unread) {
                self.append(body, None, now);
            }
        }
    }

    /// Makes the stream and the binding where they are missing.
    pub(super) fn declare(&mut self) {
        self.stream.get_or_insert_with(Vec::new);
        self.bound = true;
    }

    pub(super) fn end_session(&mut self, cancelled: bool) {
        self.session = None;
        self.cancelled = cancelled;
        self.unread.clear();
    }

    pub(super) fn die(&mut self, tail: usize) {
        self.up = false;
        self.end_session(false);
        if let Some(stream) = &mut self.stream {
            stream.truncate(stream.len().saturating_sub(tail));
        }
    }

    pub(super) fn delete_stream(&mut self) {
        self.stream = None;
        self.bound = false;
        self.end_session(true);
    }

    /// Since when the stream has had one of these events.
    pub(super) fn has_since(&self, events: &[EventId]) -> Option<Duration> {
        let stream = self.stream.as_ref()?;
        let is_one = |entry: &&Entry| entry.event.is_some_and(|event| events.contains(&event));
        stream.iter().filter(is_one).map(|entry| entry.published).min()
    }

    /// Whether none of these events has arrived yet.
    pub(super) fn is_under_way(&self, events: &[EventId]) -> bool {
        let is_one = |entry: &&Entry| entry.event.is_some_and(|event| events.contains(&event));
        let stream = self.stream.iter().flatten();
        stream.filter(is_one).all(|entry| entry.due > Instant::now())
    }
}
