//! Portcullis process for tests: the real binary with a configuration file, on free ports.

mod replicas;

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::replicas::Replicas;
use crate::{admin::Admin, client::Request, eventually, places, process::Process, token};

/// The token of the admin API. It guards nothing.
const ADMIN_TOKEN: &str = "the admin token of the tests, which guards nothing";

/// A configuration: loopback, free ports, the issuer of [`crate::token`], and the routes of the
/// test.
#[derive(Debug, Clone)]
pub struct Config {
    routes: Value,
    settings: Vec<(String, Value)>,
    environment: Vec<(String, String)>,
    failpoint: Option<String>,
}

/// A running Portcullis. It is killed when this is dropped.
#[derive(Debug)]
pub struct Portcullis {
    // Before the folder, so that the process is gone when its files are removed.
    process: Process,
    addresses: Addresses,
    folder: TempDir,
}

/// Its addresses.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Addresses {
    /// The gRPC edge.
    pub grpc: SocketAddr,
    /// The HTTP edge, unless a test switches it off.
    pub http: Option<SocketAddr>,
    /// The admin edge.
    pub admin: SocketAddr,
    /// The receiver, if a test switches it on.
    pub receiver: Option<SocketAddr>,
}

/// The binary, for tests of the command line.
#[must_use]
pub fn command() -> Command {
    Command::new(places::portcullis())
}

/// The binary with failpoints, with `failpoint` set to stop or kill it in the middle of a step; for
/// example `relay::published=return` or `feed::bound=pause`.
#[must_use]
pub fn failing_command(failpoint: &str) -> Command {
    let mut command = Command::new(places::portcullis_with_failpoints());
    command.env("FAILPOINTS", failpoint);
    command
}

/// A route for `paths` that needs a token and nothing else.
#[must_use]
pub fn token_route(name: &str, paths: &[&str]) -> Value {
    json!({
        "name": name,
        "match": {"paths": paths},
        "token": "required",
        "allow_without_policy": true,
        "identity_headers": {"x-user-id": ["sub"], "x-auth-provider": ["provider"]},
    })
}

/// The same, but the token is optional.
#[must_use]
pub fn optional_route(name: &str, paths: &[&str]) -> Value {
    let mut route = token_route(name, paths);
    route["token"] = json!("optional");
    route
}

/// A route for `paths` that needs nothing and forwards no identity.
#[must_use]
pub fn public_route(name: &str, paths: &[&str]) -> Value {
    json!({
        "name": name,
        "match": {"paths": paths},
        "token": "ignored",
        "allow_without_policy": true,
    })
}

// === impl Addresses ===

impl Addresses {
    /// The HTTP edge.
    ///
    /// # Panics
    /// When it is off.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.http.expect("the HTTP edge is on")
    }

    /// The receiver.
    ///
    /// # Panics
    /// When it is off.
    #[must_use]
    pub fn receiver(&self) -> SocketAddr {
        self.receiver.expect("the receiver is on")
    }
}

// === impl Config ===

impl Config {
    /// A configuration with these routes.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = Value>) -> Self {
        Self {
            routes: routes.into_iter().collect(),
            settings: Vec::new(),
            environment: Vec::new(),
            failpoint: None,
        }
    }

    /// Sets a key, such as `cors.preflight`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.settings.push((key.to_owned(), value.into()));
        self
    }

    /// Sets a failpoint at which the process stops or dies; see [`failing_command`].
    #[must_use]
    pub fn failpoint(mut self, failpoint: &str) -> Self {
        self.failpoint = Some(failpoint.to_owned());
        self
    }

    /// Sets a variable of the process' environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the file, and those that it names, into `folder`, and returns its path.
    ///
    /// # Panics
    /// When the folder is not writable, or a key leads into something that is not an object.
    #[must_use]
    pub fn write(&self, folder: &Path) -> std::path::PathBuf {
        let admin_token = folder.join("admin.token");
        std::fs::write(&admin_token, ADMIN_TOKEN).expect("the test's folder is writable");
        let mut document = json!({
            "grpc": {"listen": "127.0.0.1:0"},
            "http": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0", "token_file": admin_token},
            "issuers": token::issuers(folder),
            "routes": self.routes,
        });
        for (key, value) in &self.settings {
            // Indexing creates the objects on the way.
            let place = key.split('.').fold(&mut document, |place, part| &mut place[part]);
            *place = value.clone();
        }
        let file = folder.join("portcullis.yaml");
        // JSON is YAML too.
        std::fs::write(&file, format!("{document:#}\n")).expect("the test's folder is writable");
        file
    }
}

// === impl Portcullis ===

impl Portcullis {
    /// Starts it and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn start(config: &Config) -> Self {
        let mut portcullis = Self::launch(config).await;
        portcullis.ready().await;
        portcullis
    }

    /// Starts it and waits until it listens, before it is ready.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn launch(config: &Config) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let (process, addresses) = launch_in(folder.path(), config).await;
        Self { process, addresses, folder }
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn ready(&mut self) {
        eventually::holds("Portcullis is ready", || {
            self.process.assert_running();
            let admin = self.addresses.admin;
            async move { is_ready(admin).await }
        })
        .await;
    }

    /// Whether it is ready now; false if it does not run.
    pub async fn is_ready(&self) -> bool {
        is_ready(self.addresses.admin).await
    }

    /// Starts another process in the same folder, after the end of the one before, and waits until
    /// it listens.
    async fn relaunch(&mut self, config: &Config) {
        (self.process, self.addresses) = launch_in(self.folder.path(), config).await;
    }

    /// Its addresses.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Its admin API.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.addresses.admin, ADMIN_TOKEN)
    }

    /// The folder with its configuration.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process, for its signals, its end and its output.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The processor time that it has used.
    pub fn processor_time(&self) -> Duration {
        self.process.processor_time()
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends SIGTERM, as Kubernetes does.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let response = Request::get("/readyz").try_send(admin).await;
    response.is_ok_and(|response| response.status == 200)
}

async fn launch_in(folder: &Path, config: &Config) -> (Process, Addresses) {
    let announcement = folder.join("addresses.json");
    // Otherwise the file of an earlier process would be read.
    let _ = std::fs::remove_file(&announcement);
    let mut command = config.failpoint.as_deref().map_or_else(command, failing_command);
    command.arg("serve").arg("--config").arg(config.write(folder));
    command.arg("--announce").arg(&announcement);
    command.envs(config.environment.iter().map(|(name, value)| (name, value)));
    let mut process = Process::start("portcullis", command, folder);
    let addresses = eventually::some("Portcullis listens", || {
        process.assert_running();
        let text = std::fs::read(&announcement).ok();
        std::future::ready(text.map(|text| {
            serde_json::from_slice(&text).expect("the announcement is complete or missing")
        }))
    })
    .await;
    (process, addresses)
}
