//! The scripted Redis: keys, the outbox, and its failures.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    broker::EventId,
    plan::TOKENS,
    world::{Net, jti},
};
use crate::redis::{
    StoreError,
    simulated::{Answer, Command, Server},
};

/// Redis and its connections.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) up: bool,
    /// Whether the replica can connect.
    pub(super) linked: bool,
    pub(super) silent: bool,
    pub(super) slow: Duration,
    /// Since when each token has had a key.
    pub(super) keys: [Option<Duration>; TOKENS],
    /// The newest entry first.
    pub(super) outbox: VecDeque<OutboxEntry>,
    /// How many servers were the primary.
    pub(super) primary: u64,
    /// What no other server has, the newest at the end.
    changes: Vec<Change>,
}

/// An entry of the outbox.
#[derive(Debug, Clone)]
pub(super) struct OutboxEntry {
    pub(super) event: EventId,
    pub(super) body: Vec<u8>,
    pub(super) since: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Key { token: usize, before: Option<Duration> },
    Pushed(EventId),
}

/// How long an answer takes.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// How many keys a page has.
const PAGE: usize = 2;
/// Longer than a clock is ever wrong.
const LIFE_MS: i64 = 90_000_000;

// === impl Store ===

impl Store {
    pub(super) const fn new() -> Self {
        Self {
            up: true,
            linked: true,
            silent: false,
            slow: Duration::ZERO,
            keys: [None; TOKENS],
            outbox: VecDeque::new(),
            primary: 1,
            changes: vec![],
        }
    }

    pub(super) fn is_well(&self) -> bool {
        self.up && self.linked && !self.silent && self.slow.is_zero()
    }

    pub(super) fn set(&mut self, token: usize, there: bool, now: Duration) {
        let before = self.keys[token];
        self.changes.push(Change::Key { token, before });
        self.keys[token] = there.then(|| before.unwrap_or(now));
    }

    pub(super) fn push(&mut self, event: EventId, body: Vec<u8>, since: Duration) {
        self.changes.push(Change::Pushed(event));
        self.outbox.push_front(OutboxEntry { event, body, since });
    }

    /// All other servers have what this one has.
    pub(super) fn replicate(&mut self) {
        self.changes.clear();
    }

    /// Another server takes over that lacks so many of the newest changes.
    pub(super) fn fail_over(&mut self, lost: usize, now: Duration) {
        self.primary += 1;
        for _ in 0..lost {
            match self.changes.pop() {
                Some(Change::Key { token, before }) => {
                    self.keys[token] = before.map(|before| {
                        // A key that comes back was away meanwhile.
                        if self.keys[token].is_some() { before } else { now }
                    });
                }
                Some(Change::Pushed(event)) => self.outbox.retain(|entry| entry.event != event),
                None => break,
            }
        }
        self.replicate();
    }

    /// Since when the outbox has had one of these events.
    pub(super) fn pending_since(&self, events: &[EventId]) -> Option<Duration> {
        let pending = self.outbox.iter().filter(|entry| events.contains(&entry.event));
        pending.map(|entry| entry.since).min()
    }

    fn answer(&self, command: &Command) -> Answer {
        let word = |at: usize| command.get(at).map_or("", String::as_str);
        let number = |at: usize| word(at).parse::<usize>().unwrap();
        let text = |text: String| Answer::Text(text.into_bytes());
        let has = |key: &str| {
            let key = key.strip_prefix("blacklist:");
            (0..TOKENS).any(|token| self.keys[token].is_some() && key == Some(jti(token)))
        };
        match word(0) {
            "PING" => text("PONG".to_owned()),
            "EXISTS" => Answer::Int(i64::from(has(word(1)))),
            "PTTL" => Answer::Int(if has(word(1)) { LIFE_MS } else { -2 }),
            "LLEN" => Answer::Int(i64::try_from(self.outbox.len()).unwrap()),
            "LRANGE" => {
                let page = self.outbox.iter().take(number(3) + 1).skip(number(2));
                Answer::List(page.map(|entry| Answer::Text(entry.body.clone())).collect())
            }
            "SCAN" => {
                let (begin, end) = (number(1) * PAGE, (number(1) + 1) * PAGE);
                let next = if end >= TOKENS { 0 } else { number(1) + 1 };
                let page = (begin..end.min(TOKENS)).filter(|token| self.keys[*token].is_some());
                let page = page.map(|token| text(format!("blacklist:{}", jti(token)))).collect();
                Answer::List(vec![text(next.to_string()), Answer::List(page)])
            }
            other => panic!("the simulated Redis does not know {other}"),
        }
    }
}

// === impl Net ===

impl Net {
    async fn ask(self: Arc<Self>, commands: Vec<Command>) -> Result<Vec<Answer>, StoreError> {
        let broken = || StoreError::Broken("simulated".to_owned());
        let answers = |store: &Store| commands.iter().map(|it| store.answer(it)).collect();
        let (early, slow, primary) = {
            let mut world = self.world();
            if !world.store.up || !world.store.linked {
                return Err(broken());
            }
            // It may have been read at the beginning of the round trip, or at its end.
            let early: Option<Vec<Answer>> = world.rng.flip().then(|| answers(&world.store));
            (early, world.store.slow, world.store.primary)
        };
        tokio::time::sleep(ROUND_TRIP + slow).await;
        self.until(|world| !world.store.silent).await;
        let world = self.world();
        if !world.store.up || !world.store.linked || world.store.primary != primary {
            return Err(broken());
        }
        Ok(early.unwrap_or_else(|| answers(&world.store)))
    }
}

/// The server as the client of Redis sees it.
#[derive(Debug)]
pub(super) struct Line(pub(super) Arc<Net>);

impl Server for Line {
    fn answer(
        &self,
        commands: Vec<Command>,
        _limit: Duration,
    ) -> BoxFuture<'static, Result<Vec<Answer>, StoreError>> {
        Arc::clone(&self.0).ask(commands).boxed()
    }

    fn connect(&self) -> BoxFuture<'static, Result<u64, StoreError>> {
        let net = Arc::clone(&self.0);
        async move {
            let asked = Arc::clone(&net).ask(vec![vec!["PING".to_owned()]]);
            let limit = Duration::from_millis(500);
            let asked = tokio::time::timeout(limit, asked).await;
            asked.map_err(|_| StoreError::Timeout(limit))??;
            let primary = net.world().store.primary;
            Ok(primary)
        }
        .boxed()
    }
}
