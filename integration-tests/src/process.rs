//! Owns child processes: their output, their end, and that none outlives its test.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal};

use crate::eventually;

/// A running program. It is killed when this is dropped, and its output is shown if the test fails.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in a file in `folder`.
    #[must_use]
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> Self {
        let output = folder.join(format!("{name}.log"));
        // Appended: a process that is started again goes on with the file of the one before.
        let log = File::options().create(true).append(true).open(&output);
        let log = log.expect("the test's folder is writable");
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name, child, output }
    }

    /// What it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Fails the test if it ended.
    ///
    /// # Panics
    /// When it ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended with {status}", self.name);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .expect("a child can be signalled");
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        // Fails only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself.
    pub async fn end(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually::some(&what, || std::future::ready(self.ended())).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- output of {} ---\n{}", self.name, self.output());
        }
    }
}
