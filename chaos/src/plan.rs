//! Plan of a run: set-up, tokens, faults and revocations. It depends on the seed alone.
//!
//! The exact times also depend on the machine; the actions, their order and the pauses between them
//! do not.

mod faults;
mod steps;

#[cfg(test)]
mod tests;

use std::{num::NonZeroUsize, time::Duration};

use crate::{
    fault::FaultKind,
    history::{Target, Token},
    moment::Moment,
    random::Random,
    setup::{Mode, Setup, Topology, WhileStale},
};

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Kinds of faults in a run.
    pub faults: usize,
    /// Shortest and longest time without a fault, before each of them and at the end.
    pub quiet: [Duration; 2],
    /// Shortest and longest time that a fault lasts.
    pub lasts: [Duration; 2],
    /// Events of a flood.
    pub flood: u64,
    /// The timeout of a query to the store.
    pub store_timeout: Duration,
    /// The percentage of faults that another one joins.
    pub pairs: u64,
    /// How much longer probers pause than in a run that has the machine for itself.
    pub pause: u32,
}

/// The plan of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The seed of the plan.
    pub seed: u64,
    /// How the replicas are set up.
    pub setup: Setup,
    /// The tokens that exist. [`Plan::steps`] and checks refer to their places.
    pub tokens: Vec<Token>,
    /// How many of them, from the first on, are never revoked.
    pub good: usize,
    /// Faults, one group after the other.
    pub faults: Vec<PlannedGroup>,
    /// The quiet time after the last group.
    pub last_quiet: Duration,
    /// As in [`Scale::pause`].
    pub pause: u32,
    /// The steps of each revoker. It stops when the last fault is over.
    pub steps: [Vec<PlannedStep>; REVOKERS],
}

/// Faults to inject together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedGroup {
    /// The pause after the previous group.
    pub after: Duration,
    /// One fault, or two that break different parts.
    pub faults: Vec<PlannedFault>,
}

/// A fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// Its kind.
    pub kind: FaultKind,
    /// The delay after the begin of the group.
    pub after: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// The replica, for faults that affect one.
    pub replica: usize,
    /// The step of a start or of the relay that it interrupts, modulo the number of steps.
    pub step: usize,
    /// Events to publish, for a flood.
    pub events: u64,
    /// The offset of a wrong clock, in seconds.
    pub offset: i64,
}

/// A step of a revoker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedStep {
    /// The pause after the acknowledgement of the previous step.
    pub after: Duration,
    /// What it does.
    pub action: Action,
}

/// The action of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Revokes.
    Revoke(Target, Path),
    /// Unrevokes a token.
    Unrevoke(usize, Path),
}

/// How a publisher revokes or unrevokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The event, then the key: as existing systems whose worker writes the store.
    EventThenKey,
    /// The key, then the event: as existing systems that write the store themselves.
    KeyThenEvent,
    /// The same, with an event whose expiry is in the past, as from a publisher in a wrong time
    /// zone.
    WrongZone,
    /// `portcullis revoke`.
    Command,
    /// The admin API of the replica with this number.
    Admin(usize),
    /// The same, and waits for receipts.
    AdminWait(usize),
}

/// The number of revokers. With several, a hanging broker does not block all of them.
pub const REVOKERS: usize = 3;
/// The number of replicas.
pub const REPLICAS: usize = 3;
/// Tokens that are never revoked.
const GOOD: usize = 12;
/// A short interval instead of the default, so that it passes during a run: for the next snapshot
/// of the store, and for the expiry of a set without a source.
const SOON: Duration = Duration::from_secs(3);
/// Lifetimes of further tokens, in seconds: they expire during the run.
const SHORT_LIVES: [u64; 3] = [2, 5, 9];

// === impl Scale ===

impl Scale {
    /// For `make test`: as short as possible.
    #[must_use]
    pub const fn short() -> Self {
        let quiet = [Duration::from_millis(100), Duration::from_millis(300)];
        let lasts = [Duration::from_millis(300), Duration::from_secs(2)];
        // Debug builds on busy machines: a healthy store may be slow.
        let store_timeout = Duration::from_secs(2);
        Self { faults: 4, quiet, lasts, flood: 2000, store_timeout, pairs: 60, pause: 1 }
    }

    /// For `make chaos`.
    #[must_use]
    pub const fn long() -> Self {
        let quiet = [Duration::from_millis(400), Duration::from_secs(1)];
        let lasts = [Duration::from_millis(200), Duration::from_secs(4)];
        // A healthy store must answer in time, even if everything runs on one machine.
        let store_timeout = Duration::from_millis(500);
        Self { faults: 4, quiet, lasts, flood: 20_000, store_timeout, pairs: 35, pause: 1 }
    }

    /// The same for so many runs side by side, which together check as often as one.
    #[must_use]
    pub fn side_by_side(self, runs: NonZeroUsize) -> Self {
        Self { pause: u32::try_from(runs.get()).unwrap_or(u32::MAX), ..self }
    }
}

// === impl Plan ===

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, scale: &Scale) -> Self {
        Self::of(seed, scale, &faults::kinds(&FaultKind::ALL, seed, scale.faults))
    }

    /// The plan of a seed with a table as the source.
    #[must_use]
    pub fn of_table(seed: u64, scale: &Scale) -> Self {
        Self::build(seed, scale, &faults::kinds(&FaultKind::OF_TABLE, seed, scale.faults), true)
    }

    /// The plan of a seed with these kinds of faults.
    #[must_use]
    pub fn of(seed: u64, scale: &Scale, kinds: &[FaultKind]) -> Self {
        let table = kinds.iter().any(|kind| !kind.is_of_cluster());
        Self::build(seed, scale, kinds, table)
    }

    fn build(seed: u64, scale: &Scale, kinds: &[FaultKind], table: bool) -> Self {
        let mut random = Random::new(seed);
        let mut kinds = kinds.to_vec();
        let setup = setup(seed, &kinds, scale, table, &mut random);
        let forgets = forgets(setup.topology, &kinds);
        if forgets {
            // A replica that starts, or has lost its queue, can read revocations only from the
            // store. So faults that empty the store, or lose keys that are not replicated, come
            // last.
            kinds.sort_by_key(|kind| kind.loses_keys());
        }
        let faults = faults::groups(&kinds, &setup, scale, &mut random);
        let [least, most] = scale.quiet;
        let last_quiet = random.between(least, most);
        let mut tokens: Vec<_> = (0..GOOD).map(steps::alone).collect();
        for seconds in SHORT_LIVES {
            let expires = Some(Moment::after(Duration::from_secs(seconds)));
            tokens.push(Token { expires, ..steps::alone(tokens.len()) });
        }
        let good = tokens.len();
        let steps = std::array::from_fn(|_| {
            // If events can be lost with their queue, only the store has them: the key must come
            // first.
            steps::of_revoker(forgets, &setup, &mut tokens, &mut random)
        });
        Self { seed, setup, tokens, good, faults, last_quiet, pause: scale.pause, steps }
    }

    /// The kinds of its faults, in their order.
    pub fn kinds(&self) -> impl Iterator<Item = FaultKind> {
        self.faults.iter().flat_map(|group| group.faults.iter().map(|fault| fault.kind))
    }

    /// A readable list of its faults: simultaneous ones are joined by a plus.
    #[must_use]
    pub fn describe(&self) -> String {
        let group = |group: &PlannedGroup| {
            let names: Vec<_> = group.faults.iter().map(|fault| fault.kind.name()).collect();
            names.join(" + ")
        };
        let groups: Vec<_> = self.faults.iter().map(group).collect();
        format!("{}: {}", self.setup.name(), groups.join(", "))
    }
}

/// Whether events can be lost with their queue or stream.
fn forgets(topology: Topology, kinds: &[FaultKind]) -> bool {
    topology == Topology::ExclusiveQueue || kinds.iter().any(|kind| kind.loses_events())
}

fn setup(seed: u64, kinds: &[FaultKind], scale: &Scale, table: bool, random: &mut Random) -> Setup {
    let only = |kind| kinds.contains(&kind);
    let default = Setup::default();
    let expires_soon = only(FaultKind::Isolated) || random.percent(30);
    let max_staleness = if expires_soon { SOON } else { default.max_staleness };
    let clocks = only(FaultKind::ClockOff) || only(FaultKind::ClockJump);
    let store_timeout = scale.store_timeout;
    if table {
        return Setup {
            table: true,
            while_stale: WhileStale::Serve,
            resnapshot: SOON,
            max_staleness,
            clocks,
            ..default
        };
    }
    // An exclusive queue excludes the faults of a stream, and the reverse.
    let own = !only(FaultKind::StreamDeleted)
        && !only(FaultKind::Unbound)
        && (only(FaultKind::QueueDeleted) || random.percent(15));
    let topology = if own { Topology::ExclusiveQueue } else { Topology::Stream };
    let (mode, while_stale) = match seed % 10 {
        3 => (Mode::RedisOnMiss, WhileStale::AskRedis),
        5 => (Mode::RedisAlways, WhileStale::AskRedis),
        7 => (Mode::Authoritative, WhileStale::Serve),
        9 => (Mode::Authoritative, WhileStale::Deny),
        _ => (Mode::Authoritative, WhileStale::AskRedis),
    };
    let reads_often = only(FaultKind::Unbound) || random.percent(30);
    let resnapshot = if reads_often { SOON } else { default.resnapshot };
    // If each check queries the store, a flood of events must not look like an unavailable store.
    let store_timeout = if mode == Mode::Authoritative { store_timeout } else { 4 * store_timeout };
    Setup { topology, mode, while_stale, max_staleness, resnapshot, store_timeout, table, clocks }
}
