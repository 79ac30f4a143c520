//! Exploration of every order in which a few things can happen: a broker that deletes, trims and
//! forgets, un-revocations that arrive late and twice, a process that is paused, and a store that
//! is read while it changes. No revocation is missed by a set that is called complete, no check of
//! a token whose revocation was waited for passes, and whatever only the store knows is going to be
//! read.

mod budget;
mod steps;
mod world;

use std::collections::{HashSet, VecDeque};

use self::{
    budget::Budget,
    steps::{STEPS, Sabotage, Step},
    world::World,
};
use super::*;

/// Takes all steps in all orders. Returns how many worlds there are, how many of them are live, and
/// a way to one in which a revocation was missed.
fn explore(rules: Rules, budget: Budget, sabotage: Sabotage) -> (usize, usize, Option<Vec<Step>>) {
    let first = World::new(rules, budget, sabotage);
    let mut seen = HashSet::from([first.clone()]);
    let mut pending = VecDeque::from([(first, 0)]);
    // How each world was first come to: from which one, by which step.
    let mut ways = vec![(0, Step::Bind)];
    let mut live = 0;
    while let Some((world, at)) = pending.pop_front() {
        live += usize::from(world.is_live());
        if world.is_wrong() {
            return (seen.len(), live, Some(way(&ways, at)));
        }
        for step in STEPS {
            if let Some(next) = world.step(step, sabotage)
                && seen.insert(next.clone())
            {
                pending.push_back((next, ways.len()));
                ways.push((at, step));
            }
        }
    }
    (seen.len(), live, None)
}

/// The steps from the first world to another one.
fn way(ways: &[(usize, Step)], mut to: usize) -> Vec<Step> {
    let mut steps = vec![];
    while to > 0 {
        let (from, step) = ways[to];
        steps.push(step);
        to = from;
    }
    steps.reverse();
    steps
}

const STREAM: Rules =
    Rules { broker: true, resumes: true, serves_unbound: true, reads_store: true, holes: 0 };

/// Explores both kinds of queue, with and without serving unbound.
fn misses_nothing(budget: Budget) {
    for (resumes, serves_unbound) in [(true, true), (true, false), (false, true), (false, false)] {
        let rules = Rules { resumes, serves_unbound, ..STREAM };
        let (worlds, live, missed) = explore(rules, budget, Sabotage::None);
        assert_eq!(missed, None, "{rules:?}");
        println!("{budget:?}: {worlds} worlds, {live} of them live");
        assert!(live > 10, "{rules:?}: {live} of {worlds} are live");
    }
}

#[test]
fn in_no_order_of_events_is_a_revocation_missed() {
    misses_nothing(Budget::USUAL);
}

#[test]
fn nor_is_one_where_the_connection_is_lost_more_often() {
    misses_nothing(Budget { publish: 1, lose: 2, delete: 1, ..Budget::NOTHING });
}

#[test]
fn nor_is_one_where_the_broker_keeps_nothing_of_what_it_confirms() {
    misses_nothing(Budget {
        publish: 1,
        forget: 1,
        lose: 1,
        fail: 1,
        detour: 1,
        ..Budget::NOTHING
    });
}

#[test]
fn nor_is_one_where_the_broker_delivers_late() {
    misses_nothing(Budget { publish: 1, lose: 1, quiet: 1, late: 2, ..Budget::NOTHING });
}

#[test]
fn nor_is_one_that_is_taken_back_and_made_again() {
    misses_nothing(Budget { publish: 1, change: 4, ..Budget::NOTHING });
}

#[test]
fn nor_does_a_token_pass_after_the_wait_for_its_revocation() {
    misses_nothing(Budget { publish: 2, pause: 2, wait: 2, ..Budget::NOTHING });
}

#[test]
fn a_source_that_is_broken_on_purpose_is_found_out() {
    let believing = Budget { publish: 1, lose: 1, delete: 1, fail: 1, quiet: 2, ..Budget::NOTHING };
    let changes = Budget { publish: 1, change: 4, ..Budget::NOTHING };
    let pauses = Budget { publish: 1, pause: 1, wait: 1, ..Budget::NOTHING };
    for (sabotage, budget) in [
        (Sabotage::BelieveTheStream, believing),
        (Sabotage::SnapshotFirst, believing),
        (Sabotage::ReadOnce, pauses),
        (Sabotage::TrustUnrevocations, changes),
        (Sabotage::NoLease, pauses),
        (Sabotage::RenewAtOnce, pauses),
    ] {
        assert_eq!(explore(STREAM, budget, Sabotage::None).2, None, "{budget:?}");
        let (_, _, missed) = explore(STREAM, budget, sabotage);
        assert!(missed.is_some(), "{sabotage:?}");
    }
}
