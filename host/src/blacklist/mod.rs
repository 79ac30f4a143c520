//! Owns revocation: which tokens are no longer good although they verify.
//!
//! [`Blacklist`] is read by the authorizer, without a lock. [`Feed`] is the one task that writes.
//! It knows neither tokens nor policies nor routes: the authorizer says which id, subject, session
//! and issuer it has in hand.

mod build;
mod config;
mod cutoff;
mod event;
mod extent;
mod feed;
mod in_process;
mod key;
mod lease;
mod lookup;
mod nonce;
mod pause;
mod postgres;
mod progress;
mod rabbitmq;
mod redis;
mod refresh;
mod relay;
mod replica;
mod revocation;
mod revoker;
mod source;
mod status;
mod store;
mod tls;
mod wire_time;

pub use self::{
    build::{BuildError, Parts, Sources, build, build_feed, margin},
    config::{
        Config, ConfigError, Endpoint, EndpointError, Mode, PostgresConfig, RabbitMqConfig,
        RedisConfig, RefreshConfig, Topology, WhileStale,
    },
    cutoff::{BlankCutoffError, Cutoff, CutoffKind},
    event::{Event, ParseEventError},
    extent::Exception,
    feed::{Feed, FeedEvent},
    in_process::{Closed, InProcess},
    lookup::{Answers, AskError, Lookups},
    nonce::NoChance,
    progress::State,
    redis::{BuildError as RedisBuildError, Keeper as RedisKeeper, Redis, StoreError, WriteError},
    refresh::{Refresh, Refreshed, Refresher},
    relay::{Relay, RelayBuildError},
    replica::Replica,
    revocation::{BlankTargetError, Lifetime, Revocation, Target},
    revoker::{Receipt, RevokeError, RevokeOptions, Revoked, Revoker},
    status::{FeedStatus, Status},
    store::{
        Applied, Blacklist, Found, LeaseTerms, Presented, Reliance, Writer, leased_pair, pair,
    },
    wire_time::{ParseTimeError, parse_time, write as write_time},
};
