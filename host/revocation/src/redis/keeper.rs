//! The connection keeper: one task opens the connections to the primary Redis, checks that they
//! answer and still lead to the primary, and publishes them to all callers of the process.
//!
//! While a connection is being made, callers wait for it, within their own limits. When the last
//! attempt has failed, they fail at once until another one succeeds: no circuit breaker is needed.
//! A caller whose command fails on a connection, or times out, retires the connection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use portcullis_runtime::{drain::Drain, telemetry::RedisMetrics};
use redis::{Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Mutex, MutexGuard, Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    address::RedisAddress,
    connect::RedisConnector,
    error::{StoreError, is_fatal},
};
use crate::backoff::{self, Backoff};

/// Keeps connections open while it runs. Without it, callers time out.
#[derive(Debug)]
#[must_use = "without it there is never a connection"]
pub struct Keeper {
    connector: Arc<RedisConnector>,
    links: Arc<Links>,
    /// Cancelled with the last handle.
    unused: CancellationToken,
}

/// What the keeper publishes.
#[derive(Debug)]
pub(super) struct Links {
    states: watch::Sender<ConnectionState>,
    /// Wakes the keeper to check for the primary now.
    check: Notify,
    /// The turn to send blocking commands. Time spent waiting for other callers is not counted as
    /// Redis' time.
    turn: Mutex<()>,
    metrics: RedisMetrics,
}

/// Whether there is a connection.
#[derive(Debug)]
pub(super) enum ConnectionState {
    /// One is being made.
    Connecting,
    /// There is one.
    Up(Arc<RedisLink>),
    /// There is none; this is the error of the last attempt.
    Down(StoreError),
}

/// Two connections to the same primary.
#[derive(Debug)]
pub(super) struct RedisLink {
    address: RedisAddress,
    /// For commands that are answered at once.
    prompt: MultiplexedConnection,
    /// For blocking commands, such as `WAIT` and `BLPOP`: commands that are sent after them wait as
    /// well.
    waiting: MultiplexedConnection,
    checks: watch::Sender<PrimaryCheck>,
}

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Commands are answered at once.
    Prompt,
    /// Commands block.
    Waiting,
}

/// The result of the last check for the primary.
#[derive(Debug)]
struct PrimaryCheck {
    began: Instant,
    /// Whether the server at the other end is the primary.
    found: Result<(), StoreError>,
}

/// How often connections are pinged.
const PING_INTERVAL: Duration = Duration::from_millis(500);

/// How long the prompt connection may take to answer.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// How long the waiting connection may take: longer than any command blocks it.
const WAITING_PING_LIMIT: Duration = Duration::from_secs(5);

/// How often the keeper checks whether the server is still the primary.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// How long writes rely on the last check.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// The shortest time between two attempts to connect.
const GAP: Duration = Duration::from_millis(100);

/// Pauses between attempts to connect. They are short, so that a Redis that recovers is noticed
/// soon.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

// === impl Keeper ===

impl Keeper {
    /// A keeper and what it publishes. It is no longer needed when `unused` is cancelled.
    pub(super) fn new(
        connector: Arc<RedisConnector>,
        metrics: RedisMetrics,
        unused: CancellationToken,
    ) -> (Self, Arc<Links>) {
        let links = Arc::new(Links {
            states: watch::Sender::new(ConnectionState::Connecting),
            check: Notify::new(),
            turn: Mutex::new(()),
            metrics,
        });
        (Self { connector, links: Arc::clone(&links), unused }, links)
    }

    /// Keeps connections until `drain` has begun and no handle is left: requests in flight then
    /// still need them.
    pub async fn run(self, drain: Drain) {
        let unused = async {
            drain.stopping().await;
            self.unused.cancelled().await;
        };
        tokio::select! {
            () = unused => {}
            never = self.keep() => match never {},
        }
    }

    /// Keeps connections for as long as this is polled.
    pub async fn keep(&self) -> Infallible {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let (mut is_logged_up, mut is_logged_down) = (false, false);
        loop {
            let began = Instant::now();
            match self.connect().await {
                Ok(link) => {
                    backoff.reset();
                    is_logged_down = false;
                    if !is_logged_up {
                        tracing::info!(redis = %link.address, "connected to Redis");
                    }
                    self.links.publish(ConnectionState::Up(Arc::clone(&link)));
                    is_logged_up = !self.until_lost(&link).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_logged_down, true) {
                        tracing::warn!(%error, "cannot connect to Redis");
                    }
                    is_logged_up = false;
                    self.links.publish(ConnectionState::Down(error));
                    sleep(backoff::pause(&backoff)).await;
                    backoff.failed();
                }
            }
            sleep_until(began + GAP).await;
        }
    }

    async fn connect(&self) -> Result<Arc<RedisLink>, StoreError> {
        let began = Instant::now();
        let (prompt, address) = self.connector.connect().await?;
        let waiting = self.connector.connect_again(&address).await?;
        let checks = watch::Sender::new(PrimaryCheck { began, found: Ok(()) });
        Ok(Arc::new(RedisLink { address, prompt, waiting, checks }))
    }

    /// Resolves when `link` is retired, by a caller or by the keeper itself. Returns whether that
    /// was logged: callers of a slow Redis may retire links again and again.
    async fn until_lost(&self, link: &Arc<RedisLink>) -> bool {
        let why = tokio::select! {
            () = self.links.replaced(link) => return false,
            why = unanswered(link.connection(Lane::Prompt), PING_LIMIT) => why,
            why = unanswered(link.connection(Lane::Waiting), WAITING_PING_LIMIT) => why,
            why = self.no_longer_primary(link) => why,
        };
        tracing::warn!(redis = %link.address, %why, "connection to Redis lost; reconnecting");
        self.links.retire(link, ConnectionState::Connecting);
        true
    }

    /// Resolves when the server at the other end is no longer the primary, or when checks have
    /// failed for a whole interval.
    async fn no_longer_primary(&self, link: &RedisLink) -> StoreError {
        let mut in_doubt_since = None;
        loop {
            tokio::select! {
                () = sleep(CHECK_INTERVAL) => {}
                () = self.links.check.notified() => {}
            }
            let began = Instant::now();
            let prompt = link.connection(Lane::Prompt);
            let found = self.connector.check_primary(prompt, &link.address).await;
            link.checks.send_replace(PrimaryCheck { began, found: found.clone() });
            let Err(error) = found else {
                in_doubt_since = None;
                continue;
            };
            if error == StoreError::Moved {
                return error;
            }
            if began >= *in_doubt_since.get_or_insert(began) + CHECK_INTERVAL {
                return error;
            }
            // The password of the sentinels may have been changed.
            self.connector.refresh().await;
        }
    }
}

/// Resolves when `connection` cannot be used any more.
async fn unanswered(mut connection: MultiplexedConnection, limit: Duration) -> StoreError {
    let ping = redis::cmd("PING");
    loop {
        sleep(PING_INTERVAL).await;
        match timeout(limit, ping.query_async::<Value>(&mut connection)).await {
            Err(_) => return StoreError::Timeout(limit),
            Ok(Err(error)) if is_fatal(&error) => return StoreError::of(&error),
            // Some users have no permission for `PING`; an error is an answer as well.
            Ok(_) => {}
        }
    }
}

// === impl Links ===

impl Links {
    /// The present connections. Waits while they are being opened.
    ///
    /// # Errors
    /// At once if Redis cannot be reached.
    pub(super) async fn get(&self) -> Result<Arc<RedisLink>, StoreError> {
        let mut states = self.states.subscribe();
        loop {
            match &*states.borrow_and_update() {
                ConnectionState::Up(link) => return Ok(Arc::clone(link)),
                ConnectionState::Down(why) => return Err(why.clone()),
                ConnectionState::Connecting => {}
            }
            states.changed().await.map_err(|_| StoreError::Closed)?;
        }
    }

    /// Retires `link`, unless it has been retired before.
    pub(super) fn retire(&self, link: &Arc<RedisLink>, next: ConnectionState) {
        self.states.send_if_modified(|state| {
            let is_current = state.is_up(link);
            if is_current {
                self.metrics.set_up(false);
                *state = next;
            }
            is_current
        });
    }

    /// Resolves when the keeper has verified, just now or on demand, that the server at the other
    /// end of `link` is the primary.
    pub(super) async fn confirm(&self, link: &Arc<RedisLink>) -> Result<(), StoreError> {
        let now = Instant::now();
        let is_recent = |check: &PrimaryCheck| check.began + CONFIRMED_FOR > now;
        let mut checks = link.checks.subscribe();
        if !is_recent(&checks.borrow()) {
            self.check.notify_one();
        }
        tokio::select! {
            check = checks.wait_for(is_recent) => {
                check.map_or(Err(StoreError::Closed), |check| check.found.clone())
            }
            () = self.replaced(link) => Err(StoreError::Moved),
        }
    }

    /// The turn to send blocking commands: one caller at a time, so that each has its full time
    /// limit.
    pub(super) async fn turn(&self, limit: Duration) -> Result<MutexGuard<'_, ()>, StoreError> {
        timeout(limit, self.turn.lock()).await.map_err(|_| StoreError::Timeout(limit))
    }

    fn publish(&self, state: ConnectionState) {
        self.states.send_modify(|current| {
            self.metrics.set_up(matches!(state, ConnectionState::Up(_)));
            *current = state;
        });
    }

    /// Resolves when `link` is retired.
    async fn replaced(&self, link: &Arc<RedisLink>) {
        // It cannot fail: the sender is here.
        let _ = self.states.subscribe().wait_for(|state| !state.is_up(link)).await;
    }
}

// === impl ConnectionState ===

impl ConnectionState {
    fn is_up(&self, link: &Arc<RedisLink>) -> bool {
        matches!(self, Self::Up(current) if Arc::ptr_eq(current, link))
    }
}

// === impl RedisLink ===

impl RedisLink {
    /// Whether the server at the other end was the primary at the keeper's last check.
    pub(super) fn last_found(&self) -> Result<(), StoreError> {
        self.checks.borrow().found.clone()
    }

    pub(super) fn connection(&self, lane: Lane) -> MultiplexedConnection {
        match lane {
            Lane::Prompt => self.prompt.clone(),
            Lane::Waiting => self.waiting.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
