//! Faults of a plan: their kinds, their durations, and which of them are simultaneous.

use std::time::Duration;

use super::{PlannedFault, PlannedGroup, REPLICAS, Scale, forgets};
use crate::{
    fault::{Excuse, FaultKind, Part},
    random::Random,
    setup::Setup,
};

/// The additional duration of faults that are detected by silence.
const SILENCE: Duration = Duration::from_millis(1500);
/// The additional duration of a stopped replica: none, longer than its lease, or longer than it
/// counts as ready without a heartbeat.
const STOPS: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(1500), Duration::from_millis(3500)];
/// The additional duration of an isolation that outlasts `max_staleness`, for some of them.
const ISOLATION: Duration = Duration::from_secs(3);
/// The largest offset of a clock within the skew, in seconds.
const WITHIN_SKEW: u64 = 4;
/// Offsets of wrong clocks: ahead and behind, by at least the lifetime of a token.
const JUMPS: [i64; 2] = [5400, -3600];

/// The kinds of faults of a run. Runs with consecutive seeds cover all kinds evenly, as if they
/// dealt cards from a deck that is reshuffled when it is empty.
pub(super) fn kinds<const COUNT: usize>(
    all: &[FaultKind; COUNT],
    seed: u64,
    count: usize,
) -> Vec<FaultKind> {
    let (deck, all) = (*all, COUNT as u64);
    let first = seed.wrapping_mul(count as u64);
    let card = |position: u64| {
        let mut deck = deck;
        Random::new(position / all).shuffle(&mut deck);
        deck.into_iter().nth(usize::try_from(position % all).unwrap_or_default())
    };
    (0..count as u64).filter_map(|index| card(first.wrapping_add(index))).collect()
}

/// The faults of a run: single, or two at once.
pub(super) fn groups(
    kinds: &[FaultKind],
    setup: &Setup,
    scale: &Scale,
    random: &mut Random,
) -> Vec<PlannedGroup> {
    let [least, most] = scale.quiet;
    let forgets = forgets(setup.topology, kinds);
    let mut groups: Vec<PlannedGroup> = Vec::new();
    for kind in kinds {
        let mut fault = fault(*kind, scale, random);
        let joins = random.percent(scale.pairs);
        match groups.last_mut().map(|group| &mut group.faults[..]) {
            Some([alone]) if joins && can_be_at_once(alone.kind, *kind, forgets) => {
                fault.after = random.between(Duration::ZERO, alone.lasts);
                if random.percent(70) {
                    fault.replica = alone.replica;
                }
                if let Some(group) = groups.last_mut() {
                    group.faults.push(fault);
                }
            }
            _ => {
                let after = random.between(least, most);
                groups.push(PlannedGroup { after, faults: vec![fault] });
            }
        }
    }
    groups
}

/// Whether two faults break different parts, and neither needs what the other one breaks.
fn can_be_at_once(one: FaultKind, other: FaultKind, forgets: bool) -> bool {
    if one.part() == other.part() || [one, other].contains(&FaultKind::Flood) {
        return false;
    }
    // If the queue may lose events, keys must not be lost before the snapshot of the store.
    if forgets && (one.loses_keys() || other.loses_keys()) {
        return false;
    }
    // A failover concerns only the sentinels; a broken link adds nothing to it. And without the
    // broker, what a publisher wrote to the old primary would be lost.
    let parts = [one.part(), other.part()];
    let bound = parts.contains(&Part::StoreLink) || parts.contains(&Part::Broker);
    !(parts.contains(&Part::Redis) && bound)
}

fn fault(kind: FaultKind, scale: &Scale, random: &mut Random) -> PlannedFault {
    let [shortest, longest] = scale.lasts;
    // In most cases long enough to be detected.
    let longer = match kind {
        FaultKind::ReplicaStopped | FaultKind::ReplicasStopped => STOPS[random.index(STOPS.len())],
        FaultKind::Isolated if random.percent(50) => ISOLATION + SILENCE,
        FaultKind::ClockJump | FaultKind::StoreLinkFrozen | FaultKind::BrokerAlarm => SILENCE,
        // Queries to the sentinels must fail first.
        FaultKind::SentinelLinksCut => 2 * SILENCE,
        _ if kind.excuse() == Excuse::UntilNoticed => SILENCE,
        _ => Duration::ZERO,
    };
    let offset = match kind {
        FaultKind::ClockOff => {
            let offset = i64::try_from(random.within(1..WITHIN_SKEW + 1)).unwrap_or(1);
            if random.percent(50) { offset } else { -offset }
        }
        _ => JUMPS[random.index(JUMPS.len())],
    };
    PlannedFault {
        kind,
        after: Duration::ZERO,
        lasts: random.between(shortest, longest) + longer,
        replica: random.index(REPLICAS),
        step: random.index(usize::from(u16::MAX)),
        events: random.within(scale.flood / 2..scale.flood),
        offset,
    }
}
