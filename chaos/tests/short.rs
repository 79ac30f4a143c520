//! Short form of `make chaos`: a few runs that cover all set-ups and all parts that can break, and
//! the regressions.

use std::{collections::BTreeSet, time::Duration};

use portcullis_chaos::{
    checker::{Rules, judge},
    cluster::Cluster,
    fault::FaultKind,
    figures::{Figures, Size},
    plan::{Plan, Scale},
    propagation::Times,
    report::Report,
    run::run,
    setup::Setup,
    table::TableSite,
};

use super::regressions::{REGRESSIONS, Regression};

/// Runs with all set-ups, and with the fast faults of each part. `make chaos` covers the others.
/// The last digit of a seed determines the set-up.
const RUNS: [Regression; 5] = [
    Regression {
        seed: 14,
        faults: &[
            FaultKind::ReplicaStopped,
            FaultKind::StoreLinkCut,
            FaultKind::ClockJump,
            FaultKind::RelayKilled,
        ],
    },
    Regression { seed: 23, faults: &[FaultKind::Isolated, FaultKind::LinkFrozen] },
    Regression { seed: 35, faults: &[FaultKind::StoreLinkFrozen, FaultKind::ReplicaKilled] },
    Regression { seed: 37, faults: &[FaultKind::Unbound, FaultKind::SlowConsumer] },
    Regression { seed: 39, faults: &[FaultKind::ReplicasStopped, FaultKind::BrokerKilled] },
];
/// A run with a table as the source.
const TABLE_RUN: Regression = Regression {
    seed: 0,
    faults: &[
        FaultKind::TableLinkCut,
        FaultKind::TriggerDisabled,
        FaultKind::TableLocked,
        FaultKind::ReplicaStopped,
    ],
};

/// Continuous integration has busy processors and debug builds. A missed revocation stays missed,
/// so a generous limit still finds it; `make chaos` measures the times, not this test.
const RULES: Rules = Rules {
    bound: Duration::from_millis(500),
    limit: Duration::from_millis(1500),
    relay: Duration::from_millis(2500),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_hides_a_revocation_or_refuses_a_good_token() {
    let _turn = super::TURN.lock().await;
    let mut cluster = Box::pin(Cluster::start(Setup::default())).await;
    let mut report = Report::new(vec![]);
    for one in RUNS.iter().chain(&REGRESSIONS) {
        let plan = Plan::of(one.seed, &Scale::short(), one.faults);
        let history = run(&mut cluster, &plan, &RULES).await;
        println!("seed {}: {}, {:?}", plan.seed, plan.describe(), history.lasted());
        report.add(&history, &plan.faults, judge(plan.seed, &history, &RULES));
    }
    cluster.use_setup(Setup::default()).await;
    report.figures = Figures::measure(&mut cluster, &Size::short()).await;

    println!("{report}");
    let shown: Vec<_> = report.violations.iter().take(5).map(ToString::to_string).collect();
    if !shown.is_empty() {
        println!("{}", cluster.logs());
    }
    assert!(report.violations.is_empty(), "{}\n{report}", shown.join("\n"));
    let kinds: BTreeSet<_> = report.coverage.kinds().keys().copied().collect();
    let planned = RUNS.iter().chain(&REGRESSIONS).flat_map(|one| one.faults.iter().copied());
    assert_eq!(kinds, planned.collect(), "all were injected");
    for name in ["default", "redis-on-miss", "redis-always", "serve", "deny"] {
        let mut setups = report.coverage.setups();
        assert!(setups.any(|setup| setup.contains(name)), "{name} was not covered");
    }
    assert_eq!(report.figures.resync.map(|resync| resync.missed), Some(0));
    assert_eq!(report.figures.redis_calls_per_check, Some(0.0));
    assert_eq!(report.figures.propagation.as_ref().map(Times::count), Some(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_revocation_is_missed_with_a_table_as_the_source() {
    let _turn = super::TURN.lock().await;
    let plan = Plan::of(TABLE_RUN.seed, &Scale::short(), TABLE_RUN.faults);
    let mut site = Box::pin(TableSite::start(plan.setup)).await;
    let mut report = Report::new(vec![]);
    let history = run(&mut site, &plan, &RULES).await;
    report.add(&history, &plan.faults, judge(plan.seed, &history, &RULES));
    println!("{report}");
    let shown: Vec<_> = report.violations.iter().take(5).map(ToString::to_string).collect();
    if !shown.is_empty() {
        println!("{}", site.logs());
    }
    assert!(report.violations.is_empty(), "{}\n{report}", shown.join("\n"));
    let kinds: BTreeSet<_> = report.coverage.kinds().keys().copied().collect();
    assert_eq!(kinds, TABLE_RUN.faults.iter().copied().collect(), "all were injected");
}
