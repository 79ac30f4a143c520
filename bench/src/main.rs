//! Benchmark program: the cost of a correct decision, side by side with a gRPC server that decides
//! nothing, in one run on one machine.
//!
//! Each server is a separate process. The servers are measured in turn, round after round; figures
//! are medians over the rounds, and ratios are taken within a round. No figure may come from wrong
//! answers: any failed or unexpected answer ends the run.

mod admin;
mod config;
mod exchange;
mod isolation;
mod load;
mod micro;
mod proc;
mod remembered;
mod report;
mod request;
mod revocations;
mod rounds;
mod series;
mod servers;
mod swaps;
mod token;

use std::{
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::Parser;

use crate::{
    admin::AdminError,
    config::{Files, Variant, WriteError},
    isolation::{IsolationError, IsolationRow},
    load::{LoadError, Target},
    micro::MicroError,
    proc::{Memory, ReadError},
    remembered::Remembered,
    report::{Footprint, Report},
    request::{Check, Expected},
    revocations::{FIRST_VALID, token_id},
    rounds::{Measured, RoundError, Schedule},
    servers::{Server, StartError},
    swaps::{SwapError, SwapRow},
    token::{IssueError, Issuer},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The warm-up of a loop before its measurement.
const WARM_UP: Duration = Duration::from_millis(500);

/// The servers, in the order in which each round measures them.
const SERVERS: [(&str, Option<Variant>); 4] = [
    (report::BASE, None),
    ("verify-each-time", Some(Variant::VerifyEachTime)),
    ("default", Some(Variant::Default)),
    ("fresh-instance", Some(Variant::FreshInstance)),
];

/// The name of the micro benchmarks in `--only`.
const MICRO: &str = "micro";
/// The name of the isolation benchmark in `--only`.
const ISOLATION: &str = "isolation";
/// The name of the swap benchmark in `--only`. It takes minutes, so it runs only on request.
const SWAPS: &str = "swaps";
/// The name of another build of Portcullis that is measured in the same run.
const OTHER: &str = "other";
/// The name of the benchmark of the token cache in `--only`.
const REMEMBERED: &str = "remembered";

/// Measures Portcullis side by side with an empty gRPC server.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// How often each server is measured.
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// How long each measurement takes, in seconds; there are two for each server in each round.
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Calls per second when latency is measured.
    #[arg(long, default_value = "5000", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Connections to each server.
    #[arg(long, default_value = "2")]
    connections: NonZeroUsize,
    /// Concurrent calls on each connection when throughput is measured.
    #[arg(long, default_value = "32")]
    streams: NonZeroUsize,
    /// Number of different tokens that the calls carry.
    #[arg(long, default_value = "64")]
    tokens: NonZeroUsize,
    /// Revoked token ids to load into Portcullis.
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..))]
    entries: u64,
    /// Another build of the `portcullis` binary, to be measured in the same rounds as `other`.
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
    /// Different tokens that one process verifies, to measure the memory of the token cache.
    #[arg(long, default_value = "100000", value_parser = clap::value_parser!(u64).range(1..))]
    remember: u64,
    /// Measure only this server, or only the steps of a decision; can be given several times.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(names()))]
    only: Vec<String>,
}

/// The benchmark failed.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("cannot find the programs to measure: {0}; start this with `make bench`")]
    Programs(io::Error),
    #[error("cannot make a temporary folder: {0}")]
    Folder(io::Error),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot start {0}: {1}")]
    Start(&'static str, StartError),
    #[error("cannot fill the blacklist of {name}: {source}\n{log}")]
    Revoke { name: &'static str, source: AdminError, log: String },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{name} gives a wrong decision on {what}: {source}\n{log}")]
    Wrong { name: &'static str, what: &'static str, source: Box<LoadError>, log: String },
    #[error("{source}\n{log}")]
    Round { source: Box<RoundError>, log: String },
    #[error("micro benchmarks: {0}")]
    Micro(#[from] MicroError),
    #[error("isolation: {0}")]
    Isolation(#[from] IsolationError),
    #[error("swaps: {0}")]
    Swaps(#[from] SwapError),
    #[error("cannot write {0}: {1}")]
    Report(PathBuf, io::Error),
}

/// The calls to make.
struct Calls {
    /// Must be allowed.
    valid: Arc<[Check]>,
    /// Carries a revoked token.
    revoked: Check,
    /// Carries a token whose signature is another token's.
    forged: Check,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the servers, measures them, and reports.
fn run(options: &Options) -> Result<(), BenchError> {
    let programs = programs().map_err(BenchError::Programs)?;
    let target_folder = programs.parent().unwrap_or(&programs);
    let component = target_folder.join("wasm32-wasip2/component/portcullis_rules.wasm");
    let folder = tempfile::tempdir().map_err(BenchError::Folder)?;
    let issuer = Issuer::generate()?;
    let secrets = [issuer.secret()?, issuer.secret()?];
    let files = Files::write(folder.path(), &component, &issuer.public_pem()?, secrets)?;
    let calls = Calls::new(&issuer, options.tokens.get())?;

    let mut running = Vec::new();
    let mut measured = Vec::new();
    let mut footprints = Vec::new();
    let other = options.other.iter().map(|_| (OTHER, Some(Variant::Default)));
    for (name, variant) in SERVERS.into_iter().chain(other) {
        if name != OTHER && !options.wants(name) {
            continue;
        }
        eprintln!("starting {name}");
        let server = start(name, variant, &options.program(name, &programs), &files)?;
        let target = target(&server, variant, &calls, options);
        footprints.extend(fill(name, &server, options.entries)?);
        verify(name, &server, &target, &calls)?;
        measured.push(Measured::new(name, target));
        running.push((name, server));
    }
    let schedule = Schedule {
        rounds: options.rounds.get(),
        window: Duration::from_secs(options.seconds),
        warm_up: WARM_UP,
        rate: options.rate,
    };
    schedule.run(&mut measured).map_err(|source| {
        let failed = running.iter().find(|(name, _)| *name == source.name);
        BenchError::Round {
            log: failed.map(|(_, server)| server.log()).unwrap_or_default(),
            source: Box::new(source),
        }
    })?;
    drop(running);
    let remembered = if options.wants(REMEMBERED) {
        Some(remember(&programs.join("portcullis"), &files, &calls, options)?)
    } else {
        None
    };
    let steps = if options.wants(MICRO) {
        eprintln!("measuring the steps of a decision");
        micro::measure(&files, &calls.valid, options.entries)?
    } else {
        Vec::new()
    };
    let isolation = isolation(options, &programs, &files)?;
    let swaps = swaps(options, &programs, &files)?;
    let conditions = conditions(options, &calls);
    let servers = measured;
    let report = Report { conditions, servers, footprints, remembered, steps, isolation, swaps };
    publish(&report, &target_folder.join("bench.json"))
}

/// The names of everything that can be measured.
fn names() -> impl Iterator<Item = &'static str> {
    SERVERS.into_iter().map(|(name, _)| name).chain([REMEMBERED, MICRO, ISOLATION, SWAPS])
}

/// The rows of the swap benchmark, for each build of Portcullis.
fn swaps(
    options: &Options,
    programs: &Path,
    files: &Files,
) -> Result<Vec<(&'static str, Vec<SwapRow>)>, BenchError> {
    let components = programs.parent().unwrap_or(programs).join("wasm32-wasip2/component");
    let mut rows = Vec::new();
    if options.only.iter().any(|only| only == SWAPS) {
        for name in ["default"].into_iter().chain(options.other.iter().map(|_| OTHER)) {
            let program = options.program(name, programs);
            rows.push((name, swaps::measure(&program, &components, files)?));
        }
    }
    Ok(rows)
}

/// The rows of the isolation benchmark, for each build of Portcullis.
fn isolation(
    options: &Options,
    programs: &Path,
    files: &Files,
) -> Result<Vec<(&'static str, Vec<IsolationRow>)>, BenchError> {
    let components = programs.parent().unwrap_or(programs).join("wasm32-wasip2/component");
    let mut rows = Vec::new();
    if options.wants(ISOLATION) {
        for name in ["default"].into_iter().chain(options.other.iter().map(|_| OTHER)) {
            eprintln!("measuring isolation of {name}");
            let program = options.program(name, programs);
            rows.push((name, isolation::measure(&program, &components, files)?));
        }
    }
    Ok(rows)
}

/// The folder of this program, which also has the programs to measure.
fn programs() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.parent().map(Path::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn start(
    name: &'static str,
    variant: Option<Variant>,
    program: &Path,
    files: &Files,
) -> Result<Server, BenchError> {
    let started = match variant {
        None => Server::start_empty(program, files),
        Some(variant) => Server::start_portcullis(program, files, name, variant),
    };
    started.map_err(|source| BenchError::Start(name, source))
}

fn target(server: &Server, variant: Option<Variant>, calls: &Calls, options: &Options) -> Target {
    Target {
        address: server.grpc,
        pid: server.pid(),
        checks: Arc::clone(&calls.valid),
        expected: variant.map_or(Expected::Allow, |_| Expected::AllowWithIdentity),
        connections: options.connections.get(),
        streams: options.streams.get(),
    }
}

/// Loads the blacklist, and measures its memory. `None` for the empty server.
fn fill(
    name: &'static str,
    server: &Server,
    entries: u64,
) -> Result<Option<Footprint>, BenchError> {
    let Some(admin) = &server.admin else { return Ok(None) };
    let empty = Memory::read(server.pid())?;
    admin.revoke(entries).map_err(|source| BenchError::Revoke {
        name,
        source,
        log: server.log(),
    })?;
    let loaded = Memory::read(server.pid())?;
    let ready_ms = server.ready_after.as_secs_f64() * 1e3;
    Ok(Some(Footprint { name, ready_ms, empty, loaded, entries }))
}

/// Sends many tokens to one process, and measures its memory.
fn remember(
    portcullis: &Path,
    files: &Files,
    calls: &Calls,
    options: &Options,
) -> Result<Remembered, BenchError> {
    eprintln!("sending {} different tokens", options.remember);
    let variant = Some(Variant::SharedSecret);
    let server = start(REMEMBERED, variant, portcullis, files)?;
    let target = target(&server, variant, calls, options);
    remembered::measure(&target, &files.issuer_secret, options.remember).map_err(|source| {
        BenchError::Wrong {
            name: REMEMBERED,
            what: "many tokens",
            source: Box::new(source),
            log: server.log(),
        }
    })
}

/// Verifies that the server decides correctly, before it is measured.
fn verify(
    name: &'static str,
    server: &Server,
    target: &Target,
    calls: &Calls,
) -> Result<(), BenchError> {
    let ask = |what, check: &Check, expected| {
        target.ask(check, expected).map_err(|source| BenchError::Wrong {
            name,
            what,
            source: Box::new(source),
            log: server.log(),
        })
    };
    for check in calls.valid.iter() {
        ask("a valid token", check, target.expected)?;
    }
    if server.admin.is_some() {
        ask("a revoked token", &calls.revoked, Expected::Deny)?;
        ask("a forged token", &calls.forged, Expected::Deny)?;
    }
    Ok(())
}

// === impl Options ===

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The program of the server `name`.
    fn program(&self, name: &str, programs: &Path) -> PathBuf {
        match &self.other {
            Some(other) if name == OTHER => other.clone(),
            _ if name == report::BASE => programs.join("empty-server"),
            _ => programs.join("portcullis"),
        }
    }
}

// === impl Calls ===

impl Calls {
    /// Makes calls with `tokens` different tokens.
    fn new(issuer: &Issuer, tokens: usize) -> Result<Self, IssueError> {
        let mut valid = Vec::new();
        for id in (FIRST_VALID..).step_by(2).take(tokens) {
            let subject = token_id(id);
            valid.push(Check::new(&issuer.token(&subject, &token_id(id + 1))?, subject));
        }
        let subject = token_id(FIRST_VALID - 1);
        let revoked = issuer.token(&subject, &token_id(0))?;
        let signature = revoked.rsplit('.').next().unwrap_or_default();
        let unsigned = issuer.token(&subject, &token_id(FIRST_VALID - 2))?;
        let unsigned = unsigned.rsplit_once('.').map(|(unsigned, _)| unsigned).unwrap_or_default();
        let forged = Check::new(&format!("{unsigned}.{signature}"), subject.clone());
        Ok(Self { valid: valid.into(), revoked: Check::new(&revoked, subject), forged })
    }
}

/// The conditions of the measurement.
fn conditions(options: &Options, calls: &Calls) -> Vec<(&'static str, u64)> {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let cores = thread::available_parallelism().map_or(0, NonZeroUsize::get);
    vec![
        ("cores", number(cores)),
        ("rounds", number(options.rounds.get())),
        ("seconds", options.seconds),
        ("connections", number(options.connections.get())),
        ("streams_per_connection", number(options.streams.get())),
        ("open_loop_rate", u64::from(options.rate)),
        ("check_bytes", calls.valid.first().map_or(0, |check| number(check.message_bytes()))),
        ("tokens", number(options.tokens.get())),
        ("blacklist_entries", options.entries),
    ]
}

/// Prints the table and writes the file.
fn publish(report: &Report, file: &Path) -> Result<(), BenchError> {
    print!("{report}");
    fs::write(file, format!("{:#}\n", report.json()))
        .map_err(|error| BenchError::Report(file.to_owned(), error))?;
    println!("figures written to: {}", file.display());
    Ok(())
}
