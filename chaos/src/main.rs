//! Command line of `make chaos`.
//!
//! It never reports success for a run that found a violation or that could not be completed.

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use portcullis_chaos::{
    checker::{Rules, judge},
    cluster::Cluster,
    fault::FaultKind,
    figures::{Figures, Size},
    plan::{Plan, Scale},
    report::Report,
    run::run,
    setup::Setup,
    site::Site,
    svg,
    table::TableSite,
};
use portcullis_integration_tests::services::hold_for_any_time;

/// Runs revocations, checks and faults against three replicas, and looks for broken promises.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Options {
    /// The number of runs.
    #[arg(long, default_value = "200", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The number of additional runs with a table in PostgreSQL as the source; by default an eighth
    /// of `--runs`.
    #[arg(long)]
    table_runs: Option<u64>,
    /// The seed of the first run; each next run adds one.
    #[arg(long, default_value = "1")]
    seed: u64,
    /// How long after its acknowledgement a revocation must take effect on all replicas, in
    /// milliseconds; later it is late. The default is far above the time of a delivery, because a
    /// busy machine delays single ones, and far below the time after which a replica detects a late
    /// broker.
    #[arg(long, default_value = "250")]
    bound_ms: u64,
    /// After this time, in milliseconds, it counts as missed. The load of the machine stretches it.
    #[arg(long, default_value = "1500")]
    limit_ms: u64,
    /// How much longer it may take if it waits for the relay, in milliseconds.
    #[arg(long, default_value = "1000")]
    relay_ms: u64,
    /// Inject only these kinds of faults, by name, in this order, in each run.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    faults: Vec<FaultKind>,
    /// Skip the figures that are measured apart from the runs.
    #[arg(long)]
    no_figures: bool,
    /// The file for the picture of the distribution; by default beside the figures.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// The file for the picture of the coverage; by default beside the figures.
    #[arg(long)]
    coverage_svg: Option<PathBuf>,
    /// The file for the figures.
    #[arg(long, default_value = "target/chaos.json")]
    json: PathBuf,
}

/// How many violations of a run are printed; the report counts all.
const SHOWN: usize = 5;

fn kind(name: &str) -> Result<FaultKind, String> {
    FaultKind::by_name(name).ok_or_else(|| {
        let names = FaultKind::ALL.map(FaultKind::name);
        format!("unknown kind of fault; known kinds: {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("chaos: cannot start a runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = runtime.block_on(all_runs(&options));
    print!("{report}");
    if let Err(error) = write(&options, &report) {
        eprintln!("chaos: cannot write the figures: {error}");
        return ExitCode::FAILURE;
    }
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn all_runs(options: &Options) -> Report {
    let rules = Rules {
        bound: Duration::from_millis(options.bound_ms),
        limit: Duration::from_millis(options.limit_ms),
        relay: Duration::from_millis(options.relay_ms),
    };
    let mut report = Report::new(vec![
        ("seed", options.seed.to_string()),
        ("bound_ms", options.bound_ms.to_string()),
        ("limit_ms", options.limit_ms.to_string()),
        ("relay_ms", options.relay_ms.to_string()),
    ]);
    hold_for_any_time();
    if !options.no_figures {
        eprintln!("measuring an outage, a flood and a start");
        // Not the cluster of the runs: a replica that starts there would have to replay the flood.
        let mut cluster = Box::pin(Cluster::start(Setup::default())).await;
        report.figures = Figures::measure(&mut cluster, &Size::long()).await;
        eprint!("{}", report.figures);
    }
    let mut cluster = Box::pin(Cluster::start(Setup::default())).await;
    for number in 0..options.runs {
        let seed = options.seed.wrapping_add(number);
        let plan = match &options.faults[..] {
            [] => Plan::new(seed, &Scale::long()),
            kinds => Plan::of(seed, &Scale::long(), kinds),
        };
        if one_run(options, &mut cluster, &plan, &rules, &mut report).await {
            keep_logs(options, &cluster.logs(), seed);
        }
    }
    drop(cluster);
    let plans = (0..options.table_runs.unwrap_or(options.runs / 8))
        .map(|number| Plan::of_table(options.seed.wrapping_add(number), &Scale::long()));
    let mut site = None;
    for plan in plans {
        let site = match &mut site {
            Some(site) => site,
            none => none.insert(Box::pin(TableSite::start(plan.setup)).await),
        };
        if one_run(options, site, &plan, &rules, &mut report).await {
            keep_logs(options, &site.logs(), plan.seed);
        }
    }
    report
}

/// Executes a plan, prints the findings, and returns whether there is a violation.
async fn one_run(
    options: &Options,
    site: &mut impl Site,
    plan: &Plan,
    rules: &Rules,
    report: &mut Report,
) -> bool {
    let history = run(site, plan, rules).await;
    let findings = judge(plan.seed, &history, rules);
    let broken = !findings.violations.is_empty();
    let first = options.seed;
    eprintln!(
        "run {}, seed {}: {}; {} revocations, {} checks, {} violations",
        plan.seed.wrapping_sub(first) + 1,
        plan.seed,
        plan.describe(),
        history.revocations.len(),
        history.checks.len(),
        findings.violations.len(),
    );
    for violation in findings.violations.iter().take(SHOWN) {
        eprintln!("{violation}");
    }
    report.add(&history, &plan.faults, findings);
    broken
}

/// Saves the logs of the processes after a run with a violation.
fn keep_logs(options: &Options, logs: &str, seed: u64) {
    let file = options.json.with_file_name(format!("chaos-seed-{seed}.log"));
    match fs::write(&file, logs) {
        Ok(()) => eprintln!("logs of the processes: {}", file.display()),
        Err(error) => eprintln!("cannot save the logs of the processes: {error}"),
    }
}

fn write(options: &Options, report: &Report) -> io::Result<()> {
    if let Some(folder) = options.json.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&options.json, format!("{:#}\n", report.json()))?;
    let picture = options.svg.clone().unwrap_or_else(|| options.json.with_extension("svg"));
    let title = "From publishing a revocation to its denial by all three replicas";
    fs::write(&picture, svg::draw(title, &report.propagation.quiet))?;
    let coverage = options.coverage_svg.clone();
    let coverage = coverage.unwrap_or_else(|| options.json.with_extension("coverage.svg"));
    let title = "Faults injected, and the rate of missed revocations that they leave possible";
    fs::write(&coverage, svg::coverage(title, &report.coverage))?;
    let files = [&options.json, &picture, &coverage].map(|file| file.display().to_string());
    println!("figures written to: {}", files.join(", "));
    Ok(())
}
