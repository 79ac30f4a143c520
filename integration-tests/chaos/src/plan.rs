//! Owns what a run is going to do: it follows from the seed, and from nothing else.
//!
//! When something happens depends on the machine too; what happens, in which order and after which
//! pauses, does not.

use std::time::Duration;

use crate::{
    fault::{Excuse, FaultKind},
    history::{Target, Token},
    random::Random,
};

/// How much a run does.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Faults in a run.
    pub faults: usize,
    /// Shortest and longest time without a fault, before each of them and at the end.
    pub quiet: [Duration; 2],
    /// Shortest and longest time that a fault lasts.
    pub lasts: [Duration; 2],
    /// Events of a flood.
    pub flood: u64,
}

/// What a run is going to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it follows from.
    pub seed: u64,
    /// How the replicas get their events.
    pub topology: Topology,
    /// The tokens that exist. [`Plan::revocations`] and checks refer to their places.
    pub tokens: Vec<Token>,
    /// How many of them, from the beginning, nobody ever revokes.
    pub good: usize,
    /// Faults, one after the other.
    pub faults: Vec<PlannedFault>,
    /// How long nothing happens after the last one.
    pub last_quiet: Duration,
    /// For each revoker, what it revokes. It stops when the last fault is over.
    pub revocations: [Vec<PlannedRevocation>; REVOKERS],
}

/// How the replicas get their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// Through the stream that all of them read.
    Stream,
    /// Through a queue of each replica's own.
    ExclusiveQueue,
}

/// A fault to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// What.
    pub kind: FaultKind,
    /// How long after the end of the one before.
    pub after: Duration,
    /// How long.
    pub lasts: Duration,
    /// The replica, for faults that befall one.
    pub replica: usize,
    /// Which step of a start or of a relay's work it interrupts, counted on beyond the last one.
    pub step: usize,
    /// Events to publish, for a flood.
    pub events: u64,
}

/// A revocation to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedRevocation {
    /// How long after the acknowledgement of the one before.
    pub after: Duration,
    /// What.
    pub target: Target,
    /// How.
    pub path: Path,
}

/// How somebody revokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// As today's systems do whose worker writes the store: the event, then the key.
    EventThenKey,
    /// As today's systems do that write the store themselves: the key, then the event.
    KeyThenEvent,
    /// `portcullis revoke`.
    Command,
    /// The admin API of the replica with this number.
    Admin(usize),
    /// The same, with waiting for receipts.
    AdminWait(usize),
}

/// How many revokers there are. A broker that hangs keeps one of them waiting, not all.
pub const REVOKERS: usize = 3;
/// Replicas.
pub const REPLICAS: usize = 3;
/// Tokens that nobody revokes.
const GOOD: usize = 12;
/// Revocations for each revoker; more than it gets to make in the longest run.
const REVOCATIONS: usize = 400;
/// The longest pause of a revoker.
const PACE: Duration = Duration::from_millis(160);
/// How much longer faults last that have to be noticed by silence.
const SILENCE: Duration = Duration::from_millis(1500);
/// When tokens were issued, for a cut-off between them.
const OLD: i64 = 1000;
/// See [`OLD`].
const YOUNG: i64 = 1100;

// === impl Scale ===

impl Scale {
    /// For `make test`: as short as can be.
    #[must_use]
    pub const fn short() -> Self {
        let quiet = [Duration::from_millis(200), Duration::from_millis(500)];
        let lasts = [Duration::from_millis(300), Duration::from_millis(2500)];
        Self { faults: 3, quiet, lasts, flood: 3000 }
    }

    /// For `make chaos`.
    #[must_use]
    pub const fn long() -> Self {
        let quiet = [Duration::from_millis(400), Duration::from_secs(1)];
        let lasts = [Duration::from_millis(200), Duration::from_secs(4)];
        Self { faults: 3, quiet, lasts, flood: 20_000 }
    }
}

// === impl Plan ===

impl Plan {
    /// The plan that follows from a seed.
    #[must_use]
    pub fn new(seed: u64, scale: &Scale) -> Self {
        let mut random = Random::new(seed);
        let mut kinds = kinds(seed, scale.faults);
        let topology = topology(&kinds, &mut random);
        let forgets =
            topology == Topology::ExclusiveQueue || kinds.contains(&FaultKind::StreamDeleted);
        if forgets {
            // A replica that starts, or has lost its queue, has nothing but the store to learn from,
            // which is emptied, or loses what it has not copied, later.
            kinds.sort_by_key(|kind| kind.loses_keys());
        }
        let faults = kinds.iter().map(|kind| fault(*kind, scale, &mut random)).collect();
        let [least, most] = scale.quiet;
        let last_quiet = random.between(least, most);
        let mut tokens = Vec::new();
        for _ in 0..GOOD {
            tokens.push(alone(tokens.len()));
        }
        // Where events can be lost with their queue, only the store remembers: it must come first.
        let revocations = std::array::from_fn(|_| {
            (0..REVOCATIONS).map(|_| revocation(forgets, &mut tokens, &mut random)).collect()
        });
        Self { seed, topology, tokens, good: GOOD, faults, last_quiet, revocations }
    }
}

/// The kinds of faults of a run. Runs with consecutive seeds go through all kinds evenly, as through
/// decks of cards of which each is shuffled anew.
fn kinds(seed: u64, count: usize) -> Vec<FaultKind> {
    let all = FaultKind::ALL.len() as u64;
    let first = seed.wrapping_mul(count as u64);
    let card = |position: u64| {
        let mut deck = FaultKind::ALL;
        Random::new(position / all).shuffle(&mut deck);
        deck.into_iter().nth(usize::try_from(position % all).unwrap_or_default())
    };
    (0..count as u64).filter_map(|index| card(first.wrapping_add(index))).collect()
}

fn topology(kinds: &[FaultKind], random: &mut Random) -> Topology {
    let only = |kind| kinds.contains(&kind);
    match (only(FaultKind::StreamDeleted), only(FaultKind::QueueDeleted)) {
        // One of both finds nothing to delete, then.
        (false, true) => Topology::ExclusiveQueue,
        (false, false) if random.percent(15) => Topology::ExclusiveQueue,
        (true, _) | (false, false) => Topology::Stream,
    }
}

fn fault(kind: FaultKind, scale: &Scale, random: &mut Random) -> PlannedFault {
    let [least, most] = scale.quiet;
    let [shortest, longest] = scale.lasts;
    // Most of the times, long enough to be noticed.
    let longer = if kind.excuse() == Excuse::UntilNoticed { SILENCE } else { Duration::ZERO };
    PlannedFault {
        kind,
        after: random.between(least, most),
        lasts: random.between(shortest, longest) + longer,
        replica: random.index(REPLICAS),
        step: random.index(usize::from(u16::MAX)),
        events: random.within(scale.flood / 2..scale.flood),
    }
}

/// A token with a subject and a session of its own.
const fn alone(place: usize) -> Token {
    Token { subject: place, session: place, issued_at: OLD }
}

/// A revocation, with the tokens that it covers and those that it just does not.
fn revocation(key_first: bool, tokens: &mut Vec<Token>, random: &mut Random) -> PlannedRevocation {
    let place = tokens.len();
    tokens.push(alone(place));
    let after = random.between(Duration::from_millis(1), PACE);
    let ours = [
        Path::Command,
        Path::Admin(random.index(REPLICAS)),
        Path::AdminWait(random.index(REPLICAS)),
    ];
    // A process for each costs as much as all other work.
    let ours = if random.percent(4) { ours[0] } else { ours[1 + random.index(2)] };
    let of_a_session = random.percent(50);
    if random.percent(12) {
        // Publishers of today know no cut-offs. Exactly at the time of the first token: it is old.
        tokens.push(Token { issued_at: YOUNG, ..alone(place) });
        let target = if of_a_session {
            Target::Session { session: place, issued_before: OLD }
        } else {
            Target::Subject { subject: place, issued_before: OLD }
        };
        return PlannedRevocation { after, target, path: ours };
    }
    let path = match random.within(0..100) {
        0..60 if key_first => Path::KeyThenEvent,
        0..35 => Path::EventThenKey,
        35..70 => Path::KeyThenEvent,
        _ => ours,
    };
    PlannedRevocation { after, target: Target::Token(place), path }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_seed_leads_to_the_same_plan_and_another_one_to_another() {
        let plan = |seed| Plan::new(seed, &Scale::short());
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7).faults, plan(8).faults);
    }

    #[test]
    fn consecutive_seeds_go_through_all_kinds_evenly() {
        let mut counts = BTreeMap::new();
        for seed in 16..32 {
            for fault in Plan::new(seed, &Scale::short()).faults {
                *counts.entry(fault.kind).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), FaultKind::ALL.len());
        assert!(counts.values().all(|count| *count == 3), "{counts:?}");
    }

    #[test]
    fn good_tokens_are_covered_by_nothing_and_cut_offs_by_one_token_each() {
        let plan = Plan::new(3, &Scale::long());
        let mut cutoffs = 0;
        for revocation in plan.revocations.iter().flatten() {
            let covers = |(place, token): &(usize, &Token)| revocation.target.covers(*place, token);
            let covered: Vec<_> = plan.tokens.iter().enumerate().filter(covers).collect();
            assert_eq!(covered.len(), 1);
            assert!(covered[0].0 >= plan.good);
            if !matches!(revocation.target, Target::Token(_)) {
                cutoffs += 1;
                let ours = [Path::EventThenKey, Path::KeyThenEvent];
                assert!(!ours.contains(&revocation.path), "today's publishers know none");
            }
        }
        assert!(cutoffs > 0);
    }

    /// Whether events can be lost with what keeps them.
    fn forgets(plan: &Plan) -> bool {
        plan.topology == Topology::ExclusiveQueue
            || plan.faults.iter().any(|fault| fault.kind == FaultKind::StreamDeleted)
    }

    #[test]
    fn nothing_needs_the_store_when_both_it_and_the_queue_may_have_lost_something() {
        for seed in 0..256 {
            let plan = Plan::new(seed, &Scale::long());
            let faults = plan.faults.iter();
            let mut after = faults.skip_while(|fault| !fault.kind.loses_keys());
            assert!(!forgets(&plan) || after.all(|fault| fault.kind.loses_keys()), "seed {seed}");
        }
    }

    #[test]
    fn a_queue_that_loses_events_is_only_used_by_publishers_that_write_the_store_first() {
        for seed in 0..64 {
            let plan = Plan::new(seed, &Scale::short());
            let late = plan.revocations.iter().flatten().any(|one| one.path == Path::EventThenKey);
            assert_eq!(forgets(&plan), !late, "seed {seed}");
        }
    }
}
