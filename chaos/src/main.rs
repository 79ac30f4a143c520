//! Command line of `make chaos`.
//!
//! It never reports success for a run that found a violation or that could not be completed.

use std::{
    fs, io,
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

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
    /// How many runs execute side by side, each with its own services. A run mostly waits, so two
    /// processors bear several; more load means more late revocations.
    #[arg(long, default_value = "1")]
    parallel: NonZeroUsize,
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

/// The runs of all workers.
struct Runs<'a> {
    options: &'a Options,
    rules: Rules,
    /// How many runs have begun.
    begun: AtomicU64,
    report: Mutex<Report>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    hold_for_any_time();
    let report = match all_runs(&options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("chaos: cannot start a runtime or a thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    print!("{report}");
    if let Err(error) = write(&options, &report) {
        eprintln!("chaos: cannot write the figures: {error}");
        return ExitCode::FAILURE;
    }
    let missing = options.total().saturating_sub(report.runs());
    if missing > 0 {
        eprintln!("chaos: {missing} runs were not completed");
    }
    let passed = report.violations.is_empty() && missing == 0;
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all_runs(options: &Options) -> io::Result<Report> {
    let rules = Rules {
        bound: Duration::from_millis(options.bound_ms),
        limit: Duration::from_millis(options.limit_ms),
        relay: Duration::from_millis(options.relay_ms),
    };
    let mut report = Report::new(vec![
        ("seed", options.seed.to_string()),
        ("parallel", options.parallel.to_string()),
        ("bound_ms", options.bound_ms.to_string()),
        ("limit_ms", options.limit_ms.to_string()),
        ("relay_ms", options.relay_ms.to_string()),
    ]);
    if !options.no_figures {
        report.figures = runtime()?.block_on(figures());
    }
    let runs = &Runs { options, rules, begun: AtomicU64::new(0), report: Mutex::new(report) };
    thread::scope(|scope| -> io::Result<()> {
        let mut workers = Vec::new();
        for _ in 0..options.parallel.get() {
            let runtime = runtime()?;
            workers.push(scope.spawn(move || runtime.block_on(Box::pin(runs.work()))));
        }
        // A worker that panicked has printed why. Its run is missing, and the others go on.
        for worker in workers {
            let _ = worker.join();
        }
        Ok(())
    })?;
    let report = runs.report.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(report.clone())
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

async fn figures() -> Figures {
    eprintln!("measuring an outage, a flood and a start");
    // Not the cluster of the runs: a replica that starts there would have to replay the flood.
    let mut cluster = Box::pin(Cluster::start(Setup::default())).await;
    let figures = Figures::measure(&mut cluster, &Size::long()).await;
    eprint!("{figures}");
    figures
}

// === impl Options ===

impl Options {
    /// The number of runs with a table as the source.
    fn table_runs(&self) -> u64 {
        self.table_runs.unwrap_or(self.runs / 8)
    }

    fn total(&self) -> u64 {
        self.runs + self.table_runs()
    }

    /// The plan of the run with this number: those with a broker come first.
    fn plan(&self, number: u64) -> Plan {
        let scale = Scale::long().side_by_side(self.parallel);
        let Some(table_run) = number.checked_sub(self.runs) else {
            let seed = self.seed.wrapping_add(number);
            return match &self.faults[..] {
                [] => Plan::new(seed, &scale),
                kinds => Plan::of(seed, &scale, kinds),
            };
        };
        Plan::of_table(self.seed.wrapping_add(table_run), &scale)
    }
}

// === impl Runs ===

impl Runs<'_> {
    /// Executes runs until all have begun. Services are slow to start, so a worker keeps them from
    /// run to run.
    async fn work(&self) {
        let mut cluster = None;
        let mut table = None;
        while let Some(plan) = self.next() {
            if plan.setup.table {
                // There are no more runs with a broker.
                cluster = None;
                let site = match &mut table {
                    Some(site) => site,
                    none => none.insert(Box::pin(TableSite::start(plan.setup)).await),
                };
                if self.execute(site, &plan).await {
                    self.keep_logs(&site.logs(), plan.seed);
                }
            } else {
                let site = match &mut cluster {
                    Some(site) => site,
                    none => none.insert(Box::pin(Cluster::start(Setup::default())).await),
                };
                if self.execute(site, &plan).await {
                    self.keep_logs(&site.logs(), plan.seed);
                }
            }
        }
    }

    fn next(&self) -> Option<Plan> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        (number < self.options.total()).then(|| self.options.plan(number))
    }

    /// Executes a plan, prints the findings, and returns whether there is a violation.
    async fn execute(&self, site: &mut impl Site, plan: &Plan) -> bool {
        let history = run(site, plan, &self.rules).await;
        let findings = judge(plan.seed, &history, &self.rules);
        let broken = !findings.violations.is_empty();
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!(
            "run {} of {}, seed {}: {}; {} revocations, {} checks, {} violations",
            report.runs() + 1,
            self.options.total(),
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
    fn keep_logs(&self, logs: &str, seed: u64) {
        let file = self.options.json.with_file_name(format!("chaos-seed-{seed}.log"));
        match fs::write(&file, logs) {
            Ok(()) => eprintln!("logs of the processes: {}", file.display()),
            Err(error) => eprintln!("cannot save the logs of the processes: {error}"),
        }
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
