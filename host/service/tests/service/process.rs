//! Test harness of a running Portcullis: its folder, its configuration, its process and its admin
//! port.
//!
//! Nothing waits for a fixed time: tests look until they see something, or until it is too late.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::check;

/// How long anything may take on a busy machine. Long, because only failing tests wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(5);
const ADMIN_TOKEN: &str = "the admin token of the tests, which guards nothing";

/// A folder for a configuration and what it names.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

/// Where a service listens.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) grpc: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) receiver: Option<SocketAddr>,
}

/// A running service. It is killed when this is dropped, and its log is shown if the test fails.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    pub(crate) addresses: Addresses,
    pub(crate) folder: Folder,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary under test.
pub(crate) fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
}

/// Sends a signal, by its name without `SIG`.
pub(crate) fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
    assert!(status.success(), "kill -s {name} {id}: {status}");
}

/// Runs the binary to its end.
pub(crate) fn run<A: AsRef<std::ffi::OsStr>>(arguments: &[A]) -> Finished {
    let output = command().args(arguments).stdin(Stdio::null()).output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A compiled policy, by the name of its file without `.wasm`.
pub(crate) fn component(name: &str) -> PathBuf {
    // target/debug/portcullis
    let target = Path::new(env!("CARGO_BIN_EXE_portcullis")).ancestors().nth(2).unwrap();
    let file = target.join("wasm32-wasip2/component").join(name).with_extension("wasm");
    assert!(file.exists(), "{} is missing; run `make components`", file.display());
    file
}

/// Looks until there is something, and returns it.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Where the examples of rules are.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policy-component/rules/examples")
}

/// One of them: its settings and its cases. `README.md` beside them describes the format.
pub(crate) fn example_file(name: &str) -> Value {
    let text = fs::read_to_string(examples().join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Sends an HTTP/1.1 request, and returns status and body.
pub(crate) fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    body: &str,
) -> io::Result<(u16, String)> {
    let authorization = bearer.map(|token| format!("Authorization: Bearer {token}\r\n"));
    exchange(address, &format!("{method} {path}"), &authorization.unwrap_or_default(), body)
}

/// Sends a form, and returns status and body.
pub(crate) fn form(address: SocketAddr, path: &str, body: &str) -> io::Result<(u16, String)> {
    post(address, path, "application/x-www-form-urlencoded", body)
}

/// Sends a body of this media type, and returns status and body of the answer.
pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    media_type: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    exchange(address, &format!("POST {path}"), &format!("Content-Type: {media_type}\r\n"), body)
}

fn exchange(
    address: SocketAddr,
    request: &str,
    header: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{header}\r\n{body}",
        length = body.len(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (status, (_, body)) = status.zip(answer.split_once("\r\n\r\n")).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {answer:?}"))
    })?;
    Ok((status, body.to_owned()))
}

// === impl Folder ===

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Replaces a file by another, in one step, as operators are told to.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) {
        let new = self.put("new.partial", content);
        fs::rename(new, self.path(name)).unwrap();
    }

    /// A configuration on loopback, with the issuer of [`check::token`], and no route.
    pub(crate) fn config(&self) -> Value {
        json!({
            "grpc": {"listen": "127.0.0.1:0"},
            "admin": {
                "listen": "127.0.0.1:0",
                "token_file": self.put("admin.token", ADMIN_TOKEN),
            },
            "issuers": {
                "test": {
                    "issuer": check::ISSUER,
                    "keys": [{
                        "secret_file": self.put("issuer.secret", check::SECRET),
                        "algorithm": "HS256",
                    }],
                },
            },
            "shutdown": {"grace": "0s"},
        })
    }

    /// The same with one policy, copied to `policy.wasm`, for one route that needs no token.
    pub(crate) fn config_with_policy(&self, component: &Path, settings: &Value) -> Value {
        let mut config = self.config();
        let file = self.put("policy.wasm", fs::read(component).unwrap());
        config["policies"] = json!({"main": {"file": file}});
        // Long enough that only a policy that means it is late, however busy the machine.
        config["routes"] = json!([{
            "name": "everything", "token": "ignored", "policy": "main", "deadline": "10s",
            "settings": settings,
        }]);
        config
    }

    /// Writes the configuration file. JSON is YAML too.
    pub(crate) fn write(&self, config: &Value) -> PathBuf {
        self.put("portcullis.yaml", format!("{config:#}\n"))
    }

    /// `portcullis check-config` with this configuration.
    pub(crate) fn check_config(&self, config: &Value) -> Finished {
        run(&["check-config".as_ref(), "--config".as_ref(), self.write(config).as_os_str()])
    }
}

// === impl Service ===

impl Service {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(folder: Folder, config: &Value) -> Self {
        Self::start_as(command(), None, folder, config)
    }

    /// The same with a limit of file descriptors, soft and hard.
    pub(crate) fn start_with_descriptors(limit: u32, folder: Folder, config: &Value) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")]);
        Self::start_as(shell, None, folder, config)
    }

    /// The same with a log that goes to `log`.
    pub(crate) fn start_with_log(log: impl Into<Stdio>, folder: Folder, config: &Value) -> Self {
        Self::start_as(command(), Some(log.into()), folder, config)
    }

    fn start_as(mut command: Command, to: Option<Stdio>, folder: Folder, config: &Value) -> Self {
        let announcement = folder.path("addresses.json");
        // It may be that of an earlier process.
        let _ = fs::remove_file(&announcement);
        let log = File::create(folder.path("portcullis.log")).unwrap();
        let child = command
            .args(["serve", "--config"])
            .arg(folder.write(config))
            .arg("--announce")
            .arg(&announcement)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(to.unwrap_or_else(|| log.into()))
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = Addresses { grpc: nowhere, http: None, admin: nowhere, receiver: None };
        let mut service = Self { child, addresses, folder };
        service.addresses = eventually("the service listens", || {
            service.assert_running();
            serde_json::from_slice(&fs::read(&announcement).ok()?).unwrap()
        });
        eventually("the service is ready", || {
            service.assert_running();
            (service.admin("GET", "/readyz").ok()?.0 == 200).then_some(())
        });
        service
    }

    /// Asks the admin port.
    pub(crate) fn admin(&self, method: &str, path: &str) -> io::Result<(u16, String)> {
        http(self.addresses.admin, method, path, Some(ADMIN_TOKEN), "")
    }

    /// Sends something to the admin port.
    pub(crate) fn post(&self, path: &str, body: &str) -> (u16, String) {
        http(self.addresses.admin, "POST", path, Some(ADMIN_TOKEN), body).unwrap()
    }

    /// Revokes a token by its id, for good.
    pub(crate) fn revoke(&self, jti: &str) {
        let event = json!({"type": "add", "jti": jti}).to_string();
        let (status, body) = self.post("/v1/revocations", &event);
        assert_eq!(status, 201, "{body}");
    }

    /// What it says of its first policy.
    pub(crate) fn policy(&self) -> Value {
        let (status, body) = self.admin("GET", "/v1/policies").unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()[0].take()
    }

    /// Has it load its policies again, and returns the status.
    pub(crate) fn reload(&self) -> u16 {
        self.admin("POST", "/v1/policies/reload").unwrap().0
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path("portcullis.log")).unwrap_or_default()
    }

    /// Waits until so many lines of its log have `text`. Lines are written a little later than they
    /// are logged, and the end of the process waits for them no longer than a second.
    pub(crate) fn has_logged(&self, lines: usize, text: &str) {
        eventually(&format!("{lines} lines of the log have `{text}`"), || {
            let log = self.log();
            (log.lines().filter(|line| line.contains(text)).count() >= lines).then_some(())
        });
    }

    /// A sample of its metrics, by name and labels.
    pub(crate) fn metric(&self, series: &str) -> Option<u64> {
        let (status, text) = self.admin("GET", "/metrics").unwrap();
        assert_eq!(status, 200, "{text}");
        let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.map(|value| value.parse().unwrap())
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Has it end, and fails if that takes much longer than `shutdown.timeout`.
    pub(crate) fn terminate(&mut self) {
        let begin = Instant::now();
        self.signal("TERM");
        let status = self.end();
        assert!(status.success(), "{status}");
        assert!(begin.elapsed() < Duration::from_secs(30), "it took {:?}", begin.elapsed());
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually("the service ends", || self.child.try_wait().unwrap())
    }

    /// Kills it and gives its folder back.
    pub(crate) fn kill(mut self) -> Folder {
        self.stop();
        std::mem::replace(&mut self.folder, Folder::new())
    }

    /// The memory that it has in use, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// The CPU time that it has used, in the operating system's ticks, of its ended threads too.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // After the name, which may hold anything: the state, ten others, user and system time.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().skip(11).take(2).map(|time| time.parse::<u64>().unwrap()).sum()
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the service ended: {status}");
        }
    }

    fn stop(&mut self) {
        // Fails only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let begin = log.len().saturating_sub(20_000);
            eprintln!("--- log ---\n{}", &log[log.floor_char_boundary(begin)..]);
        }
    }
}

// === impl Finished ===

impl Finished {
    /// Fails the test unless the command failed and its message has each of `parts`.
    pub(crate) fn assert_refused(&self, parts: &[&str]) {
        assert!(matches!(self.code, Some(1 | 2)), "{self:?}");
        assert!(self.stderr.starts_with("portcullis: "), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in: {}", self.stderr);
        }
    }
}
