//! The source that has a broker and a store: it keeps the feed complete and current, whichever of the
//! two is away.
//!
//! What to do is decided in `core`, which does nothing itself; what is done is done in `driver`.
//! Nothing here waits for a request, and no request waits for anything here.

mod core;
mod driver;
mod message;
mod notes;
mod pulse;
mod removals;
mod rules;
mod steps;
mod tasks;

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub(super) use self::removals::{Removal, Target};
use self::{core::Core, driver::Driver, pulse::Pulse, rules::Rules};
use super::{
    config::Config,
    event::{self, Event},
    feed::FeedEvent,
    lookup::SharedParked,
    rabbitmq::{Broker, BrokerError},
    redis::Redis,
    refresh::Resyncs,
    store::Blacklist,
};
use crate::{drain::Drain, telemetry::FeedMetrics, timestamp::Timestamp};

/// Keeps the feed complete and current while [`Source::run`] runs.
#[derive(Debug)]
pub(super) struct Source {
    core: Core,
    rules: Rules,
    broker: Option<Broker>,
    probes: Probes,
    /// How far clocks may differ.
    skew: Duration,
    /// How often the store is read again.
    resnapshot_interval: Duration,
    ends: Ends,
    /// What we are called at the broker and in our probes.
    replica: String,
}

/// When to look whether messages still arrive.
#[derive(Debug, Clone, Copy)]
struct Probes {
    interval: Duration,
    timeout: Duration,
}

/// Whom the source deals with.
#[derive(Debug)]
pub(super) struct Ends {
    /// The store.
    pub(super) redis: Redis,
    /// How far the outbox has been read.
    pub(super) parked: SharedParked,
    /// The feed.
    pub(super) feed: mpsc::Sender<FeedEvent>,
    /// The set that the feed writes.
    pub(super) blacklist: Blacklist,
    /// Who wants the store read again.
    pub(super) resyncs: Resyncs,
    /// Where the receipts of events go that have taken effect, if anybody wants them.
    pub(super) receipts: Option<mpsc::Sender<String>>,
    /// Where it is counted.
    pub(super) metrics: FeedMetrics,
    /// How long a revocation outlives its token.
    pub(super) margin: Duration,
}

// === impl Source ===

impl Source {
    /// Connects to nothing. `replica` is a name that nobody else has.
    pub(super) fn new(config: &Config, ends: Ends, replica: String) -> Result<Self, BrokerError> {
        let rules = Rules::new(config);
        let broker = config.rabbitmq.as_ref();
        let probes = broker.map_or(Probes::NONE, |broker| Probes {
            interval: broker.probe_interval.get(),
            timeout: broker.probe_timeout.get(),
        });
        let broker = broker.map(|broker| Broker::new(broker, &replica)).transpose()?;
        let resnapshot_interval = config.resnapshot_interval();
        Ok(Self {
            core: Core::new(rules),
            rules,
            broker,
            probes,
            skew: config.skew.get(),
            resnapshot_interval,
            ends,
            replica,
        })
    }

    /// As of a connection that begins now.
    fn pulse(&self) -> Pulse {
        Pulse::new(self.probes.interval, self.probes.timeout, Instant::now())
    }

    /// Counts additions whose expiry hints at times that are written wrongly, at a wrong clock, or at a
    /// publisher that lags behind. They are applied as all others.
    fn count_expiry(&self, event: &Event, message: &[u8]) {
        let Event::Add { expires_at, .. } = event else { return };
        let Ends { metrics, margin, .. } = &self.ends;
        match expires_at {
            Some(expires_at) => {
                // What is replayed was in time once.
                if self.core.is_live() && expires_at.plus(*margin) <= Timestamp::now() {
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

    /// Works until `drain` begins.
    pub(super) async fn run(self, drain: Drain) {
        Driver::new(self).run(drain).await;
    }
}

// === impl Probes ===

impl Probes {
    /// Without a broker, there are none to send.
    const NONE: Self = Self { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) };
}
