//! The stream source: it keeps the feed complete and current from a broker and a store, and works
//! on if one of the two is unavailable.
//!
//! Decisions are made in `state`, which is sans-IO; the I/O is done in `driver`. Requests and this
//! source never wait for each other.

mod broker;
mod driver;
mod message;
mod peers;
mod probe_timer;
mod rules;
mod sabotage;
mod state;
mod steps;
mod stream_log;
mod tasks;
mod unrevocations;

use std::time::Duration;

use portcullis_runtime::{drain::Drain, telemetry::FeedMetrics};
use tokio::{sync::mpsc, time::Instant};

use self::{
    broker::Broker, driver::Driver, probe_timer::ProbeTimer, rules::Rules, state::SyncState,
};
use crate::{
    ambient,
    blacklist::Blacklist,
    config::Config,
    event::{self, Event},
    feed::{FeedEvent, refresh::Resyncs},
    outbox_reader::{NewEntries, OutboxReader},
    rabbitmq::BrokerError,
    redis::Redis,
};

/// Keeps the feed complete and current while [`StreamSource::run`] runs.
#[derive(Debug)]
pub(crate) struct StreamSource {
    state: SyncState,
    rules: Rules,
    broker: Option<Broker>,
    probes: ProbeIntervals,
    /// How far clocks may differ.
    skew: Duration,
    /// How often the store is read again.
    resnapshot_interval: Duration,
    deps: StreamDeps,
    /// The name of this replica at the broker and in its probes.
    replica: String,
}

/// When to send probes, and after which silence the broker counts as lost.
#[derive(Debug, Clone, Copy)]
struct ProbeIntervals {
    interval: Duration,
    timeout: Duration,
}

/// The dependencies of the source.
#[derive(Debug)]
pub(crate) struct StreamDeps {
    /// The store.
    pub(crate) redis: Redis,
    /// Reads the outbox.
    pub(crate) outbox: OutboxReader,
    /// What it has found.
    pub(crate) entries: mpsc::Receiver<NewEntries>,
    /// The feed.
    pub(crate) feed: mpsc::Sender<FeedEvent>,
    /// The set that the feed writes.
    pub(crate) blacklist: Blacklist,
    /// Orders to read the store again.
    pub(crate) resyncs: Resyncs,
    /// Where the receipts of applied events go, if they are wanted.
    pub(crate) receipts: Option<mpsc::Sender<String>>,
    /// The metrics of the feed.
    pub(crate) metrics: FeedMetrics,
    /// How long a revocation outlives its token.
    pub(crate) margin: Duration,
}

// === impl StreamSource ===

impl StreamSource {
    /// Connects to nothing. `replica` is the unique name of this replica.
    pub(crate) fn new(
        config: &Config,
        deps: StreamDeps,
        replica: String,
    ) -> Result<Self, BrokerError> {
        let rules = Rules::new(config);
        let broker = config.rabbitmq.as_ref();
        let probes = broker.map_or(ProbeIntervals::NONE, |broker| ProbeIntervals {
            interval: broker.probe_interval.get(),
            timeout: broker.probe_timeout.get(),
        });
        let broker = broker.map(|broker| Broker::new(broker, &replica)).transpose()?;
        if broker.is_some() {
            deps.metrics.expect_broker();
        }
        let resnapshot_interval = config.resnapshot_interval();
        Ok(Self {
            state: SyncState::new(rules),
            rules,
            broker,
            probes,
            skew: config.skew.get(),
            resnapshot_interval,
            deps,
            replica,
        })
    }

    /// A probe timer for a connection that begins now.
    fn probe_timer(&self) -> ProbeTimer {
        ProbeTimer::new(&self.replica, self.probes, Instant::now(), probe_timer::clock())
    }

    /// Counts additions whose expiry is a sign of wrongly written times, a wrong clock, or a
    /// lagging publisher. They are applied as all others.
    fn count_expiry(&self, event: &Event, message: &[u8]) {
        let Event::Add { expires_at, .. } = event else { return };
        let StreamDeps { metrics, margin, .. } = &self.deps;
        match expires_at {
            Some(expires_at) => {
                // Replayed events were in time once.
                if self.state.is_live() && expires_at.plus(*margin) <= ambient::now() {
                    metrics.over();
                }
            }
            None => {
                if event::fields(message).is_ok_and(|fields| event::has_unset_expiry(&fields)) {
                    metrics.unset_expiry();
                }
            }
        }
    }

    /// Runs until `drain` begins.
    pub(crate) async fn run(self, drain: Drain) {
        Driver::new(self).run(drain).await;
    }
}

// === impl ProbeIntervals ===

impl ProbeIntervals {
    /// Without a broker, there are no probes to send.
    const NONE: Self = Self { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) };
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
