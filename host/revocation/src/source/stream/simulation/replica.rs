//! The replica under simulation: the driver, the feed, the set and the lookups as they are, between
//! scripted peers.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use portcullis_runtime::{
    drain::{self, DeadTasks, Drain},
    readiness::Readiness,
    telemetry::FeedMetrics,
};
use portcullis_types::{duration::HumanDuration, token_id::TokenId};
use tokio::task::JoinSet;

use super::{
    judge::{Answer, INTERVAL, MAX_STALENESS},
    peers::Broker,
    plan::TOKENS,
    store::Line,
    world::{Net, jti},
};
use crate::{
    ambient,
    blacklist::{Blacklist, Found},
    build::build_feed,
    config::Config,
    event::PresentedToken,
    feed::refresh,
    lookup::{self, LookupClient},
    outbox_reader,
    redis::Redis,
    source::stream::{StreamDeps, StreamSource},
};

/// A replica that runs until this is dropped.
pub(super) struct Replica {
    blacklist: Blacklist,
    lookups: LookupClient,
    tasks: JoinSet<()>,
    _drain: (Drain, DeadTasks),
}

/// The immediate result of the set for each token, and the lookups in Redis that are in flight.
pub(super) type Checked = Vec<(usize, BoxFuture<'static, Answer>)>;

// === impl Replica ===

impl Replica {
    pub(super) fn start(net: &Arc<Net>) -> Self {
        let config = config();
        let readiness = Readiness::default();
        let metrics = FeedMetrics::default();
        let leeway = Duration::ZERO;
        let (blacklist, feed, sender, _) = build_feed(&config, leeway, &readiness, &metrics);
        let section = config.redis.as_ref().unwrap();
        let redis = Redis::simulated(section, Arc::new(Line(Arc::clone(net))));
        let (outbox, outbox_task, entries) = outbox_reader::build(redis.clone());
        let (lookups, answers) =
            lookup::build(config.mode, section, redis.clone(), outbox.clone(), sender.clone());
        let (_, resyncs) = refresh::build(&config.refresh).unwrap();
        let deps = StreamDeps {
            redis,
            outbox,
            entries,
            feed: sender,
            blacklist: blacklist.clone(),
            resyncs,
            receipts: None,
            metrics,
            margin: Duration::from_secs(6),
        };
        // Each start has another name, so that it does not take probes of an earlier one for its own.
        let name = format!("replica-{}", net.world().starts);
        let mut source = StreamSource::new(&config, deps, name).unwrap();
        source.broker = Some(Broker::Simulated(Arc::clone(net)));
        let (drain, dead) = drain::pair();
        let mut tasks = JoinSet::new();
        tasks.spawn(feed.run(drain.clone()));
        tasks.spawn(answers.run(drain.clone()));
        tasks.spawn(outbox_task.run(drain.clone()));
        tasks.spawn(source.run(drain.clone()));
        Self { blacklist, lookups, tasks, _drain: (drain, dead) }
    }

    /// Whether one of its tasks has ended, which none should.
    pub(super) fn is_dead(&mut self) -> bool {
        self.tasks.try_join_next().is_some()
    }

    /// The result of the set for each token.
    pub(super) fn find(&self) -> [Found; TOKENS] {
        std::array::from_fn(|token| {
            let id = TokenId::new(jti(token)).unwrap();
            self.blacklist.find(&presented_token(&id, token), ambient::now())
        })
    }

    /// Checks all tokens, as the authorizer does.
    pub(super) fn check(&self) -> Checked {
        (0..TOKENS).map(|token| (token, self.check_token(token))).collect()
    }

    fn check_token(&self, token: usize) -> BoxFuture<'static, Answer> {
        let id = TokenId::new(jti(token)).unwrap();
        let now = ambient::now();
        let or_deny = match self.blacklist.find(&presented_token(&id, token), now) {
            Found::Clear => return std::future::ready(Answer::Trusted).boxed(),
            Found::Revoked => return std::future::ready(Answer::Revoked).boxed(),
            Found::Unreliable => return std::future::ready(Answer::NotReady).boxed(),
            Found::Unknown { or_deny } => or_deny,
        };
        let (lookups, blacklist) = (self.lookups.clone(), self.blacklist.clone());
        async move {
            let presented_token = presented_token(&id, token);
            let answer = lookups.ask(&presented_token).await;
            if blacklist.is_blacklisted(&presented_token, now) {
                return Answer::Revoked;
            }
            match answer {
                Ok(events) if events.iter().any(|event| event.covers(&presented_token)) => {
                    Answer::Revoked
                }
                Ok(_) => Answer::Asked,
                Err(_) if or_deny => Answer::Unavailable,
                Err(_) => Answer::Unasked,
            }
        }
        .boxed()
    }
}

fn presented_token(id: &TokenId, token: usize) -> PresentedToken<'_> {
    PresentedToken { token_id: Some(id), jti: Some(jti(token)), ..PresentedToken::default() }
}

fn config() -> Config {
    let millis = |duration: Duration| {
        HumanDuration::from_millis(u64::try_from(duration.as_millis()).unwrap())
    };
    let yaml = "{ rabbitmq: { url: 'amqp://broker' }, redis: { url: 'redis://store' } }";
    let mut config: Config = serde_saphyr::from_str(yaml).unwrap();
    config.max_staleness = millis(MAX_STALENESS);
    config.redis.as_mut().unwrap().resnapshot_interval = millis(INTERVAL);
    config.resolved()
}
