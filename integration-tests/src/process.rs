//! Child processes of a test: their output, their exit status, and a kill on drop.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
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
        // Append: a restarted process continues the file of its predecessor.
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

    /// The processor time that it has used since its start.
    ///
    /// # Panics
    /// When the process has ended, or this is not Linux.
    pub fn processor_time(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.id());
        let stat = std::fs::read_to_string(&path).expect("a process that runs has a stat");
        // The name of the program comes first, in brackets, and may hold anything.
        let (_, fields) = stat.rsplit_once(')').expect("a stat begins with a name");
        // `utime` and `stime`, proc_pid_stat(5).
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
        let per_second = rustix::param::clock_ticks_per_second();
        Duration::from_millis(ticks * 1000 / per_second)
    }

    /// The exit status, if it has ended.
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

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        // Fails only if it has already ended.
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
