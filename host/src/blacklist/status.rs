//! Owns what is told about the blacklist: how far its feed is, how large it is, how old.
//!
//! The feed publishes, the admin API and the metrics read. No decision depends on it.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{progress::State, store::Blacklist};
use crate::{
    telemetry::{FeedMetrics, FeedReading},
    timestamp::Timestamp,
};

/// Tells how the blacklist is. Clones show the same.
#[derive(Debug, Clone)]
pub struct Status {
    blacklist: Blacklist,
    published: watch::Receiver<Published>,
    metrics: FeedMetrics,
}

/// How the blacklist is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedStatus {
    /// Where the feed stands.
    pub state: State,
    /// Since when it stands there.
    pub since: Timestamp,
    /// How long ago the set was last known to be complete, or the store last told what it lacks: zero
    /// while the feed is live, and before the first complete snapshot.
    pub staleness: Duration,
    /// Why the source was last lost.
    pub lost: Option<&'static str>,
    /// Whether the broker delivers, if there is one.
    pub connected: Option<bool>,
    /// How often the connection to the broker was made anew.
    pub reconnects: u64,
    /// The place in the stream of the last message.
    pub offset: Option<u64>,
    /// When the last event or snapshot entry arrived.
    pub last_event_at: Option<Timestamp>,
    /// How many token ids are revoked, expired ones included until they are swept.
    pub entries: usize,
    /// How many cut-offs there are, expired ones included until they are swept.
    pub cutoffs: usize,
}

/// The part that the feed has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Published {
    pub(super) state: State,
    pub(super) since: Timestamp,
    pub(super) stale_since: Option<Instant>,
    pub(super) lost: Option<&'static str>,
    pub(super) last_event_at: Option<Timestamp>,
}

// === impl Status ===

impl Status {
    pub(super) const fn new(
        blacklist: Blacklist,
        published: watch::Receiver<Published>,
        metrics: FeedMetrics,
    ) -> Self {
        Self { blacklist, published, metrics }
    }

    /// How the blacklist is now.
    #[must_use]
    pub fn get(&self) -> FeedStatus {
        let Published { state, since, stale_since, lost, last_event_at } = *self.published.borrow();
        FeedStatus {
            state,
            since,
            staleness: stale_since.map_or(Duration::ZERO, |since| since.elapsed()),
            lost,
            connected: self.metrics.has_broker().then(|| self.metrics.is_connected()),
            reconnects: self.metrics.reconnects(),
            offset: self.metrics.offset(),
            last_event_at,
            entries: self.blacklist.len(),
            cutoffs: self.blacklist.cutoffs(),
        }
    }

    /// The same for the metrics.
    pub(super) fn reading(&self) -> FeedReading {
        let status = self.get();
        FeedReading {
            state: status.state.as_str(),
            states: &State::NAMES,
            staleness: status.staleness,
            last_event_secs: status.last_event_at.map(Timestamp::as_secs),
        }
    }

    /// Resolves once the feed stands at `state`, or has ended.
    pub async fn reached(&mut self, state: State) {
        // An error means that the feed has ended: what it said last is what there is.
        let _ = self.published.wait_for(|published| published.state == state).await;
    }
}
