//! Owns revocation: which tokens are no longer good although they verify.
//!
//! [`Blacklist`] is read by the authorizer, without a lock. [`Feed`] is the one task that writes.
//! It knows neither tokens nor policies nor routes: the authorizer says which id, subject, session
//! and issuer it has in hand.

mod backoff;
mod breaker;
mod config;
mod cutoff;
mod event;
mod feed;
mod in_process;
mod key;
mod lookup;
mod nonce;
mod postgres;
mod progress;
mod rabbitmq;
mod redis;
mod refresh;
mod source;
mod status;
mod store;
mod tls;
mod wire_time;

use std::time::Duration;

use tokio::sync::mpsc;

pub use self::redis::{BuildError as RedisBuildError, Redis, StoreError};
pub use self::{
    config::{
        BreakerConfig, Config, ConfigError, Endpoint, EndpointError, Mode, PostgresConfig,
        RabbitMqConfig, RedisConfig, RefreshConfig, Topology, WhileStale,
    },
    cutoff::{BlankCutoffError, Cutoff, CutoffKind},
    event::{Event, ParseEventError},
    feed::{Feed, FeedEvent},
    in_process::{Closed, InProcess},
    lookup::{Answers, AskError, Lookups, build as build_lookups},
    progress::State,
    refresh::{Refresh, Refreshed, Refresher},
    status::{FeedStatus, Status},
    store::{Applied, Blacklist, Found, Presented, Reliance, Writer, pair},
};
use crate::{drain::Drain, readiness::Readiness, secret::ReadSecretError};

/// The blacklist cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Sections contradict each other, or a name is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another service cannot be addressed.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The secret of those who ask for a refresh.
    #[error("`blacklist.refresh.secret_file`: {0}")]
    RefreshSecret(#[from] ReadSecretError),
}

/// How many events may wait for the feed before their source has to.
const WAITING_EVENTS: usize = 1024;

/// Verifiers compare whole seconds: a token is good until the end of the second in which it
/// expires.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

/// A blacklist that is fed from within the process. `leeway` is the largest leeway of any issuer.
///
/// `readiness` is held back until [`Feed::run`] has applied the source's snapshot.
#[must_use]
pub fn build(
    config: &Config,
    leeway: Duration,
    readiness: &Readiness,
) -> (Blacklist, Feed, InProcess, Status) {
    let (blacklist, feed, sender, status) = build_feed(config, leeway, readiness);
    let feed = feed.keep_open(sender.clone());
    (blacklist, feed, InProcess::start(sender), status)
}

/// What there is besides the feed, depending on where revocations come from.
#[derive(Debug)]
pub struct Sources {
    /// Who reads everything again when a request asks for it, if requests may.
    pub refresh: Option<Refresh>,
    refresher: Option<Refresher>,
    postgres: postgres::Source,
}

/// A blacklist that follows a table of PostgreSQL. `leeway` is the largest leeway of any issuer.
///
/// # Errors
/// When the table, the address or a file cannot be used.
pub fn build_postgres(
    config: &Config,
    postgres: &PostgresConfig,
    leeway: Duration,
    readiness: &Readiness,
) -> Result<(Blacklist, Feed, InProcess, Status, Sources), BuildError> {
    let (blacklist, feed, sender, status) = build_feed(config, leeway, readiness);
    let (asked, resyncs) = refresh::build(&config.refresh)?;
    let (refresh, refresher) = asked.unzip();
    let postgres = postgres::Source::new(postgres, sender.clone(), resyncs)?;
    let sources = Sources { refresh, refresher, postgres };
    Ok((blacklist, feed, InProcess::beside(sender), status, sources))
}

/// A blacklist for a source of its own, which speaks through the sender. `leeway` is the largest
/// leeway of any issuer.
#[must_use]
pub fn build_feed(
    config: &Config,
    leeway: Duration,
    readiness: &Readiness,
) -> (Blacklist, Feed, mpsc::Sender<FeedEvent>, Status) {
    let margin = leeway.saturating_add(config.skew.get()).saturating_add(CLOCK_GRAIN);
    let (writer, blacklist) = pair(margin);
    let (sender, events) = mpsc::channel(WAITING_EVENTS);
    let (feed, published) = Feed::new(writer, events, config, readiness);
    let status = Status::new(blacklist.clone(), published);
    (blacklist, feed, sender, status)
}

// === impl Sources ===

impl Sources {
    /// Runs what has to run beside the feed.
    pub fn spawn(self, drain: &Drain) {
        drain.spawn("blacklist source", self.postgres.run(drain.clone()));
        if let Some(refresher) = self.refresher {
            drain.spawn("blacklist refresher", refresher.run(drain.clone()));
        }
    }
}
