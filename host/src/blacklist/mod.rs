//! Owns revocation: which tokens are no longer good although they verify.
//!
//! [`Blacklist`] is read by the authorizer, without a lock. [`Feed`] is the one task that writes.
//! It knows neither tokens nor policies nor routes: the authorizer says which id, subject, session
//! and issuer it has in hand.

mod cutoff;
mod event;
mod feed;
mod in_process;
mod key;
mod progress;
mod status;
mod store;
mod wire_time;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use tokio::sync::mpsc;

pub use self::{
    cutoff::{BlankCutoffError, Cutoff, CutoffKind},
    event::{Event, ParseEventError},
    feed::{Feed, FeedEvent},
    in_process::{Closed, InProcess},
    progress::State,
    status::{FeedStatus, Status},
    store::{Applied, Blacklist, Presented, Writer, pair},
};
use crate::{duration::HumanDuration, readiness::Readiness};

/// How many events may wait for the feed before their source has to.
const WAITING_EVENTS: usize = 1024;

/// Verifiers compare whole seconds: a token is good until the end of the second in which it
/// expires.
const CLOCK_GRAIN: Duration = Duration::from_secs(1);

/// Revocation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Blacklist")]
pub struct Config {
    /// How far the clocks of this machine and of those who revoke tokens may differ. An entry
    /// outlives its token by this and the largest leeway of any issuer.
    pub skew: HumanDuration,
    /// How often expired entries are removed. They count for nothing before that, but take memory.
    #[serde(deserialize_with = "longer_than_zero")]
    pub sweep_interval: HumanDuration,
    /// For how long requests are answered although the source of revocations is out of reach. After
    /// that Portcullis is not ready and denies, until the source is back. `0s` allows no gap at
    /// all.
    pub max_staleness: HumanDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            skew: HumanDuration::from_millis(5_000),
            sweep_interval: HumanDuration::from_millis(60_000),
            max_staleness: HumanDuration::from_millis(30_000),
        }
    }
}

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

fn longer_than_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HumanDuration, D::Error> {
    let duration = HumanDuration::deserialize(deserializer)?;
    if duration.get().is_zero() {
        return Err(serde::de::Error::custom("must be longer than zero, for example 60s"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_section_is_the_default() {
        assert_eq!(serde_json::from_value::<Config>(json!({})).unwrap(), Config::default());
    }

    #[test]
    fn unknown_keys_and_a_zero_sweep_interval_are_refused() {
        let error = serde_json::from_value::<Config>(json!({"sweep": "1s"})).unwrap_err();
        assert!(error.to_string().contains("sweep_interval"), "{error}");
        let error = serde_json::from_value::<Config>(json!({"sweep_interval": "0s"})).unwrap_err();
        assert!(error.to_string().contains("longer than zero"), "{error}");
    }
}
