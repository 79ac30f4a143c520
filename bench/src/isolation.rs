//! Isolation benchmark: latency of one route while callers keep a slow policy of another route
//! busy.
//!
//! Two attacks: a policy that never answers, and paths as long as a client may send them against
//! rules with many patterns. The victims are a route without a policy, over a separate connection,
//! and `/livez`.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    admin::Admin,
    config::{Files, WriteError},
    exchange::Caller,
    load::{Background, LoadError, run_local},
    request::Check,
    series::Series,
    servers::{Server, StartError},
};

/// Numbers of callers of the slow route, one row of the table for each.
const CALLERS: [usize; 4] = [0, 2, 8, 64];
/// How long each row is measured.
const WINDOW: Duration = Duration::from_secs(4);
/// Envoy's default timeout for an answer.
const ENVOYS_TIMEOUT: &str = "200m";
/// The promised latency.
const PROMISED: Duration = Duration::from_millis(50);
/// The timeout of one row.
const LIMIT: Duration = Duration::from_mins(1);

/// One row of the table.
pub(crate) struct IsolationRow {
    /// The attack.
    pub(crate) attack: &'static str,
    /// The number of callers.
    pub(crate) callers: usize,
    /// Answers on the slow route per second.
    pub(crate) attacked_per_second: f64,
    /// Latencies of the other route, in milliseconds.
    pub(crate) other: Series,
    /// Latencies of `/livez`, in milliseconds.
    pub(crate) livez: Series,
}

/// The isolation benchmark failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IsolationError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{attack} with {callers} callers: {source}\n{log}")]
    Load { attack: &'static str, callers: usize, source: Box<LoadError>, log: String },
}

/// Measures both attacks against the program `portcullis`.
pub(crate) fn measure(
    portcullis: &Path,
    components: &Path,
    files: &Files,
) -> Result<Vec<IsolationRow>, IsolationError> {
    let mut rows = Vec::new();
    for (attack, component, settings, path) in attacks() {
        let config = configuration(files, &components.join(component), &settings)?;
        let server = Server::start_with(portcullis, files, attack, &config)?;
        let slow = Arc::new(Check::anonymous("attack.example", &path));
        for callers in CALLERS {
            let failed = |source| IsolationError::Load {
                attack,
                callers,
                source: Box::new(source),
                log: server.log(),
            };
            rows.push(row(attack, callers, &server, &slow).map_err(failed)?);
        }
    }
    Ok(rows)
}

/// Name, component, settings and path of each attack.
fn attacks() -> [(&'static str, &'static str, Value, String); 2] {
    let pattern =
        |word| json!({"match": {"paths": [format!("/**/*{word}*/**")]}, "effect": "deny"});
    let rules: Vec<_> = ["alpha", "bravo", "charlie", "delta"].into_iter().map(pattern).collect();
    [
        ("spin", "hostile_guest.wasm", json!({"attack": "spin"}), "/attack".to_owned()),
        ("long paths", "portcullis_rules.wasm", json!({"rules": rules}), "/a".repeat(14_000)),
    ]
}

fn configuration(files: &Files, component: &Path, settings: &Value) -> Result<PathBuf, WriteError> {
    let config = json!({
        "grpc": {"listen": "127.0.0.1:0", "max_message_bytes": 192 << 10},
        "admin": {"listen": "127.0.0.1:0", "token_file": files.path("admin-token")},
        "log": {"filter": "warn"},
        "policies": {"slow": {"file": component}},
        "routes": [
            {
                "name": "slow",
                "match": {"hosts": ["attack.example"]},
                "token": "ignored",
                "policy": "slow",
                "settings": settings,
            },
            {"name": "other", "token": "ignored", "allow_without_policy": true},
        ],
    });
    let path = files.path("isolation.yaml");
    let written = fs::write(&path, format!("{config:#}\n"));
    written.map_err(|source| WriteError::Write { path: path.clone(), source })?;
    Ok(path)
}

fn row(
    attack: &'static str,
    callers: usize,
    server: &Server,
    slow: &Arc<Check>,
) -> Result<IsolationRow, LoadError> {
    let attackers = Background {
        address: server.grpc,
        check: Arc::clone(slow),
        callers,
        timeout: Some(ENVOYS_TIMEOUT),
        expected: None,
        limit: LIMIT,
    };
    let attackers = attackers.start()?;
    let begun = Instant::now();
    let victims = victims(server, begun);
    let took = begun.elapsed();
    let attacked = attackers.stop()?.all;
    let (other, livez) = victims?;
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let attacked_per_second = attacked as f64 / took.as_secs_f64();
    Ok(IsolationRow { attack, callers, attacked_per_second, other, livez })
}

/// Calls the other route and `/livez` in turn, and returns their latencies.
fn victims(server: &Server, begun: Instant) -> Result<(Series, Series), LoadError> {
    let (mut other, mut livez) = (Vec::new(), Vec::new());
    let check = Check::anonymous("good.example", "/");
    run_local(LIMIT, async {
        let mut caller = Caller::connect(server.grpc).await?;
        while begun.elapsed() < WINDOW {
            let asked = Instant::now();
            caller.call(check.frame.clone()).await?;
            other.push(asked.elapsed().as_secs_f64() * 1e3);
            if let Some(took) = server.admin.as_ref().and_then(Admin::livez) {
                livez.push(took.as_secs_f64() * 1e3);
            }
        }
        Ok(())
    })?;
    Ok((Series::new(other), Series::new(livez)))
}

// === impl IsolationRow ===

impl IsolationRow {
    /// The share of answers on the other route within [`PROMISED`], in percent.
    pub(crate) fn within_promise(&self) -> f64 {
        self.other.share_up_to(PROMISED.as_secs_f64() * 1e3) * 100.0
    }
}
