//! Process of the relay.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use portcullis_integration_tests::{
    portcullis::{self, Config},
    process::Process,
};

use crate::endpoints::RevokeCommand;

/// A relay. It is killed when this is dropped.
#[derive(Debug)]
pub struct Relay {
    process: Process,
    command: RevokeCommand,
    folder: PathBuf,
}

// === impl Relay ===

impl Relay {
    pub(super) fn start(config: &Config, folder: &Path) -> Self {
        let command = RevokeCommand::new(config.write(folder));
        let process = launch(&command, None, folder);
        Self { process, command, folder: folder.to_owned() }
    }

    /// Kills it if it runs, and starts it again; it dies at the failpoint, if one is given.
    pub fn restart(&mut self, failpoint: Option<&str>) {
        self.process.kill();
        self.process = launch(&self.command, failpoint, &self.folder);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits for it to die, and returns whether it did.
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

    pub(super) fn log(&self) -> String {
        self.process.output()
    }

    /// Fails the run if it died.
    pub(super) fn assert_running(&mut self) {
        self.process.assert_running();
    }

    pub(super) fn command(&self) -> RevokeCommand {
        self.command.clone()
    }
}

fn launch(command: &RevokeCommand, failpoint: Option<&str>, folder: &Path) -> Process {
    let mut relay = failpoint.map_or_else(portcullis::command, portcullis::failing_command);
    relay.arg("relay").arg("--config").arg(command.config());
    Process::start("relay", relay, folder)
}
