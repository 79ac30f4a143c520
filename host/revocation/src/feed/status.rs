//! Status of the blacklist for the admin API and the metrics: state of the feed, size and age.
//!
//! The feed publishes it, the admin API and the metrics read it. No decision depends on it.

use std::time::Duration;

use portcullis_runtime::telemetry::{FeedMetrics, FeedReading};
use portcullis_types::timestamp::Timestamp;
use tokio::{sync::watch, time::Instant};

use super::progress::FeedState;
use crate::blacklist::Blacklist;

/// A handle to the status of the blacklist. Clones show the same.
#[derive(Debug, Clone)]
pub struct Status {
    blacklist: Blacklist,
    published: watch::Receiver<FeedSummary>,
    metrics: FeedMetrics,
}

/// The status of the blacklist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedStatus {
    /// The state of the feed.
    pub state: FeedState,
    /// Since when the feed is in this state.
    pub since: Timestamp,
    /// How long ago the set was last known to be complete, or the store last answered for it: zero
    /// while the feed is live, and before the first complete snapshot.
    pub staleness: Duration,
    /// Why the source was last lost.
    pub lost: Option<&'static str>,
    /// Whether the broker delivers, if there is one.
    pub connected: Option<bool>,
    /// How often the connection to the broker was made again.
    pub reconnects: u64,
    /// The offset of the last message in the stream.
    pub offset: Option<u64>,
    /// When the last event or snapshot entry arrived.
    pub last_event_at: Option<Timestamp>,
    /// How many token ids are revoked, expired ones included until they are swept.
    pub entries: usize,
    /// How many cut-offs there are, expired ones included until they are swept.
    pub cutoffs: usize,
}

/// The part of the status that the feed publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FeedSummary {
    pub(crate) state: FeedState,
    pub(crate) since: Timestamp,
    pub(crate) stale_since: Option<Instant>,
    pub(crate) lost: Option<&'static str>,
    pub(crate) last_event_at: Option<Timestamp>,
}

// === impl Status ===

impl Status {
    pub(crate) const fn new(
        blacklist: Blacklist,
        published: watch::Receiver<FeedSummary>,
        metrics: FeedMetrics,
    ) -> Self {
        Self { blacklist, published, metrics }
    }

    /// The present status.
    #[must_use]
    pub fn get(&self) -> FeedStatus {
        let summary = *self.published.borrow();
        let FeedSummary { state, since, lost, last_event_at, .. } = summary;
        FeedStatus {
            state,
            since,
            staleness: summary.staleness(),
            lost,
            connected: self.metrics.has_broker().then(|| self.metrics.is_connected()),
            reconnects: self.metrics.reconnects(),
            offset: self.metrics.offset(),
            last_event_at,
            entries: self.blacklist.len(),
            cutoffs: self.blacklist.cutoffs(),
        }
    }

    /// Resolves once the feed is in the state `state`, or has ended.
    #[cfg(test)]
    pub(crate) async fn reached(&mut self, state: FeedState) {
        // An error means that the feed has ended: its last summary stays valid.
        let _ = self.published.wait_for(|published| published.state == state).await;
    }
}

// === impl FeedSummary ===

impl FeedSummary {
    /// The summary in the form of the metrics.
    pub(crate) fn reading(&self) -> FeedReading {
        FeedReading {
            state: self.state.as_str(),
            states: &FeedState::NAMES,
            staleness: self.staleness(),
            last_event_secs: self.last_event_at.map(Timestamp::as_secs),
        }
    }

    fn staleness(&self) -> Duration {
        self.stale_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
