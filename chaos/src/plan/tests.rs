//! Tests of plans: they depend on the seed alone, and no fault breaks what a later one needs.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn the_plan_depends_on_the_seed() {
    let plan = |seed| Plan::new(seed, &Scale::short());
    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(7).faults, plan(8).faults);
}

#[test]
fn consecutive_seeds_cover_all_kinds_evenly() {
    let mut counts = BTreeMap::new();
    for seed in 26..39 {
        for kind in Plan::new(seed, &Scale::short()).kinds() {
            *counts.entry(kind).or_insert(0) += 1;
        }
    }
    assert_eq!(counts.len(), FaultKind::ALL.len());
    assert!(counts.values().all(|count| *count == 2), "{counts:?}");
}

#[test]
fn simultaneous_faults_break_different_parts_and_are_frequent() {
    let mut pairs = BTreeSet::new();
    for seed in 0..256 {
        for group in Plan::new(seed, &Scale::long()).faults {
            if let [one, other] = &group.faults[..] {
                assert_ne!(one.kind.part(), other.kind.part(), "seed {seed}");
                pairs.insert((one.kind, other.kind));
            } else {
                assert_eq!(group.faults.len(), 1);
            }
        }
    }
    assert!(pairs.len() > 60, "{}", pairs.len());
}

fn target(step: &PlannedStep) -> Target {
    match step.action {
        Action::Revoke(target, _) => target,
        Action::Unrevoke(token, _) => Target::Token(token),
    }
}

fn path(step: &PlannedStep) -> Path {
    match step.action {
        Action::Revoke(_, path) | Action::Unrevoke(_, path) => path,
    }
}

#[test]
fn no_step_covers_a_good_token_and_each_covers_one_token() {
    let plan = Plan::new(4, &Scale::long());
    let mut cutoffs = 0;
    for step in plan.steps.iter().flatten() {
        let covers = |(place, token): &(usize, &Token)| target(step).covers(*place, token);
        let covered: Vec<_> = plan.tokens.iter().enumerate().filter(covers).collect();
        assert_eq!(covered.len(), 1);
        assert!(covered[0].0 >= plan.good);
        if !matches!(target(step), Target::Token(_)) {
            cutoffs += 1;
            let ours = [Path::EventThenKey, Path::KeyThenEvent];
            assert!(!ours.contains(&path(step)), "existing publishers have no cut-offs");
        }
    }
    assert!(cutoffs > 0);
}

#[test]
fn one_revoker_alternately_revokes_and_unrevokes_a_token() {
    let plan = Plan::new(4, &Scale::long());
    let mut owners = BTreeMap::new();
    let mut again = 0;
    for (revoker, steps) in plan.steps.iter().enumerate() {
        let mut revoked = BTreeMap::new();
        for step in steps {
            let Target::Token(token) = target(step) else { continue };
            assert_eq!(*owners.entry(token).or_insert(revoker), revoker);
            let is_revoked = matches!(step.action, Action::Revoke(..));
            let before = revoked.insert(token, is_revoked);
            assert_eq!(before.unwrap_or(false), !is_revoked, "token {token}");
            again += usize::from(before == Some(false));
        }
    }
    assert!(again > 50, "{again}");
}

#[test]
fn plans_cover_all_modes() {
    let names: BTreeSet<_> =
        (0..40).map(|seed| Plan::new(seed, &Scale::long()).setup.name()).collect();
    for name in ["default", "redis-on-miss", "redis-always", "serve", "deny", "exclusive-queue"] {
        assert!(names.iter().any(|known| known.contains(name)), "{name} is not in {names:?}");
    }
}

#[test]
fn no_later_fault_needs_a_store_that_may_have_lost_keys() {
    for seed in 0..256 {
        let plan = Plan::new(seed, &Scale::long());
        let kinds: Vec<_> = plan.kinds().collect();
        let mut after = kinds.iter().skip_while(|kind| !kind.loses_keys());
        let forgets = forgets(plan.setup.topology, &kinds);
        assert!(!forgets || after.all(|kind| kind.loses_keys()), "seed {seed}");
    }
}

#[test]
fn with_a_lossy_queue_publishers_write_the_store_first() {
    for seed in 0..64 {
        let plan = Plan::new(seed, &Scale::short());
        let kinds: Vec<_> = plan.kinds().collect();
        let mut paths = plan.steps.iter().flatten().map(path);
        let late = paths.any(|path| path == Path::EventThenKey);
        assert_eq!(forgets(plan.setup.topology, &kinds), !late, "seed {seed}");
    }
}
