//! Connections to the primary Redis: one task makes them, watches that they answer and that they
//! still lead to the primary, and publishes them to all callers of the process.
//!
//! While a connection is being made, callers wait for it, within their own limits. When the last
//! attempt has failed, they fail at once until another one succeeds: no circuit breaker is needed.
//! A caller whose command breaks on a connection, or runs out of time, gives the connection up.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use redis::{Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Mutex, MutexGuard, Notify, watch},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::pause,
    address::Address,
    connect::{Connection, Connector, Standing},
    error::{StoreError, is_fatal},
};
use crate::{drain::Drain, telemetry::RedisMetrics};

/// Keeps connections while it runs. Without it, callers wait in vain.
#[derive(Debug)]
#[must_use = "without it there is never a connection"]
pub struct Keeper {
    connector: Arc<Connector>,
    links: Arc<Links>,
    /// Cancelled with the last handle.
    unused: CancellationToken,
}

/// What the keeper publishes.
#[derive(Debug)]
pub(super) struct Links {
    states: watch::Sender<State>,
    /// Asks the keeper to look for the primary now.
    look: Notify,
    /// The turn to send commands that wait. Time spent behind those of others is not Redis' fault.
    turn: Mutex<()>,
    metrics: RedisMetrics,
}

/// Whether there is a connection.
#[derive(Debug)]
pub(super) enum State {
    /// One is being made.
    Connecting,
    /// There is one.
    Up(Arc<Link>),
    /// There is none, and this is what the last attempt has shown.
    Down(StoreError),
}

/// Two connections to the same primary.
pub(super) struct Link {
    address: Address,
    /// For what is answered at once.
    prompt: MultiplexedConnection,
    /// For commands that wait, such as `WAIT` and `BLPOP`: what is sent after them waits as well.
    waiting: MultiplexedConnection,
    looks: watch::Sender<Look>,
}

/// Which of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Commands are answered at once.
    Prompt,
    /// Commands wait.
    Waiting,
}

/// What was found when the keeper last looked for the primary.
#[derive(Debug)]
struct Look {
    began: Instant,
    /// Whether the server at the other end is it.
    found: Result<(), StoreError>,
}

/// How often connections are tried.
const PING_INTERVAL: Duration = Duration::from_millis(500);

/// How long the prompt connection may take to answer.
const PING_LIMIT: Duration = Duration::from_secs(1);

/// How long the other one may take: longer than any command waits on it.
const WAITING_PING_LIMIT: Duration = Duration::from_secs(5);

/// How often the keeper looks whether the server is the primary still.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// For how long writes rely on the last look.
const CONFIRMED_FOR: Duration = Duration::from_secs(1);

/// No two attempts to connect begin within this time.
const GAP: Duration = Duration::from_millis(100);

/// After so many failures in a row, pauses between attempts do not grow any more: half a second at
/// the most, so that a Redis that is back is noticed soon.
const LONGEST_PAUSE_AFTER: u32 = 3;

// === impl Keeper ===

impl Keeper {
    /// A keeper and what it publishes. It is no longer needed when `unused` is cancelled.
    pub(super) fn new(
        connector: Arc<Connector>,
        metrics: RedisMetrics,
        unused: CancellationToken,
    ) -> (Self, Arc<Links>) {
        let links = Arc::new(Links {
            states: watch::Sender::new(State::Connecting),
            look: Notify::new(),
            turn: Mutex::new(()),
            metrics,
        });
        (Self { connector, links: Arc::clone(&links), unused }, links)
    }

    /// Keeps connections until `drain` has begun and no handle is left: requests that are under way
    /// then still ask.
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
        let (mut failures, mut is_logged_up) = (0, false);
        loop {
            let began = Instant::now();
            match self.connect().await {
                Ok(link) => {
                    failures = 0;
                    if !is_logged_up {
                        tracing::info!(redis = %link.address, "Redis answers");
                    }
                    self.links.publish(State::Up(Arc::clone(&link)));
                    is_logged_up = !self.until_lost(&link).await;
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::warn!(%error, "Redis does not answer");
                    }
                    is_logged_up = false;
                    self.links.publish(State::Down(error));
                    failures += 1;
                    sleep(pause::before_connecting(failures.min(LONGEST_PAUSE_AFTER), 0)).await;
                }
            }
            sleep_until(began + GAP).await;
        }
    }

    async fn connect(&self) -> Result<Arc<Link>, StoreError> {
        let began = Instant::now();
        let Connection { to: prompt, address } = self.connector.connect().await?;
        let waiting = self.connector.connect_again(&address).await?;
        let looks = watch::Sender::new(Look { began, found: Ok(()) });
        Ok(Arc::new(Link { address, prompt, waiting, looks }))
    }

    /// Resolves when `link` is given up, by a caller or by the keeper itself. Returns whether the log
    /// says so: callers of a slow Redis may do it again and again.
    async fn until_lost(&self, link: &Arc<Link>) -> bool {
        let why = tokio::select! {
            () = self.links.replaced(link) => return false,
            why = unanswered(link.connection(Lane::Prompt), PING_LIMIT) => why,
            why = unanswered(link.connection(Lane::Waiting), WAITING_PING_LIMIT) => why,
            why = self.no_longer_primary(link) => why,
        };
        tracing::warn!(redis = %link.address, %why, "the connection to Redis is given up");
        self.links.give_up(link, State::Connecting);
        true
    }

    /// Resolves when the server at the other end is not the primary any more, or when for a whole
    /// interval nothing could be learnt about it.
    async fn no_longer_primary(&self, link: &Link) -> StoreError {
        let mut in_doubt_since = None;
        loop {
            tokio::select! {
                () = sleep(LOOK_INTERVAL) => {}
                () = self.links.look.notified() => {}
            }
            let began = Instant::now();
            let prompt = link.connection(Lane::Prompt);
            let found = match self.connector.standing(prompt, &link.address).await {
                Standing::Primary => Ok(()),
                Standing::Former => Err(StoreError::Moved),
                Standing::Unknown(error) => Err(error),
            };
            link.looks.send_replace(Look { began, found: found.clone() });
            let Err(error) = found else {
                in_doubt_since = None;
                continue;
            };
            if error == StoreError::Moved {
                return error;
            }
            if began >= *in_doubt_since.get_or_insert(began) + LOOK_INTERVAL {
                return error;
            }
            // The password of the sentinels may have been changed.
            self.connector.refresh().await;
        }
    }
}

/// Resolves when `connection` is of no more use.
async fn unanswered(mut connection: MultiplexedConnection, limit: Duration) -> StoreError {
    let ping = redis::cmd("PING");
    loop {
        sleep(PING_INTERVAL).await;
        match timeout(limit, ping.query_async::<Value>(&mut connection)).await {
            Err(_) => return StoreError::Timeout(limit),
            Ok(Err(error)) if is_fatal(&error) => return StoreError::of(&error),
            // Some users may not ask; that is an answer as well.
            Ok(_) => {}
        }
    }
}

// === impl Links ===

impl Links {
    /// The present connections. Waits while they are being made.
    ///
    /// # Errors
    /// At once if Redis cannot be reached; with `limit` in its words if the time is up.
    pub(super) async fn get(
        &self,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Arc<Link>, StoreError> {
        let mut states = self.states.subscribe();
        let decided = states.wait_for(|state| !matches!(state, State::Connecting));
        match timeout_at(deadline, decided).await {
            Err(_) => Err(StoreError::Timeout(limit)),
            Ok(Err(_)) => Err(StoreError::Closed),
            Ok(Ok(state)) => match &*state {
                State::Up(link) => Ok(Arc::clone(link)),
                State::Down(why) => Err(why.clone()),
                State::Connecting => Err(StoreError::Timeout(limit)),
            },
        }
    }

    /// Gives `link` up, unless it has been given up before.
    pub(super) fn give_up(&self, link: &Arc<Link>, next: State) {
        self.states.send_if_modified(|state| {
            let is_current = state.is_up(link);
            if is_current {
                self.metrics.set_up(false);
                *state = next;
            }
            is_current
        });
    }

    /// Resolves when the server at the other end of `link` is the primary, as the keeper has just
    /// seen or sees now.
    pub(super) async fn confirm(
        &self,
        link: &Arc<Link>,
        deadline: Instant,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let now = Instant::now();
        let is_recent = |look: &Look| look.began + CONFIRMED_FOR > now;
        let mut looks = link.looks.subscribe();
        if !is_recent(&looks.borrow()) {
            self.look.notify_one();
        }
        tokio::select! {
            look = looks.wait_for(is_recent) => {
                look.map_or(Err(StoreError::Closed), |look| look.found.clone())
            }
            () = self.replaced(link) => Err(StoreError::Moved),
            () = sleep_until(deadline) => Err(StoreError::Timeout(limit)),
        }
    }

    /// The turn to send commands that wait: of several callers one at a time, so that each has the
    /// whole of its own limit.
    pub(super) async fn turn(&self, limit: Duration) -> Result<MutexGuard<'_, ()>, StoreError> {
        timeout(limit, self.turn.lock()).await.map_err(|_| StoreError::Timeout(limit))
    }

    fn publish(&self, state: State) {
        self.states.send_modify(|current| {
            self.metrics.set_up(matches!(state, State::Up(_)));
            *current = state;
        });
    }

    /// Resolves when `link` is given up.
    async fn replaced(&self, link: &Arc<Link>) {
        // It cannot fail: the sender is here.
        let _ = self.states.subscribe().wait_for(|state| !state.is_up(link)).await;
    }
}

// === impl State ===

impl State {
    fn is_up(&self, link: &Arc<Link>) -> bool {
        matches!(self, Self::Up(current) if Arc::ptr_eq(current, link))
    }
}

// === impl Link ===

impl Link {
    /// Whether the server at the other end was the primary when the keeper last looked.
    pub(super) fn last_found(&self) -> Result<(), StoreError> {
        self.looks.borrow().found.clone()
    }

    pub(super) fn connection(&self, lane: Lane) -> MultiplexedConnection {
        match lane {
            Lane::Prompt => self.prompt.clone(),
            Lane::Waiting => self.waiting.clone(),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("address", &self.address).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
