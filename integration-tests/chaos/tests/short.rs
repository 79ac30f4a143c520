//! Owns the short form of `make chaos`: a few runs that go through all kinds of faults.

use std::{collections::BTreeSet, time::Duration};

use portcullis_chaos::{
    checker::{Rules, judge},
    cluster::Cluster,
    fault::FaultKind,
    figures::{Figures, Size},
    plan::{Plan, Scale, Topology},
    propagation::Times,
    report::Report,
    run::run,
};

/// The first of six seeds with which every kind of fault comes up.
const SEED: u64 = 16;
const RUNS: u64 = 6;

/// Continuous integration has processors that are busy with something else, and debug builds. A
/// revocation that was missed stays missed, so a generous bound finds it all the same; how fast
/// they are is measured by `make chaos`, not here.
const RULES: Rules =
    Rules { bound: Duration::from_millis(1500), relay: Duration::from_millis(2500) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_missed_and_no_good_token_refused_whatever_breaks() {
    let _turn = super::TURN.lock().await;
    let mut cluster = Box::pin(Cluster::start(Topology::Stream)).await;
    let mut report = Report::new(vec![("seed", SEED.to_string())]);
    for seed in SEED..SEED + RUNS {
        let plan = Plan::new(seed, &Scale::short());
        let history = run(&mut cluster, &plan, &RULES).await;
        report.add(&history, judge(seed, &history, &RULES));
    }
    report.figures = Figures::measure(&mut cluster, &Size::short()).await;

    println!("{report}");
    let told: Vec<_> = report.violations.iter().take(5).map(ToString::to_string).collect();
    assert!(report.violations.is_empty(), "{}\n{report}", told.join("\n"));
    let kinds: BTreeSet<_> = report.faults().keys().copied().collect();
    assert_eq!(kinds.len(), FaultKind::ALL.len(), "every kind of fault came up");
    assert_eq!(report.figures.resync.map(|resync| resync.missed), Some(0));
    assert_eq!(report.figures.redis_calls_per_check, Some(0.0));
    assert_eq!(report.figures.propagation.as_ref().map(Times::count), Some(50));
}
