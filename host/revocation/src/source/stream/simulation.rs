//! Simulation of the revocation feed under virtual time: the driver, the feed, the set and the
//! lookups as they are, between a scripted broker and a scripted Redis.
//!
//! A seed determines a schedule of steps: publishers revoke, un-revoke and revoke again, services
//! fail and come back, the process is paused. The simulation keeps a model of what was
//! acknowledged, and judges the answer to each check by the bounds that `docs/revocation.md`
//! promises. `state/explore.rs` explores all orders of few events; this explores few orders of all
//! events, with time.
//!
//! Everything runs on one thread on tokio's paused clock, so a schedule always runs the same way.

mod broker;
mod judge;
pub(super) mod peers;
mod plan;
mod regressions;
mod replica;
mod run;
mod shrink;
mod store;
mod world;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use self::{
    plan::{Schedule, Step, Way},
    regressions::REGRESSIONS,
    run::run,
    shrink::shrink,
};
use super::sabotage::Sabotage;

/// How many schedules the suite runs, and the seed of the first.
const SCHEDULES: u64 = 1_000;
const FIRST_SEED: u64 = 1;

/// A schedule that failed.
#[derive(Debug)]
struct Failure {
    seed: u64,
    what: String,
}

/// Runs schedules on all processors, until one fails. Prints what was done.
fn run_many(first: u64, count: u64, sabotage: Option<Sabotage>) -> Option<Failure> {
    let (next, checks, allowed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (failed, began) = (AtomicBool::new(false), Instant::now());
    let work = || {
        let mut failure = None;
        let mut virtual_time = Duration::ZERO;
        while !failed.load(Relaxed) {
            let at = next.fetch_add(1, Relaxed);
            if at >= count {
                break;
            }
            let seed = first.wrapping_add(at);
            match run(&Schedule::from_seed(seed), sabotage) {
                Ok(summary) => {
                    checks.fetch_add(summary.checks as u64, Relaxed);
                    allowed.fetch_add(summary.allowed.iter().sum::<usize>() as u64, Relaxed);
                    virtual_time += summary.virtual_time;
                }
                Err(what) => {
                    failed.store(true, Relaxed);
                    failure = Some(Failure { seed, what });
                }
            }
        }
        (failure, virtual_time)
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let ends: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let virtual_time: Duration = ends.iter().map(|(_, time)| *time).sum();
    println!(
        "{} schedules, {} checks ({} allowed), {} hours of virtual time in {:?}",
        next.into_inner().min(count),
        checks.into_inner(),
        allowed.into_inner(),
        virtual_time.as_secs() / 3_600,
        began.elapsed(),
    );
    ends.into_iter().filter_map(|(failure, _)| failure).min_by_key(|failure| failure.seed)
}

/// The report of a schedule that failed.
fn report(Failure { seed, what }: &Failure) -> String {
    let (shortest, why) = shrink(Schedule::from_seed(*seed), None);
    format!("seed {seed}: {what}\nThe shortest schedule that fails: {why}\n{shortest:#?}")
}

/// `make simulate` runs this with more schedules than the suite has time for.
#[test]
#[expect(clippy::disallowed_methods, reason = "the caller of the tests says how many")]
fn no_schedule_breaks_the_promise() {
    let number = |name: &str, default: u64| {
        let given = std::env::var(name).ok();
        given.map_or(default, |text| text.parse().expect("it is a number"))
    };
    let count = number("SIMULATE_SCHEDULES", SCHEDULES);
    let first = number("SIMULATE_SEED", FIRST_SEED);
    println!("{count} schedules from seed {first} on");
    if let Some(failure) = run_many(first, count, None) {
        panic!("{}", report(&failure));
    }
}

#[test]
fn what_failed_once_does_not_fail_again() {
    for (name, chance, steps) in REGRESSIONS {
        let schedule = Schedule { chance: *chance, steps: steps.to_vec() };
        if let Err(what) = run(&schedule, None) {
            panic!("{name}: {what}");
        }
    }
}

#[test]
fn a_schedule_runs_the_same_way_each_time() {
    for seed in 0..20 {
        let schedule = Schedule::from_seed(seed);
        let once = || format!("{:?}", run(&schedule, None));
        assert_eq!(once(), once(), "seed {seed}");
    }
}

/// A key that is lost long after its token was revoked again un-revokes it only if Redis is still
/// asked about the un-revocation before. Few random schedules have that order.
#[test]
fn asking_about_an_unrevocation_for_long_is_found() {
    let (token, way, gap) = (1, Way::KeyFirst, 0);
    let steps = vec![
        Step::Start,
        Step::Wait(3_000),
        Step::Revoke { token, way, gap },
        Step::Wait(500),
        Step::Remove { token, way, gap },
        Step::Wait(2_500),
        Step::Revoke { token, way, gap },
        Step::Wait(10_000),
        Step::Failover { lost: 1 },
        Step::Wait(30_000),
    ];
    let schedule = Schedule { chance: 1, steps };
    run(&schedule, None).unwrap();
    let found = run(&schedule, Some(Sabotage::AskForLong)).unwrap_err();
    assert!(found.contains("token 1 was allowed (Trusted): the stream has it"), "{found}");
}

#[test]
fn each_sabotage_is_found() {
    // The search starts at a seed near the one that found it before.
    for (sabotage, first, expected) in [
        (Sabotage::NoLease, 40, &["and the set is trusted"][..]),
        (Sabotage::RenewAtOnce, 980, &["the process was paused when", "the stream has it"]),
        (Sabotage::ReadOnce, 1, &["it is found by reading", "not settled"]),
        (Sabotage::TrustUnrevocations, 1, &["was allowed", "not settled"]),
    ] {
        let failure = run_many(first, 4 * SCHEDULES, Some(sabotage));
        println!("{sabotage:?}: {failure:?}");
        let what = failure.map(|failure| failure.what).unwrap_or_default();
        let is_expected = expected.iter().any(|words| what.contains(words));
        assert!(is_expected, "{sabotage:?}: {what}");
    }
}

#[test]
fn an_alarm_is_harmless_unless_probes_share_the_consuming_connection() {
    use self::plan::Step;
    let steps = vec![Step::Start, Step::Wait(14_000), Step::Alarm(true), Step::Wait(4_000)];
    let schedule = Schedule { chance: 1, steps };
    assert_eq!(run(&schedule, None).err(), None);
    let what = run(&schedule, Some(Sabotage::SharedConnection)).err().unwrap_or_default();
    assert!(what.contains("nothing keeps the replica from being live"), "{what}");
}
