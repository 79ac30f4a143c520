//! Swap benchmark: requests that are denied while a policy is replaced repeatedly.
//!
//! It varies the size of the settings, with and without busy loops. Both revisions allow every
//! request, so each denial is a fault of the swap.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    admin::AdminError,
    config::{Files, WriteError},
    load::{Background, LoadError},
    request::{Check, Expected},
    servers::{Server, StartError},
};

/// Numbers of rules in the settings.
const RULES: [usize; 3] = [1, 1000, 4000];
/// Numbers of concurrent busy loops.
const BUSY: [usize; 2] = [0, 4];
/// Replacements of the policy per row.
const SWAPS: u8 = 100;
/// Callers that send without a pause.
const CALLERS: usize = 8;
/// The timeout of one row.
const LIMIT: Duration = Duration::from_mins(10);

/// One row of the table.
pub(crate) struct SwapRow {
    /// Rules in the settings.
    pub(crate) rules: usize,
    /// Concurrent busy loops.
    pub(crate) busy: usize,
    /// Replacements.
    pub(crate) swaps: u8,
    /// Answers.
    pub(crate) answers: u64,
    /// Denials among the answers.
    pub(crate) denied: u64,
}

/// The swap benchmark failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwapError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{source}\n{log}")]
    Reload { source: AdminError, log: String },
    #[error("{source}\n{log}")]
    Load { source: Box<LoadError>, log: String },
}

/// Measures the program `portcullis`.
pub(crate) fn measure(
    portcullis: &Path,
    components: &Path,
    files: &Files,
) -> Result<Vec<SwapRow>, SwapError> {
    let component = components.join("portcullis_rules.wasm");
    let bytes = fs::read(&component)
        .map_err(|source| WriteError::Write { path: component.clone(), source })?;
    let mut rows = Vec::new();
    for busy in BUSY {
        for rules in RULES {
            eprintln!("swapping with {rules} rules and {busy} busy loops");
            let row = row(portcullis, &bytes, files, rules, busy)?;
            eprintln!("{} answers, {} denied", row.answers, row.denied);
            rows.push(row);
        }
    }
    Ok(rows)
}

fn row(
    portcullis: &Path,
    component: &[u8],
    files: &Files,
    rules: usize,
    busy: usize,
) -> Result<SwapRow, SwapError> {
    let policy = files.path("swapped.wasm");
    put(&policy, component)?;
    let config = configuration(files, &policy, rules)?;
    let server = Server::start_with(portcullis, files, "swaps", &config)?;
    let failed = |source| SwapError::Load { source: Box::new(source), log: server.log() };
    let callers = Background {
        address: server.grpc,
        check: Arc::new(Check::anonymous("api.shop.example", "/")),
        callers: CALLERS,
        timeout: None,
        expected: Some(Expected::Allow),
        limit: LIMIT,
    };
    let callers = callers.start().map_err(failed)?;
    let stop = Arc::new(AtomicBool::new(false));
    let loops = burn(&stop, busy);
    let swapped = swap(&server, &policy, component);
    stop.store(true, Relaxed);
    let answers = callers.stop();
    for burner in loops {
        // A busy loop cannot fail.
        let _ = burner.join();
    }
    let answers = answers.map_err(failed)?;
    swapped?;
    Ok(SwapRow { rules, busy, swaps: SWAPS, answers: answers.all, denied: answers.wrong })
}

/// Replaces the policy with others that differ only in their digest.
fn swap(server: &Server, policy: &Path, component: &[u8]) -> Result<(), SwapError> {
    for number in 0..SWAPS {
        // A custom section: its kind, its length, the length of its name, its name, one byte.
        put(policy, &[component, &[0, 3, 1, b'n', number]].concat())?;
        if let Some(admin) = &server.admin {
            let reloaded = admin.reload_policies();
            reloaded.map_err(|source| SwapError::Reload { source, log: server.log() })?;
        }
    }
    Ok(())
}

fn burn(stop: &Arc<AtomicBool>, busy: usize) -> Vec<JoinHandle<()>> {
    let burner = |_| {
        let stop = Arc::clone(stop);
        thread::spawn(move || while !stop.load(Relaxed) {})
    };
    (0..busy).map(burner).collect()
}

fn configuration(files: &Files, policy: &Path, rules: usize) -> Result<PathBuf, WriteError> {
    let never = |n| json!({"match": {"paths": [format!("/never/{n}")]}, "effect": "deny"});
    let mut list: Vec<Value> = (1..rules).map(never).collect();
    list.push(json!({"effect": "allow"}));
    let config = json!({
        "grpc": {"listen": "127.0.0.1:0"},
        "admin": {"listen": "127.0.0.1:0", "token_file": files.path("admin-token")},
        "log": {"filter": "warn"},
        "policies": {"swapped": {"file": policy}},
        // Compilation is slow with busy loops.
        "policy_host": {"reload_interval": "1h", "reload_timeout": "2m"},
        "routes": [{
            "name": "all", "token": "ignored", "policy": "swapped", "settings": {"rules": list},
        }],
    });
    let path = files.path("swaps.yaml");
    put(&path, config.to_string().as_bytes())?;
    Ok(path)
}

/// Replaces a file in one step.
fn put(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError::Write { path: path.to_owned(), source };
    let new = path.with_extension("partial");
    fs::write(&new, content).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}
