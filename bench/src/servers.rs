//! Processes of the measured servers, started here and stopped when dropped.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    admin::{Admin, AdminError},
    config::{Files, Variant, WriteError},
};

/// How long a server may take to announce its address.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(30);

/// Lines of the log to show when a server fails.
const LOG_LINES: usize = 20;

/// A running server.
pub(crate) struct Server {
    process: Child,
    /// The address for `Check`.
    pub(crate) grpc: SocketAddr,
    /// The admin edge of Portcullis; the empty server has none.
    pub(crate) admin: Option<Admin>,
    /// From the start of the process to readiness.
    pub(crate) ready_after: Duration,
    log: PathBuf,
}

/// The addresses of Portcullis, in the file that `--announce` names.
#[derive(Deserialize)]
struct Announcement {
    grpc: SocketAddr,
    admin: SocketAddr,
}

/// A server could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot start {program}: {source}; `make bench` builds it")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("{program} did not announce its address: {problem}\n{log}")]
    Silent { program: PathBuf, problem: String, log: String },
    #[error("{source}\n{log}")]
    Admin { source: AdminError, log: String },
    #[error(transparent)]
    Write(#[from] WriteError),
}

// === impl Server ===

impl Server {
    /// Starts the empty server, which prints its address.
    pub(crate) fn start_empty(program: &Path, files: &Files) -> Result<Self, StartError> {
        let log = files.path("empty.log");
        let begun = Instant::now();
        let mut process = spawn(&mut Command::new(program), &log)?;
        let line = |text: &str| text.split_once('\n').and_then(|(line, _)| line.parse().ok());
        let grpc = wait_for(&mut process, &log, line)
            .map_err(|problem| StartError::silent(program, &log, problem))?;
        Ok(Self { process, grpc, admin: None, ready_after: begun.elapsed(), log })
    }

    /// Starts Portcullis and waits until it is ready.
    pub(crate) fn start_portcullis(
        program: &Path,
        files: &Files,
        name: &str,
        variant: Variant,
    ) -> Result<Self, StartError> {
        let config = files.configuration(variant)?;
        Self::start_with(program, files, name, &config)
    }

    /// Starts Portcullis with the configuration file `config` and waits until it is ready. `name`
    /// is for its log.
    pub(crate) fn start_with(
        program: &Path,
        files: &Files,
        name: &str,
        config: &Path,
    ) -> Result<Self, StartError> {
        let log = files.path(&format!("{name}.log"));
        let announce = files.path(&format!("{name}.json"));
        // Otherwise the file of an earlier server of this name would be read.
        let _ = fs::remove_file(&announce);
        let begun = Instant::now();
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(config).arg("--announce").arg(&announce);
        let mut process = spawn(&mut command, &log)?;
        let announcement: Announcement =
            wait_for(&mut process, &announce, |text| serde_json::from_str(text).ok())
                .map_err(|problem| StartError::silent(program, &log, problem))?;
        let mut server = Self {
            process,
            grpc: announcement.grpc,
            admin: None,
            ready_after: Duration::ZERO,
            log,
        };
        let admin = Admin::new(announcement.admin, &files.admin_token);
        let ready = admin.and_then(|admin| admin.wait_until_ready().map(|()| admin));
        server.ready_after = begun.elapsed();
        server.admin =
            Some(ready.map_err(|source| StartError::Admin { source, log: server.log() })?);
        Ok(server)
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The end of the log.
    pub(crate) fn log(&self) -> String {
        tail(&self.log)
    }
}

impl StartError {
    fn silent(program: &Path, log: &Path, problem: String) -> Self {
        Self::Silent { program: program.to_owned(), problem, log: tail(log) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// Starts a process with its output in a file.
fn spawn(command: &mut Command, log: &Path) -> Result<Child, StartError> {
    let program = PathBuf::from(command.get_program());
    let failed = |source| StartError::Spawn { program: program.clone(), source };
    let log = File::create(log).map_err(failed)?;
    let both = log.try_clone().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(both).stderr(log).spawn().map_err(failed)
}

/// Waits until `file` has the address of the process; stops the process if it never does.
fn wait_for<T>(
    process: &mut Child,
    file: &Path,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    let begun = Instant::now();
    while begun.elapsed() < ANNOUNCE_WITHIN {
        // Until it is complete, the file is missing or cannot be parsed.
        if let Some(found) = read(&fs::read_to_string(file).unwrap_or_default()) {
            return Ok(found);
        }
        if let Ok(Some(status)) = process.try_wait() {
            return Err(format!("it ended with {status}"));
        }
        thread::sleep(Duration::from_millis(1));
    }
    stop(process);
    Err(format!("{} is missing or incomplete", file.display()))
}

/// Ends a process at once; the benchmark has nothing to save.
fn stop(process: &mut Child) {
    // Both fail only if the process has already ended.
    let _ = process.kill();
    let _ = process.wait();
}

/// The last lines of a log file.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines.split_at(lines.len().saturating_sub(LOG_LINES)).1.join("\n")
}
