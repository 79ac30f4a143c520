//! Container of one service: start, kill, restart, pause and commands inside.
//!
//! It does not know which service runs inside.

use std::{
    collections::HashMap,
    fmt,
    io::Write,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use testcontainers::{
    ContainerAsync, ContainerRequest, GenericImage, ImageExt, TestcontainersError,
    bollard::models::PortBinding,
    core::{CmdWaitFor, ExecCommand, WaitFor, client::docker_client_instance},
    runners::AsyncRunner,
};

use super::images;
use crate::{eventually, ports::Port};

/// The label by which `make images` finds containers that a killed test left behind.
const OWNER: &str = "portcullis.test.process";
/// No test needs a container for longer than this. A test that still has it hangs.
const LIMIT: Duration = Duration::from_mins(30);
/// Whether containers have no time limit, because a program other than a test starts them.
static UNLIMITED: AtomicBool = AtomicBool::new(false);

/// The set-up of a container.
pub(super) struct Setup {
    name: &'static str,
    request: ContainerRequest<GenericImage>,
}

/// A running container. It is removed, with what it has stored, when this is dropped.
pub(super) struct Container {
    name: &'static str,
    running: ContainerAsync<GenericImage>,
    // Dropped with the container: that stops the watchdog of its time limit.
    _held: Option<Sender<()>>,
}

// === impl Setup ===

impl Setup {
    /// A container from `image` that runs a shell script, which ends in an `exec`.
    ///
    /// A script, so that the entrypoint of the image does not matter.
    pub(super) fn new(name: &'static str, image: &str, script: &str) -> Self {
        let request = images::image(image)
            .with_entrypoint("sh")
            // The caller waits: it knows when the service is ready.
            .with_wait_for(WaitFor::Nothing)
            .with_cmd(["-euc", script])
            .with_label(OWNER, std::process::id().to_string());
        Self { name, request }
    }

    /// Runs the script as a user of the image.
    pub(super) fn user(mut self, user: &str) -> Self {
        self.request = self.request.with_user(user);
        self
    }

    /// Sets an environment variable.
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.with_env_var(name, value);
        self
    }

    /// Publishes ports of the container: each under a loopback port that stays the same when
    /// the container is restarted.
    pub(super) fn publish<'a>(mut self, ports: impl IntoIterator<Item = (&'a Port, u16)>) -> Self {
        let mut bindings = HashMap::new();
        for (port, inside) in ports {
            self.request = self.request.with_mapped_port(port.number(), inside.into());
            let binding = PortBinding {
                // Without this, the whole network could reach the service.
                host_ip: Some(port.address().ip().to_string()),
                host_port: Some(port.number().to_string()),
            };
            bindings.insert(format!("{inside}/tcp"), Some(vec![binding]));
        }
        self.request = self
            .request
            .with_host_config_modifier(move |host| host.port_bindings = Some(bindings.clone()));
        self
    }

    /// Shares the network of another container, as the containers of a pod do.
    pub(super) fn network_of(mut self, other: &Container) -> Self {
        self.request = self.request.with_network(format!("container:{}", other.running.id()));
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When Docker refuses.
    pub(super) async fn start(self) -> Container {
        let name = self.name;
        let running = self.request.start().await.unwrap_or_else(|error| {
            panic!("cannot start {name}; run `make images` and read its output: {error}")
        });
        Container { name, running, _held: watch(name) }
    }
}

// === impl Container ===

impl Container {
    /// Kills it with SIGKILL, and waits for its end. Its data stays.
    pub(super) async fn kill(&self) {
        let docker = docker_client_instance().await.expect("Docker answers");
        docker
            .kill_container(self.running.id(), None)
            .await
            .unwrap_or_else(|error| panic!("cannot kill {}: {error}", self.name));
        let what = format!("{} has ended", self.name);
        eventually::holds(&what, || async { !self.is_running().await }).await;
    }

    /// Restarts it after [`kill`](Self::kill), with its data, on the same ports.
    pub(super) async fn start_again(&self) {
        self.running
            .start()
            .await
            .unwrap_or_else(|error| panic!("cannot restart {}: {error}", self.name));
    }

    /// Pauses all of its processes. Connections to it stay open, and are silent.
    pub(super) async fn pause(&self) {
        self.running
            .pause()
            .await
            .unwrap_or_else(|error| panic!("cannot pause {}: {error}", self.name));
    }

    /// Resumes its processes.
    pub(super) async fn unpause(&self) {
        self.running
            .unpause()
            .await
            .unwrap_or_else(|error| panic!("cannot unpause {}: {error}", self.name));
    }

    /// Whether it runs; a paused one also does.
    pub(super) async fn is_running(&self) -> bool {
        self.running.is_running().await.expect("Docker answers")
    }

    /// Fails the test if it has ended unexpectedly.
    ///
    /// # Panics
    /// When it ended.
    pub(super) async fn assert_running(&self) {
        assert!(
            self.is_running().await,
            "{} ended unexpectedly:\n{}",
            self.name,
            self.output().await
        );
    }

    /// Runs a command inside, and returns what it wrote to its standard output.
    ///
    /// # Panics
    /// When the command fails.
    pub(super) async fn exec(&self, command: &[&str]) -> String {
        match self.run(command).await {
            Ok((Some(0), [output, _])) => output,
            Ok((_, [output, errors])) => {
                panic!("{command:?} in {} failed: {output}{errors}", self.name)
            }
            Err(error) => panic!("cannot run {command:?} in {}: {error}", self.name),
        }
    }

    /// The same for a command that may fail.
    pub(super) async fn try_exec(&self, command: &[&str]) -> Option<String> {
        match self.run(command).await {
            Ok((Some(0), [output, _])) => Some(output),
            _ => None,
        }
    }

    /// The exit status of a command, its output and its errors.
    async fn run(
        &self,
        command: &[&str],
    ) -> Result<(Option<i64>, [String; 2]), TestcontainersError> {
        let exec =
            ExecCommand::new(command.iter().copied()).with_cmd_ready_condition(CmdWaitFor::exit());
        let mut run = self.running.exec(exec).await?;
        let output = [run.stdout_to_vec().await?, run.stderr_to_vec().await?];
        let output = output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok((run.exit_code().await?, output))
    }

    /// Its output so far.
    pub(super) async fn output(&self) -> String {
        let output = self.running.stdout_to_vec().await.unwrap_or_default();
        let errors = self.running.stderr_to_vec().await.unwrap_or_default();
        String::from_utf8_lossy(&[output, errors].concat()).into_owned()
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Container").field(&self.name).finish()
    }
}

/// Removes the time limit of containers that are started from now on.
pub fn hold_for_any_time() {
    UNLIMITED.store(true, Ordering::Relaxed);
}

/// Watchdog: ends the process with a failure when the container is not dropped in time, because the
/// test runner would wait for a hanging test forever. It is a thread, so that a blocked runtime
/// does not block it.
#[expect(clippy::disallowed_methods, reason = "nothing else ends a test that is blocked")]
fn watch(name: &'static str) -> Option<Sender<()>> {
    if UNLIMITED.load(Ordering::Relaxed) {
        return None;
    }
    // The thread of a test has its name.
    let holder = thread::current().name().unwrap_or("a thread without a name").to_owned();
    let (held, given_back) = mpsc::channel();
    thread::spawn(move || {
        if given_back.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            // Bypass the test runner, which would capture the message.
            let _ = writeln!(std::io::stderr(), "{holder} hangs: it has had {name} for {LIMIT:?}");
            std::process::exit(1);
        }
    });
    Some(held)
}
