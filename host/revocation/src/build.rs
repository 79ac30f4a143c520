//! Building the blacklist from its configuration: the source that feeds it, the lookup of unknown
//! tokens, and the tasks that both need.
//!
//! It reads files and connects to nothing.

use std::{fmt, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

use portcullis_runtime::{
    drain::Drain,
    readiness::Readiness,
    telemetry::{FeedMetrics, Metrics},
};
use tokio::sync::mpsc;

use crate::{
    blacklist::{Blacklist, leased_pair, pair},
    build_error::BuildError,
    config::{Config, RedisConfig, SourceConfig},
    feed::{
        Feed, FeedEvent, Status,
        refresh::{self, Refresh, Refresher, Resyncs},
    },
    lookup::{self, LookupClient, LookupWorker},
    outbox_reader::{self, OutboxTask},
    random,
    redis::{Keeper, Redis},
    revoke::{Replica, Revoker},
    source::{
        local::InProcess,
        stream::{StreamDeps, StreamSource},
        table::TableSource,
    },
};

/// How many receipts may wait to be confirmed. A receipt that finds no room is dropped.
const WAITING_RECEIPTS: usize = 1024;

/// How many events may wait for the feed before their source has to wait.
const WAITING_EVENTS: usize = 1024;

/// Verifiers compare whole seconds: a token is good until the end of the second in which it
/// expires.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

/// A blacklist and everything around it.
#[derive(Debug)]
pub struct RevocationParts {
    /// The set of revoked tokens.
    pub blacklist: Blacklist,
    /// The task that writes it.
    pub feed: Feed,
    /// Revokes tokens on behalf of the admin API.
    pub revocations: Revoker,
    /// The state of the feed, for the admin API and the metrics.
    pub status: Status,
    /// Looks up tokens that the set does not know, if there is a store.
    pub lookups: Option<LookupClient>,
    /// Has the source read everything again, if requests may ask for it.
    pub refresh: Option<Refresh>,
    /// The tasks that run beside the feed.
    pub tasks: Tasks,
    /// The name of this replica in the store, if there is one.
    pub replica: Option<String>,
}

/// The tasks that run beside the feed. They depend on where revocations come from.
#[derive(Default)]
pub struct Tasks(Vec<(&'static str, Box<Task>)>);

type Task = dyn FnOnce(Drain) -> BoxFuture<'static, ()> + Send;

/// How long a revocation outlives its token. `leeway` is the largest leeway of any issuer.
#[must_use]
pub fn margin(config: &Config, leeway: Duration) -> Duration {
    leeway.saturating_add(config.skew.get()).saturating_add(CLOCK_GRAIN)
}

/// A blacklist as `config` describes it. `leeway` is the largest leeway of any issuer.
///
/// `readiness` is held back until [`Feed::run`] has applied the source's snapshot.
///
/// # Errors
/// When the configuration contradicts itself, or a file that it names cannot be used.
pub fn build(
    config: &Config,
    leeway: Duration,
    readiness: &Readiness,
    metrics: &Metrics,
) -> Result<RevocationParts, BuildError> {
    config.check()?;
    let config = &config.resolved();
    let (blacklist, feed, sender, status) = build_feed(config, leeway, readiness, &metrics.feed());
    let local = InProcess::new(sender.clone());
    if config.is_in_process() {
        local.start();
    }
    let redis = config.redis.as_ref().map(|redis| Redis::build(redis, metrics.redis()));
    let (redis, keeper) = redis.transpose()?.unzip();
    let margin = margin(config, leeway);
    let revocations = Revoker::new(config, margin, Some(local), redis.clone());
    let (asked, resyncs) = refresh::build(&config.refresh)?;
    let (refresh, refresher) = asked.unzip();
    let mut parts = RevocationParts {
        blacklist,
        feed,
        revocations,
        status,
        lookups: None,
        refresh,
        tasks: Tasks::default(),
        replica: None,
    };
    parts.tasks.add("redis connection", keeper, Keeper::run);
    parts.tasks.add("blacklist refresher", refresher, Refresher::run);
    // A new kind of source is registered here.
    match (config.source(), redis) {
        (SourceConfig::Stream(section), Some(redis)) => {
            let setup = Setup { config, margin, feed: sender, resyncs, readiness, metrics };
            add_stream(&mut parts, section, redis, setup)?;
        }
        (SourceConfig::Table(table), _) => {
            let source = TableSource::new(table, sender, resyncs, metrics.postgres())?;
            parts.tasks.add("blacklist source", Some(source), TableSource::run);
        }
        (SourceConfig::Local | SourceConfig::Stream(_), _) => parts.feed.keep_open(sender),
    }
    Ok(parts)
}

/// A blacklist for a source that sends its events through the sender. `leeway` is the largest
/// leeway of any issuer.
#[must_use]
pub fn build_feed(
    config: &Config,
    leeway: Duration,
    readiness: &Readiness,
    metrics: &FeedMetrics,
) -> (Blacklist, Feed, mpsc::Sender<FeedEvent>, Status) {
    let margin = margin(config, leeway);
    let (writer, blacklist) = if config.is_in_process() {
        pair(margin)
    } else {
        leased_pair(margin, config.lease_terms())
    };
    let (sender, events) = mpsc::channel(WAITING_EVENTS);
    let (feed, published) = Feed::new((writer, blacklist.clone()), events, config, readiness);
    // It must not hold the metrics, which hold it.
    let summary = published.clone();
    metrics.report(move || summary.borrow().reading());
    let status = Status::new(blacklist.clone(), published, metrics.clone());
    (blacklist, feed, sender, status)
}

/// What the stream source needs from the process.
struct Setup<'a> {
    config: &'a Config,
    margin: Duration,
    feed: mpsc::Sender<FeedEvent>,
    resyncs: Resyncs,
    readiness: &'a Readiness,
    metrics: &'a Metrics,
}

fn add_stream(
    parts: &mut RevocationParts,
    section: &RedisConfig,
    redis: Redis,
    setup: Setup<'_>,
) -> Result<(), BuildError> {
    let Setup { config, margin, feed, resyncs, readiness, metrics } = setup;
    let (outbox, outbox_task, entries) = outbox_reader::build(redis.clone());
    let (lookups, worker) =
        lookup::build(config.mode, section, redis.clone(), outbox.clone(), feed.clone());
    let name = random::random_name()?;
    let (receipts, applied) = mpsc::channel(WAITING_RECEIPTS);
    let replica = Replica::new(name.clone(), redis.clone(), applied, readiness);
    let deps = StreamDeps {
        redis,
        outbox,
        entries,
        feed,
        blacklist: parts.blacklist.clone(),
        resyncs,
        receipts: Some(receipts),
        metrics: metrics.feed(),
        margin,
    };
    let source = StreamSource::new(config, deps, name.clone());
    let source = source.map_err(|error| BuildError::Broker(error.to_string()))?;
    parts.tasks.add("blacklist source", Some(source), StreamSource::run);
    parts.tasks.add("lookup worker", Some(worker), LookupWorker::run);
    parts.tasks.add("outbox reader", Some(outbox_task), OutboxTask::run);
    parts.tasks.add("blacklist replica", Some(replica), Replica::run);
    (parts.lookups, parts.replica) = (Some(lookups), Some(name));
    Ok(())
}

// === impl Tasks ===

impl Tasks {
    /// Adds a task, if it is needed.
    fn add<T, F>(
        &mut self,
        name: &'static str,
        task: Option<T>,
        run: impl FnOnce(T, Drain) -> F + Send + 'static,
    ) where
        T: Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(task) = task else { return };
        self.0.push((name, Box::new(move |drain| run(task, drain).boxed())));
    }

    /// Spawns the tasks.
    pub fn spawn(self, drain: &Drain) {
        for (name, task) in self.0 {
            drain.spawn(name, task(drain.clone()));
        }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}
