//! Owns the relay's process, and the command line that revokes with its configuration.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use portcullis_integration_tests::{
    portcullis::{self, Config},
    process::Process,
};

/// A relay. It is killed when this is dropped.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    command: Command,
    folder: PathBuf,
}

/// `portcullis revoke`.
#[derive(Debug, Clone)]
pub struct Command {
    config: PathBuf,
}

/// How long a command may take; it is killed then.
const TIMEOUT: Duration = Duration::from_secs(10);

// === impl Relay ===

impl Relay {
    pub(super) fn start(config: &Config, folder: &Path) -> Self {
        let command = Command { config: config.write(folder) };
        let process = launch(&command, None, folder);
        Self { process, command, folder: folder.to_owned() }
    }

    /// Kills it if it runs, and starts it again; it dies where `failpoint` says.
    pub fn restart(&mut self, failpoint: Option<&str>) {
        self.process.kill();
        self.process = launch(&self.command, failpoint, &self.folder);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until it has died by itself, and says whether it did.
    pub async fn died_within(&mut self, patience: Duration) -> bool {
        let began = std::time::Instant::now();
        while began.elapsed() < patience {
            if self.process.ended().is_some() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// Fails the run if it died.
    pub(super) fn assert_running(&mut self) {
        self.process.assert_running();
    }

    pub(super) fn command(&self) -> Command {
        self.command.clone()
    }
}

fn launch(command: &Command, failpoint: Option<&str>, folder: &Path) -> Process {
    let mut relay = failpoint.map_or_else(portcullis::command, portcullis::failing_command);
    relay.arg("relay").arg("--config").arg(&command.config);
    Process::start("relay", relay, folder)
}

// === impl Command ===

impl Command {
    /// Revokes, and says whether that succeeded.
    pub async fn revoke(&self, arguments: &[String]) -> bool {
        let mut revoke = tokio::process::Command::from(portcullis::command());
        revoke.arg("revoke").arg("--config").arg(&self.config).args(arguments);
        revoke.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let ended = tokio::time::timeout(TIMEOUT, revoke.status()).await;
        ended.is_ok_and(|ended| ended.is_ok_and(|status| status.success()))
    }
}
