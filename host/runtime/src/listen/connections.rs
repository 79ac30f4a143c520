//! Connections of an edge: the limit of open connections, which idle one is closed for a new one,
//! and waiting for all of them at shutdown.
//!
//! A limit that only refuses new connections would let idle connections block all other clients. So
//! at the limit, the connection that has been idle for the longest is closed, first those that
//! never made a request. A connection with a request in flight is never closed.

use std::{
    collections::HashMap,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::{
    net::TcpStream,
    task::{AbortHandle, Id, JoinSet},
};

use super::Incoming;
use crate::{
    drain::Drain,
    telemetry::{EdgeConnections, Refusal},
};

/// A new connection.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: TcpStream,
    /// The address of the peer.
    pub peer: SocketAddr,
    /// Counts its requests, so that it does not count as idle.
    pub activity: Activity,
}

/// Counts the requests of one connection. Clones count into the same place.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<Requests>);

/// A request is in flight until this is dropped.
#[derive(Debug)]
pub struct Underway(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// The connections that are open.
struct Open {
    connections: HashMap<Id, Entry>,
    limit: usize,
    metrics: EdgeConnections,
}

struct Entry {
    task: AbortHandle,
    activity: Activity,
    /// How many requests had begun at the last check, and since when the number has not changed.
    begun: u64,
    since: Instant,
}

/// Closed connections whose tasks have not ended yet. Accepting waits while there are more, because
/// they still have their descriptors.
const MAX_CLOSING: usize = 16;

// === impl Incoming ===

impl Incoming {
    /// Serves each connection with the future that `serve` makes, until the drain begins; then
    /// closes the address, and waits until every connection has ended.
    pub async fn serve<S, F>(self, drain: Drain, mut serve: S)
    where
        S: FnMut(Connection) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        // The edge waits for its connections, so the drain that waits for the edge includes them.
        let mut tasks = JoinSet::new();
        let mut open = Open::new(self.limit, self.metrics.clone());
        loop {
            let may_accept = tasks.len() < self.limit.saturating_add(MAX_CLOSING);
            tokio::select! {
                () = drain.stopping() => break,
                (socket, peer) = self.accept(), if may_accept => {
                    if !open.has_room(peer) {
                        continue;
                    }
                    let activity = Activity::default();
                    let connection = Connection { socket, peer, activity: activity.clone() };
                    open.insert(tasks.spawn(serve(connection)), activity);
                }
                Some(ended) = tasks.join_next_with_id() => open.remove(ended_id(&ended)),
            }
        }
        // From now on, new connections are refused by the operating system.
        drop(self);
        while let Some(ended) = tasks.join_next_with_id().await {
            open.remove(ended_id(&ended));
        }
    }
}

fn ended_id(ended: &Result<(Id, ()), tokio::task::JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

// === impl Open ===

impl Open {
    fn new(limit: usize, metrics: EdgeConnections) -> Self {
        metrics.set_limit(limit);
        Self { connections: HashMap::new(), limit, metrics }
    }

    fn insert(&mut self, task: AbortHandle, activity: Activity) {
        let entry = Entry { activity, begun: 0, since: Instant::now(), task };
        self.connections.insert(entry.task.id(), entry);
        self.metrics.set_open(self.connections.len());
    }

    fn remove(&mut self, id: Id) {
        self.connections.remove(&id);
        self.metrics.set_open(self.connections.len());
    }

    /// Whether one more may be opened; an idle one is closed for it if need be.
    fn has_room(&mut self, newcomer: SocketAddr) -> bool {
        if self.connections.len() < self.limit {
            return true;
        }
        let Some(idle) = self.idle_longest(Instant::now()) else {
            self.metrics.refused(Refusal::Limit, Some(newcomer));
            return false;
        };
        if let Some(entry) = self.connections.remove(&idle) {
            self.metrics.refused(Refusal::Idle, Some(newcomer));
            entry.task.abort();
        }
        true
    }

    /// The time at which a request begins is not recorded. So a connection that has made one since
    /// the last check counts as busy until now.
    fn idle_longest(&mut self, now: Instant) -> Option<Id> {
        let idle = self.connections.iter_mut().filter_map(|(id, entry)| {
            let begun = entry.activity.begun();
            if begun != entry.begun {
                (entry.begun, entry.since) = (begun, now);
            }
            (!entry.activity.is_underway()).then_some((begun > 0, entry.since, *id))
        });
        idle.min_by_key(|(has_asked, since, _)| (*has_asked, *since)).map(|(_, _, id)| id)
    }
}

// === impl Activity ===

impl Activity {
    /// A request has begun.
    #[must_use]
    pub fn begin(&self) -> Underway {
        self.0.begun.fetch_add(1, Relaxed);
        Underway(Arc::clone(&self.0))
    }

    /// How many requests have begun.
    #[must_use]
    pub fn begun(&self) -> u64 {
        self.0.begun.load(Relaxed)
    }

    fn is_underway(&self) -> bool {
        self.0.ended.load(Relaxed) != self.0.begun.load(Relaxed)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests;
