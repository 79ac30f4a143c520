//! Revocation of tokens: which tokens are no longer good although their signature verifies.
//!
//! One direction: a [`source`] sends events to the [`Feed`], the one task that writes the
//! [`Blacklist`]; checks read it without a lock. What the set does not know, the [`LookupClient`]
//! looks up in Redis. The [`Revoker`] and the [`Relay`] publish. This crate knows neither tokens
//! nor policies nor routes: the caller passes the id, subject, session and issuer of a token.

mod ambient;
mod backoff;
mod blacklist;
mod build;
mod build_error;
mod config;
mod event;
mod feed;
mod lookup;
mod outbox_reader;
mod rabbitmq;
mod random;
mod redis;
mod relay;
mod revoke;
mod source;
mod tls;

pub use self::{
    blacklist::{
        Applied, Blacklist, BlacklistWriter, Found, LeaseTerms, Reliance, leased_pair, pair,
    },
    build::{RevocationParts, Tasks, build, build_feed, margin},
    build_error::BuildError,
    config::{
        Config, ConfigError, Endpoint, EndpointError, Mode, PostgresConfig, RabbitMqConfig,
        RedisConfig, RefreshConfig, Snapshot, Topology, WhileStale,
    },
    event::{
        BlankTargetError, Cutoff, CutoffKind, Event, Exception, Lifetime, ParseEventError,
        ParseTimeError, PresentedToken, Revocation, Target, parse_time, write_time,
    },
    feed::{Feed, FeedEvent, FeedState, FeedStatus, Refresh, Refreshed, Refresher, Status},
    lookup::{AskError, LookupClient, LookupWorker},
    random::RandomError,
    redis::{Keeper as RedisKeeper, Redis, RedisBuildError, StoreError, WriteError},
    relay::{Relay, RelayBuildError},
    revoke::{Receipt, Replica, RevokeError, RevokeOptions, Revoked, Revoker},
    source::local::{Closed, InProcess},
};
