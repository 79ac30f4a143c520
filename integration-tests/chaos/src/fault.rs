//! Owns the kinds of faults, and what each of them excuses.
//!
//! A fault excuses lateness only for as long as nobody can know that it is there. What is known is
//! not an excuse: a replica that lost its broker has to ask the store.

use std::{fmt, time::Duration};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// One replica's connection to the broker is closed, and cannot be made again.
    LinkCut,
    /// All replicas' connections to the broker are.
    LinksCut,
    /// One replica's connection to the broker stays, and is silent.
    LinkFrozen,
    /// One replica hears from the broker only a few bytes at a time.
    SlowConsumer,
    /// The broker is killed, and started again.
    BrokerKilled,
    /// The broker is stopped where it is: its connections stay, and are silent.
    BrokerPaused,
    /// The stream is deleted, with everything in it.
    StreamDeleted,
    /// One replica's own queue is deleted.
    QueueDeleted,
    /// The primary Redis is killed; a sentinel puts the other one in its place.
    RedisKilled,
    /// The primary Redis is stopped where it is.
    RedisPaused,
    /// The sentinels are told to put the other Redis in the primary's place.
    SentinelFailover,
    /// Everything in Redis is deleted.
    RedisFlushed,
    /// The relay is killed in the middle of a step, and started again.
    RelayKilled,
    /// A replica is killed while it serves, and started again.
    ReplicaKilled,
    /// A replica is killed in the middle of a step of its start, and started again.
    ReplicaKilledAtStart,
    /// Far more is published than a replica can apply at once.
    Flood,
}

/// When a fault excuses that an acknowledged revocation is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excuse {
    /// Never.
    Nothing,
    /// From its beginning until silence has to be noticed: then the store is asked.
    UntilNoticed,
    /// As long as it lasts, each revocation may be late by as much as it takes to notice that
    /// events come late.
    WhileItLasts,
    /// As long as it lasts, for revocations that are nowhere but in the store: nobody can read them.
    StoreAway,
    /// For ever, for revocations that were nowhere but in the store.
    StoreEmptied,
}

/// A half-open connection has to be noticed within this time.
pub const NOTICED_WITHIN: Duration = Duration::from_secs(2);

// === impl FaultKind ===

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::LinkCut,
        Self::LinksCut,
        Self::LinkFrozen,
        Self::SlowConsumer,
        Self::BrokerKilled,
        Self::BrokerPaused,
        Self::StreamDeleted,
        Self::QueueDeleted,
        Self::RedisKilled,
        Self::RedisPaused,
        Self::SentinelFailover,
        Self::RedisFlushed,
        Self::RelayKilled,
        Self::ReplicaKilled,
        Self::ReplicaKilledAtStart,
        Self::Flood,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LinkCut => "link-cut",
            Self::LinksCut => "all-links-cut",
            Self::LinkFrozen => "link-frozen",
            Self::SlowConsumer => "slow-consumer",
            Self::BrokerKilled => "broker-killed",
            Self::BrokerPaused => "broker-paused",
            Self::StreamDeleted => "stream-deleted",
            Self::QueueDeleted => "queue-deleted",
            Self::RedisKilled => "redis-killed",
            Self::RedisPaused => "redis-paused",
            Self::SentinelFailover => "sentinel-failover",
            Self::RedisFlushed => "redis-flushed",
            Self::RelayKilled => "relay-killed",
            Self::ReplicaKilled => "replica-killed",
            Self::ReplicaKilledAtStart => "replica-killed-at-start",
            Self::Flood => "flood",
        }
    }

    /// Whether keys may be gone from the store afterwards. Another Redis that becomes the primary
    /// has those only that were copied to it.
    #[must_use]
    pub const fn loses_keys(self) -> bool {
        matches!(self.excuse(), Excuse::StoreAway | Excuse::StoreEmptied)
    }

    /// What it excuses.
    #[must_use]
    pub const fn excuse(self) -> Excuse {
        match self {
            Self::LinkFrozen | Self::BrokerPaused => Excuse::UntilNoticed,
            Self::SlowConsumer | Self::Flood => Excuse::WhileItLasts,
            Self::RedisKilled | Self::RedisPaused | Self::SentinelFailover => Excuse::StoreAway,
            Self::RedisFlushed => Excuse::StoreEmptied,
            _ => Excuse::Nothing,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
