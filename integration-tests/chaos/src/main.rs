//! Owns the command line of `make chaos`.
//!
//! It never reports success for a run that found a violation, nor for one that could not be done.

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use portcullis_chaos::{
    checker::{Rules, judge},
    cluster::Cluster,
    figures::{Figures, Size},
    plan::{Plan, Scale, Topology},
    report::Report,
    run::run,
    svg,
};
use portcullis_integration_tests::services::hold_for_any_time;

/// Runs revokers, checkers and faults against three replicas, and judges what they answered.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Options {
    /// How many runs.
    #[arg(long, default_value = "200", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The seed of the first run; the next ones count up.
    #[arg(long, default_value = "1")]
    seed: u64,
    /// How long after its acknowledgement a revocation must be in force everywhere, in
    /// milliseconds. Far above what a delivery takes, because a busy machine holds single ones up,
    /// and far below the time after which a replica notices that the broker is late.
    #[arg(long, default_value = "250")]
    bound_ms: u64,
    /// How much longer it may take where it waits for the relay, in milliseconds.
    #[arg(long, default_value = "1000")]
    relay_ms: u64,
    /// Leave out what is measured apart from the runs.
    #[arg(long)]
    no_figures: bool,
    /// Where the picture of the distribution goes; by default beside the figures.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Where the figures go.
    #[arg(long, default_value = "target/chaos.json")]
    json: PathBuf,
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
        relay: Duration::from_millis(options.relay_ms),
    };
    let mut report = Report::new(vec![
        ("seed", options.seed.to_string()),
        ("bound_ms", options.bound_ms.to_string()),
        ("relay_ms", options.relay_ms.to_string()),
    ]);
    hold_for_any_time();
    if !options.no_figures {
        eprintln!("measuring an outage, a flood and a start");
        // Not the cluster of the runs: whoever starts there would have the flood to replay.
        let mut cluster = Box::pin(Cluster::start(Topology::Stream)).await;
        report.figures = Figures::measure(&mut cluster, &Size::long()).await;
        eprint!("{}", report.figures);
    }
    let mut cluster = Box::pin(Cluster::start(Topology::Stream)).await;
    for number in 0..options.runs {
        let plan = Plan::new(options.seed.wrapping_add(number), &Scale::long());
        let history = run(&mut cluster, &plan, &rules).await;
        let findings = judge(plan.seed, &history, &rules);
        let faults: Vec<_> = plan.faults.iter().map(|fault| fault.kind.name()).collect();
        eprintln!(
            "run {}/{}, seed {}: {}; {} checks, {} violations",
            number + 1,
            options.runs,
            plan.seed,
            faults.join(", "),
            history.checks.len(),
            findings.violations.len(),
        );
        for violation in &findings.violations {
            eprintln!("{violation}");
        }
        if !findings.violations.is_empty() {
            keep_logs(options, &mut cluster, plan.seed);
        }
        report.add(&history, findings);
    }
    report
}

/// What the processes had to say in a run that found something.
fn keep_logs(options: &Options, cluster: &mut Cluster, seed: u64) {
    let file = options.json.with_file_name(format!("chaos-seed-{seed}.log"));
    match fs::write(&file, cluster.logs()) {
        Ok(()) => eprintln!("what the processes logged: {}", file.display()),
        Err(error) => eprintln!("cannot keep what the processes logged: {error}"),
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
    println!("the same figures: {}, {}", options.json.display(), picture.display());
    Ok(())
}
