//! Setup of the replicas in a run: how events reach them, and how they decide without events.

use std::time::Duration;

/// The configuration of the replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// How the replicas get their events.
    pub topology: Topology,
    /// Whether a miss in the local set is final.
    pub mode: Mode,
    /// How a token is decided that is not in the set while the set is stale.
    pub while_stale: WhileStale,
    /// How long a replica serves without broker and store.
    pub max_staleness: Duration,
    /// The interval between snapshots of the store.
    pub resnapshot: Duration,
    /// The timeout of a query to the store.
    pub store_timeout: Duration,
    /// Whether a table is the source, in place of a broker and a store.
    pub table: bool,
    /// Whether the wall clocks of the replicas can be set.
    pub clocks: bool,
}

/// How the replicas get their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// Through the stream that all of them read.
    Stream,
    /// Through an exclusive queue of each replica.
    ExclusiveQueue,
}

/// Whether a miss in the local set is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is final.
    Authoritative,
    /// The store is queried, and a hit is added to the set.
    RedisOnMiss,
    /// The store is queried for every check.
    RedisAlways,
}

/// How a token is decided that is not in the set while the set is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileStale {
    /// The store is queried.
    AskRedis,
    /// The token is allowed.
    Serve,
    /// The token is denied.
    Deny,
}

// === impl Setup ===

impl Default for Setup {
    fn default() -> Self {
        Self {
            topology: Topology::Stream,
            mode: Mode::Authoritative,
            while_stale: WhileStale::AskRedis,
            max_staleness: Duration::from_secs(30),
            resnapshot: Duration::from_mins(5),
            store_timeout: Duration::from_millis(100),
            table: false,
            clocks: false,
        }
    }
}

impl Setup {
    /// Its name in reports: the settings that differ from the default.
    #[must_use]
    pub fn name(&self) -> String {
        if self.table {
            return "table".to_owned();
        }
        let mut parts = Vec::new();
        if self.topology == Topology::ExclusiveQueue {
            parts.push(self.topology.as_str());
        }
        if self.mode != Mode::Authoritative {
            parts.push(self.mode.as_str());
        }
        if self.while_stale != WhileStale::AskRedis {
            parts.push(self.while_stale.as_str());
        }
        if parts.is_empty() { "default".to_owned() } else { parts.join(" ") }
    }

    /// Whether the store is queried about every token that is not in the set.
    #[must_use]
    pub fn always_asks(&self) -> bool {
        self.mode != Mode::Authoritative
    }
}

// === impl Topology ===

impl Topology {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::ExclusiveQueue => "exclusive-queue",
        }
    }
}

// === impl Mode ===

impl Mode {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authoritative => "authoritative",
            Self::RedisOnMiss => "redis-on-miss",
            Self::RedisAlways => "redis-always",
        }
    }
}

// === impl WhileStale ===

impl WhileStale {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AskRedis => "ask-redis",
            Self::Serve => "serve",
            Self::Deny => "deny",
        }
    }
}
