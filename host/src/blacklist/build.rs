//! Owns putting the blacklist together from its configuration: which source feeds it, who answers
//! what it does not know, and what has to run for that.
//!
//! It reads files and connects to nothing.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    config::{Config, ConfigError, EndpointError, PostgresConfig, RedisConfig},
    feed::{Feed, FeedEvent},
    in_process::InProcess,
    lookup::{self, Answers, Lookups, SharedParked},
    nonce::{self, NoChance},
    postgres, rabbitmq,
    redis::{self, Keeper, Redis},
    refresh::{self, Refresh, Refresher},
    replica::Replica,
    revoker::Revoker,
    source::{Ends, Source},
    status::Status,
    store::{Blacklist, leased_pair, pair},
};
use crate::{
    drain::Drain,
    readiness::Readiness,
    secret::ReadSecretError,
    telemetry::{FeedMetrics, Metrics},
};

/// The blacklist cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Sections contradict each other, or a name is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another service cannot be addressed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The broker is configured in a way that cannot work.
    #[error("{0}")]
    Broker(String),
    /// The store is configured in a way that cannot work.
    #[error(transparent)]
    Redis(#[from] redis::BuildError),
    /// The secret of those who ask for a refresh.
    #[error("`blacklist.refresh.secret_file`: {0}")]
    RefreshSecret(#[from] ReadSecretError),
    /// This replica gets no name.
    #[error(transparent)]
    NoChance(#[from] NoChance),
}

/// How many receipts may wait to be told. One that finds no room is not told.
const WAITING_RECEIPTS: usize = 1024;

/// How many events may wait for the feed before their source has to.
const WAITING_EVENTS: usize = 1024;

/// Verifiers compare whole seconds: a token is good until the end of the second in which it
/// expires.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

/// A blacklist and everything around it.
#[derive(Debug)]
pub struct Parts {
    /// Which tokens are revoked.
    pub blacklist: Blacklist,
    /// The task that writes it.
    pub feed: Feed,
    /// Where revocations go that are made through this process.
    pub revocations: Revoker,
    /// How it is.
    pub status: Status,
    /// Who knows what it does not, if anybody does.
    pub lookups: Option<Lookups>,
    /// Who has everything read again, if requests may ask for it.
    pub refresh: Option<Refresh>,
    /// What has to run beside the feed.
    pub sources: Sources,
    /// What this replica is called in the store, if there is one.
    pub replica: Option<String>,
}

/// What has to run beside the feed, depending on where revocations come from.
#[derive(Debug, Default)]
pub struct Sources {
    keeper: Option<Keeper>,
    store: Option<Source>,
    answers: Option<Answers>,
    postgres: Option<postgres::Source>,
    refresher: Option<Refresher>,
    replica: Option<Replica>,
}

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
) -> Result<Parts, BuildError> {
    config.check()?;
    let config = &config.resolved();
    let (blacklist, feed, sender, status) = build_feed(config, leeway, readiness, &metrics.feed());
    let local = if config.is_in_process() {
        InProcess::start(sender.clone())
    } else {
        InProcess::beside(sender.clone())
    };
    let redis = config.redis.as_ref().map(|redis| Redis::build(redis, metrics.redis()));
    let (redis, keeper) = redis.transpose()?.unzip();
    let revocations = Revoker::new(config, margin(config, leeway), Some(local), redis.clone());
    let parts = |feed| Parts {
        blacklist,
        feed,
        revocations,
        status,
        lookups: None,
        refresh: None,
        sources: Sources { keeper, ..Sources::default() },
        replica: None,
    };
    match (&config.postgres, &config.redis, redis) {
        (Some(postgres), ..) => {
            let around = Surroundings { feed: sender, readiness, metrics };
            with_postgres(parts(feed), config, postgres, around)
        }
        (None, Some(section), Some(redis)) => {
            let margin = margin(config, leeway);
            let around = Surroundings { feed: sender, readiness, metrics };
            with_store(parts(feed), config, (section, redis), margin, around)
        }
        (None, ..) => Ok(parts(feed.keep_open(sender))),
    }
}

/// A blacklist for a source of its own, which speaks through the sender. `leeway` is the largest
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
    let status = Status::new(blacklist.clone(), published, metrics.clone());
    let read = status.clone();
    metrics.report(move || read.reading());
    (blacklist, feed, sender, status)
}

/// What a source is put into.
struct Surroundings<'a> {
    feed: mpsc::Sender<FeedEvent>,
    readiness: &'a Readiness,
    metrics: &'a Metrics,
}

fn with_postgres(
    parts: Parts,
    config: &Config,
    postgres: &PostgresConfig,
    around: Surroundings<'_>,
) -> Result<Parts, BuildError> {
    let Surroundings { feed, metrics, .. } = around;
    let (asked, resyncs) = refresh::build(&config.refresh)?;
    let (refresh, refresher) = asked.unzip();
    let postgres = postgres::Source::new(postgres, feed, resyncs, metrics.postgres())?;
    let sources = Sources { refresher, postgres: Some(postgres), ..Sources::default() };
    Ok(Parts { refresh, sources, ..parts })
}

fn with_store(
    parts: Parts,
    config: &Config,
    (section, redis): (&RedisConfig, Redis),
    margin: Duration,
    around: Surroundings<'_>,
) -> Result<Parts, BuildError> {
    let Surroundings { feed, readiness, metrics } = around;
    let (asked, resyncs) = refresh::build(&config.refresh)?;
    let (refresh, refresher) = asked.unzip();
    let outbox = SharedParked::default();
    let (lookups, answers) =
        lookup::build(config.mode, section, redis.clone(), Arc::clone(&outbox), feed.clone());
    let name = nonce::random_name()?;
    let (receipts, applied) = mpsc::channel(WAITING_RECEIPTS);
    let replica = Replica::new(name.clone(), redis.clone(), applied, readiness);
    let ends = Ends {
        redis,
        parked: outbox,
        feed,
        blacklist: parts.blacklist.clone(),
        resyncs,
        receipts: Some(receipts),
        metrics: metrics.feed(),
        margin,
    };
    let source = Source::new(config, ends, name.clone())?;
    let sources = Sources {
        store: Some(source),
        answers: Some(answers),
        refresher,
        replica: Some(replica),
        ..parts.sources
    };
    Ok(Parts { lookups: Some(lookups), refresh, sources, replica: Some(name), ..parts })
}

// === impl Sources ===

impl Sources {
    /// Runs what has to run beside the feed.
    pub fn spawn(self, drain: &Drain) {
        let Self { keeper, store, answers, postgres, refresher, replica } = self;
        if let Some(keeper) = keeper {
            drain.spawn("redis connection", keeper.run(drain.clone()));
        }
        if let Some(store) = store {
            drain.spawn("blacklist source", store.run(drain.clone()));
        }
        if let Some(answers) = answers {
            drain.spawn("blacklist answers", answers.run(drain.clone()));
        }
        if let Some(postgres) = postgres {
            drain.spawn("blacklist source", postgres.run(drain.clone()));
        }
        if let Some(replica) = replica {
            drain.spawn("blacklist replica", replica.run(drain.clone()));
        }
        if let Some(refresher) = refresher {
            drain.spawn("blacklist refresher", refresher.run(drain.clone()));
        }
    }
}

// === impl BuildError ===

impl From<rabbitmq::BrokerError> for BuildError {
    fn from(error: rabbitmq::BrokerError) -> Self {
        Self::Broker(error.to_string())
    }
}
