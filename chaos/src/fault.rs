//! Kinds of faults: the part that each of them breaks, and the lateness that it excuses.
//!
//! A fault excuses lateness only as long as no replica can detect it. A detected fault is no
//! excuse: a replica that lost its broker must query the store.

use std::{fmt, time::Duration};

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// One replica's connection to the broker is closed, and reconnecting fails.
    LinkCut,
    /// All replicas' connections to the broker are closed, and reconnecting fails.
    LinksCut,
    /// One replica's connection to the broker stays open, and is silent.
    LinkFrozen,
    /// One replica receives from the broker only a few bytes at a time.
    SlowConsumer,
    /// The broker is killed and restarted.
    BrokerKilled,
    /// The broker is paused: its connections stay open, and are silent.
    BrokerPaused,
    /// The broker has an alarm: it accepts no messages, but still delivers.
    BrokerAlarm,
    /// The stream is unbound from the exchange: messages are confirmed, but stored nowhere.
    Unbound,
    /// The stream is deleted, with all messages in it.
    StreamDeleted,
    /// One replica's own queue is deleted.
    QueueDeleted,
    /// The primary Redis is killed; the sentinels promote the other Redis.
    RedisKilled,
    /// The primary Redis is paused.
    RedisPaused,
    /// The sentinels are ordered to fail over to the other Redis.
    SentinelFailover,
    /// Everything in Redis is deleted.
    RedisFlushed,
    /// One replica's connections to both Redis are closed, and reconnecting fails.
    StoreLinkCut,
    /// One replica's connections to both Redis stay open, and are silent.
    StoreLinkFrozen,
    /// One replica's connections to all sentinels are closed, and reconnecting fails.
    SentinelLinksCut,
    /// One replica is cut off from the broker, from Redis and from the sentinels.
    Isolated,
    /// The relay is killed in the middle of a step and restarted.
    RelayKilled,
    /// A replica is killed while it serves, and restarted.
    ReplicaKilled,
    /// A replica is killed in the middle of a step of its start, and restarted.
    ReplicaKilledAtStart,
    /// The process of a replica is stopped (SIGSTOP), and continued.
    ReplicaStopped,
    /// The processes of all replicas are stopped (SIGSTOP), and continued.
    ReplicasStopped,
    /// The wall clock of one replica is wrong by less than the configured skew.
    ClockOff,
    /// The wall clock of one replica jumps by an hour or more, and back.
    ClockJump,
    /// Far more events are published than a replica can apply at once.
    Flood,
    /// One replica's connections to PostgreSQL are closed, and reconnecting fails.
    TableLinkCut,
    /// One replica's connections to PostgreSQL stay open, and are silent.
    TableLinkFrozen,
    /// PostgreSQL is killed and restarted.
    PostgresKilled,
    /// PostgreSQL is paused.
    PostgresPaused,
    /// The table is locked, as by a migration.
    TableLocked,
    /// The trigger of the table is disabled.
    TriggerDisabled,
    /// The table is replaced with a copy without a trigger.
    TableReplaced,
}

/// The part that a fault breaks. Two simultaneous faults break different parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The broker, or the table.
    Broker,
    /// A connection to the broker or the table.
    BrokerLink,
    /// Redis.
    Redis,
    /// A connection to Redis or to the sentinels.
    StoreLink,
    /// The relay.
    Relay,
    /// The process of a replica.
    Replica,
}

/// When a fault excuses that an acknowledged revocation has no effect yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excuse {
    /// Never.
    Nothing,
    /// From its beginning until silence must be detected: from then on, the store is queried.
    UntilNoticed,
    /// As long as it lasts, each revocation may be late by the time that it takes to detect late
    /// events.
    WhileItLasts,
    /// As long as it lasts, for revocations that only the store has: no replica can read them.
    StoreAway,
    /// For ever, for revocations that only the store had.
    StoreEmptied,
    /// While the process is stopped, unless the stop outlasts the lease.
    Stopped,
    /// For events that are confirmed but stored nowhere, until the next snapshot of the store.
    UntilRead,
    /// Until the clock is right again, and the next snapshot of the store is done.
    WrongClock,
}

/// A half-open connection must be detected within this time.
pub const NOTICED_WITHIN: Duration = Duration::from_secs(2);
/// How long a replica trusts its set without a message from the broker, plus the interval in which
/// the lease is renewed.
pub const LEASE: Duration = Duration::from_millis(1700);
/// The broken part is in use again within this time after the fault was healed.
pub const RECOVERED_WITHIN: Duration = Duration::from_secs(6);
/// A replica is ready again within this time after the fault was healed.
pub const READY_WITHIN: Duration = Duration::from_secs(15);

// === impl FaultKind ===

impl FaultKind {
    /// All kinds with a table as the source.
    pub const OF_TABLE: [Self; 11] = [
        Self::TableLinkCut,
        Self::TableLinkFrozen,
        Self::PostgresKilled,
        Self::PostgresPaused,
        Self::TableLocked,
        Self::TriggerDisabled,
        Self::TableReplaced,
        Self::ReplicaKilled,
        Self::ReplicaStopped,
        Self::ReplicasStopped,
        Self::ClockJump,
    ];

    /// All kinds with a broker and a store.
    pub const ALL: [Self; 26] = [
        Self::LinkCut,
        Self::LinksCut,
        Self::LinkFrozen,
        Self::SlowConsumer,
        Self::BrokerKilled,
        Self::BrokerPaused,
        Self::BrokerAlarm,
        Self::Unbound,
        Self::StreamDeleted,
        Self::QueueDeleted,
        Self::RedisKilled,
        Self::RedisPaused,
        Self::SentinelFailover,
        Self::RedisFlushed,
        Self::StoreLinkCut,
        Self::StoreLinkFrozen,
        Self::SentinelLinksCut,
        Self::Isolated,
        Self::RelayKilled,
        Self::ReplicaKilled,
        Self::ReplicaKilledAtStart,
        Self::ReplicaStopped,
        Self::ReplicasStopped,
        Self::ClockOff,
        Self::ClockJump,
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
            Self::BrokerAlarm => "broker-alarm",
            Self::Unbound => "stream-unbound",
            Self::StreamDeleted => "stream-deleted",
            Self::QueueDeleted => "queue-deleted",
            Self::RedisKilled => "redis-killed",
            Self::RedisPaused => "redis-paused",
            Self::SentinelFailover => "sentinel-failover",
            Self::RedisFlushed => "redis-flushed",
            Self::StoreLinkCut => "redis-link-cut",
            Self::StoreLinkFrozen => "redis-link-frozen",
            Self::SentinelLinksCut => "sentinel-links-cut",
            Self::Isolated => "replica-isolated",
            Self::RelayKilled => "relay-killed",
            Self::ReplicaKilled => "replica-killed",
            Self::ReplicaKilledAtStart => "replica-killed-at-start",
            Self::ReplicaStopped => "replica-stopped",
            Self::ReplicasStopped => "all-replicas-stopped",
            Self::ClockOff => "clock-off-within-skew",
            Self::ClockJump => "clock-jump",
            Self::Flood => "flood",
            Self::TableLinkCut => "table-link-cut",
            Self::TableLinkFrozen => "table-link-frozen",
            Self::PostgresKilled => "postgres-killed",
            Self::PostgresPaused => "postgres-paused",
            Self::TableLocked => "table-locked",
            Self::TriggerDisabled => "trigger-disabled",
            Self::TableReplaced => "table-replaced",
        }
    }

    /// The kind with a name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain(Self::OF_TABLE).find(|kind| kind.name() == name)
    }

    /// Whether it is a fault of a broker-and-store cluster.
    #[must_use]
    pub fn is_of_cluster(self) -> bool {
        Self::ALL.contains(&self)
    }

    /// The part that it breaks.
    #[must_use]
    pub const fn part(self) -> Part {
        match self {
            Self::LinkCut
            | Self::LinksCut
            | Self::LinkFrozen
            | Self::SlowConsumer
            | Self::TableLinkCut
            | Self::TableLinkFrozen => Part::BrokerLink,
            Self::BrokerKilled
            | Self::BrokerPaused
            | Self::BrokerAlarm
            | Self::Unbound
            | Self::StreamDeleted
            | Self::QueueDeleted
            | Self::Flood
            | Self::PostgresKilled
            | Self::PostgresPaused
            | Self::TableLocked
            | Self::TriggerDisabled
            | Self::TableReplaced => Part::Broker,
            Self::RedisKilled | Self::RedisPaused | Self::SentinelFailover | Self::RedisFlushed => {
                Part::Redis
            }
            Self::StoreLinkCut
            | Self::StoreLinkFrozen
            | Self::SentinelLinksCut
            | Self::Isolated => Part::StoreLink,
            Self::RelayKilled => Part::Relay,
            Self::ReplicaKilled
            | Self::ReplicaKilledAtStart
            | Self::ReplicaStopped
            | Self::ReplicasStopped
            | Self::ClockOff
            | Self::ClockJump => Part::Replica,
        }
    }

    /// Whether it affects exactly one replica.
    #[must_use]
    pub const fn affects_one(self) -> bool {
        match self.part() {
            Part::BrokerLink => !matches!(self, Self::LinksCut),
            Part::StoreLink => true,
            Part::Replica => !matches!(self, Self::ReplicasStopped),
            Part::Broker => matches!(self, Self::QueueDeleted),
            Part::Redis | Part::Relay => false,
        }
    }

    /// Whether the store may lose keys. A Redis that becomes the primary has only the keys that
    /// were replicated to it.
    #[must_use]
    pub const fn loses_keys(self) -> bool {
        matches!(self.excuse(), Excuse::StoreAway | Excuse::StoreEmptied)
    }

    /// Whether the broker may lose confirmed events.
    #[must_use]
    pub const fn loses_events(self) -> bool {
        matches!(self, Self::StreamDeleted | Self::QueueDeleted | Self::Unbound)
    }

    /// Whether an affected replica may stop trusting its set, and query the store.
    #[must_use]
    pub const fn cuts_off_broker(self) -> bool {
        !matches!(
            self,
            Self::RedisKilled
                | Self::RedisPaused
                | Self::SentinelFailover
                | Self::RedisFlushed
                | Self::StoreLinkCut
                | Self::StoreLinkFrozen
                | Self::SentinelLinksCut
                | Self::RelayKilled
                | Self::ClockOff
                | Self::ClockJump
                | Self::Unbound
                | Self::TableLocked
                | Self::TriggerDisabled
                | Self::TableReplaced
        )
    }

    /// Whether an affected replica may get no answer, or a wrong one, from the store.
    #[must_use]
    pub const fn cuts_off_store(self) -> bool {
        matches!(self.part(), Part::Redis | Part::StoreLink)
    }

    /// Whether the relay cannot publish the outbox during the fault.
    #[must_use]
    pub const fn delays_relay(self) -> bool {
        matches!(
            self,
            Self::RelayKilled
                | Self::BrokerAlarm
                | Self::BrokerKilled
                | Self::BrokerPaused
                | Self::StreamDeleted
                | Self::Unbound
        )
    }

    /// Whether an affected replica may not answer at all.
    #[must_use]
    pub const fn silences_replica(self) -> bool {
        matches!(
            self,
            Self::ReplicaKilled
                | Self::ReplicaKilledAtStart
                | Self::ReplicaStopped
                | Self::ReplicasStopped
        )
    }

    /// The lateness that it excuses.
    #[must_use]
    pub const fn excuse(self) -> Excuse {
        match self {
            Self::LinkFrozen | Self::BrokerPaused => Excuse::UntilNoticed,
            Self::SlowConsumer | Self::Flood => Excuse::WhileItLasts,
            Self::RedisKilled | Self::RedisPaused | Self::SentinelFailover => Excuse::StoreAway,
            Self::RedisFlushed => Excuse::StoreEmptied,
            Self::ReplicaStopped | Self::ReplicasStopped => Excuse::Stopped,
            Self::Unbound | Self::TriggerDisabled | Self::TableReplaced => Excuse::UntilRead,
            Self::ClockJump => Excuse::WrongClock,
            _ => Excuse::Nothing,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
