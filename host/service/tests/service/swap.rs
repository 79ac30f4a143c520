//! Tests of replacing a policy while requests are served: none fails, each is answered by the old
//! or by the new one, and a bad one changes nothing.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    check::{Answer, Ask, Client},
    process::{Folder, Service, component, eventually},
};

/// The two policies that take turns.
#[derive(Debug)]
struct Policies {
    /// Lets everything pass.
    open: Vec<u8>,
    /// Answers 503.
    closed: Vec<u8>,
}

/// Requests without a pause, and how long each answer took.
#[derive(Debug)]
struct Load {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Duration>>,
}

/// How long a policy with a deadline of 50 ms may take to answer a caller that states no limit.
const UNLIMITED: Duration = Duration::from_millis(300);
/// Attempts, because a busy machine may disturb one.
const ATTEMPTS: usize = 5;

fn policies() -> Policies {
    let read = |name| fs::read(component(name)).unwrap();
    Policies { open: read("portcullis_rules"), closed: read("portcullis_maintenance") }
}

/// Both policies take these.
fn settings() -> Value {
    json!({"rules": [{"effect": "allow"}]})
}

/// A service that begins with the open policy, and looks at its file `every` so often.
fn service(every: &str) -> Service {
    let folder = Folder::new();
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings());
    config["policy_host"] = json!({"reload_interval": every, "reload_timeout": "60s"});
    config["log"] = json!({"filter": "info,decision=off"});
    // Compiling takes all the machine has, and what is late is a failure here.
    config["routes"][0]["deadline"] = json!("10s");
    Service::start(folder, &config)
}

/// Whether it is the open policy's answer; fails the test unless it is one of either.
fn is_open(answer: &Answer) -> bool {
    if answer.allowed {
        return true;
    }
    assert_eq!((answer.status, answer.reason.as_str()), (503, "policy_denied"), "{answer:?}");
    assert_eq!(answer.body, "Down for maintenance, back in a minute.");
    assert_eq!(answer.response_headers["retry-after"], "60");
    false
}

async fn serves_open(service: &Service) -> bool {
    let client = Client::connect(service.addresses.grpc).await;
    is_open(&client.ask(&Ask::get("/")).await)
}

/// Looks until the service answers with the open policy, or with the closed one.
async fn becomes(service: &Service, open: bool) {
    let begin = Instant::now();
    while serves_open(service).await != open {
        assert!(begin.elapsed() < crate::process::PATIENCE, "the policy is not replaced");
        tokio::task::yield_now().await;
    }
}

// === impl Load ===

impl Load {
    fn start(service: &Service) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..3 {
            let (stop, to) = (Arc::clone(&stop), service.addresses.grpc);
            tasks.spawn(async move {
                let client = Client::connect(to).await.patient();
                let mut times = Vec::new();
                while !stop.load(SeqCst) {
                    times.push(time_of_answer(&client).await);
                }
                times
            });
        }
        Self { stop, tasks }
    }

    /// Ends it and returns the time of each answer. Fails the test if a request was not answered.
    async fn end(mut self) -> Vec<Duration> {
        self.stop.store(true, SeqCst);
        let mut times = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            times.extend(ended.expect("every request is answered by one of the policies"));
        }
        times
    }
}

/// How long an answer takes, which is that of one of the policies.
async fn time_of_answer(client: &Client) -> Duration {
    let begin = Instant::now();
    is_open(&client.ask(&Ask::get("/")).await);
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_swaps_under_load_lose_no_request() {
    let service = service("1h");
    let policies = policies();
    let load = Load::start(&service);
    let bad: [&[u8]; 3] = [b"not a policy", b"\0asm\x0d\0\x01\0", &policies.open[..1000]];
    let mut open = true;
    for number in 1..=100 {
        let before = service.policy();
        if number % 10 == 0 {
            service.folder.replace("policy.wasm", bad[number / 10 % bad.len()]);
            assert_eq!(service.reload(), 409);
            let after = service.policy();
            let error = after["last_error"].as_str().expect("the failure is shown");
            assert!(error.contains("policy `main`") && error.contains("policy.wasm"), "{error}");
            assert_eq!(after["digest"], before["digest"], "the old one goes on serving");
        } else {
            open = !open;
            let bytes = if open { &policies.open } else { &policies.closed };
            service.folder.replace("policy.wasm", bytes);
            assert_eq!(service.reload(), 200);
            let after = service.policy();
            assert_eq!(after["last_error"], Value::Null);
            assert_ne!(after["digest"], before["digest"]);
        }
        // A request that begins after the reload has ended never meets the policy before it.
        assert_eq!(serves_open(&service).await, open, "swap {number}");
    }
    let answered = load.end().await.len();
    assert!(answered > 100, "{answered} requests are no load");
    let status = service.policy();
    assert_eq!((&status["reloads"], &status["failures"]), (&json!(90), &json!(10)));
}

/// Rules that take some milliseconds to read; the first one denies nothing that is asked.
fn many_rules(number: usize) -> Value {
    let never = |n| json!({"match": {"paths": [format!("/never/{n}")]}, "effect": "deny"});
    let mut rules: Vec<Value> = (0..number).map(never).collect();
    rules.push(json!({"effect": "allow"}));
    json!({ "rules": rules })
}

/// The same component with another digest: a custom section of `number`.
fn with_section(component: &[u8], number: u8) -> Vec<u8> {
    // Section 0: length 3, name of length 1, one byte.
    [component, &[0, 3, 1, b'n', number]].concat()
}

/// Swaps policies with so many rules under load, on a busy machine: no request is denied. Returns
/// how many answers took much longer than all those before the first swap.
async fn late_in_swaps(rules: usize, swaps: u8) -> usize {
    let folder = Folder::new();
    let settings = many_rules(rules);
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    config["policy_host"] = json!({"reload_interval": "1h", "reload_timeout": "60s"});
    config["log"] = json!({"filter": "info,decision=off"});
    config["routes"][0]["deadline"] = json!("50ms");
    let service = Service::start(folder, &config);
    let open = policies().open;
    // As many as a small machine has processors: other tests run beside this one.
    let burners = Burners::start(2);
    let client = Client::connect(service.addresses.grpc).await.patient();
    let mut bound = UNLIMITED;
    for _ in 0..500 {
        bound = bound.max(time_of_answer(&client).await * 4);
    }
    let load = Load::start(&service);
    for number in 0..swaps {
        service.folder.replace("policy.wasm", &with_section(&open, number));
        assert_eq!(service.reload(), 200, "{}", service.policy());
    }
    let times = load.end().await;
    drop(burners);
    assert!(times.len() > 10, "{} requests are no load", times.len());
    assert_eq!(service.policy()["reloads"], swaps, "{rules} rules");
    times.into_iter().filter(|time| *time > bound).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_of_large_settings_on_a_busy_machine_deny_nothing() {
    for (rules, swaps) in [(1, 10), (1000, 6), (4000, 4)] {
        let mut late: Vec<usize> = Vec::new();
        // Swaps that hold up requests do so each time.
        while late.last().is_none_or(|late| *late >= usize::from(swaps)) {
            assert!(late.len() < ATTEMPTS, "{rules} rules, late answers: {late:?}");
            late.push(late_in_swaps(rules, swaps).await);
        }
    }
}

/// Threads that keep the processors busy until this is dropped.
struct Burners {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Burners {
    fn start(number: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let burn = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || while !stop.load(SeqCst) {})
        };
        let threads = (0..number).map(burn).collect();
        Self { stop, threads }
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_file_is_noticed_without_any_call() {
    let service = service("20ms");
    let policies = policies();
    let load = Load::start(&service);
    service.folder.replace("policy.wasm", &policies.closed);
    becomes(&service, false).await;
    service.folder.replace("policy.wasm", b"not a policy");
    eventually("the failure is shown", || service.policy()["last_error"].as_str().map(drop));
    assert!(!serves_open(&service).await, "the old one goes on serving");
    service.folder.replace("policy.wasm", &policies.open);
    becomes(&service, true).await;
    assert_eq!(service.policy()["last_error"], Value::Null);
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_vanishes_changes_nothing_until_it_is_back() {
    let service = service("20ms");
    fs::remove_file(service.folder.path("policy.wasm")).unwrap();
    assert_eq!(service.reload(), 409);
    assert!(serves_open(&service).await);
    service.folder.replace("policy.wasm", &policies().closed);
    becomes(&service, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_flip_of_a_kubernetes_volume_is_noticed() {
    let folder = Folder::new();
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings());
    config["policy_host"] = json!({"reload_interval": "20ms"});
    let policies = policies();
    for (version, bytes) in [("v1", &policies.open), ("v2", &policies.closed)] {
        fs::create_dir(folder.path(version)).unwrap();
        fs::write(folder.path(version).join("policy.wasm"), bytes).unwrap();
    }
    fs::remove_file(folder.path("policy.wasm")).unwrap();
    symlink("..data/policy.wasm", folder.path("policy.wasm")).unwrap();
    symlink("v1", folder.path("..data")).unwrap();
    let service = Service::start(folder, &config);
    assert!(serves_open(&service).await);
    symlink("v2", service.folder.path("..data_tmp")).unwrap();
    fs::rename(service.folder.path("..data_tmp"), service.folder.path("..data")).unwrap();
    becomes(&service, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reloads() {
    let service = service("1h");
    service.folder.replace("policy.wasm", &policies().closed);
    assert!(serves_open(&service).await, "nothing has asked for a reload yet");
    service.signal("HUP");
    becomes(&service, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_needs_its_token() {
    let service = service("1h");
    service.folder.replace("policy.wasm", &policies().closed);
    for token in [None, Some("guessed"), Some("")] {
        for (method, path) in [("POST", "/v1/policies/reload"), ("GET", "/v1/policies")] {
            let (status, _) =
                crate::process::http(service.addresses.admin, method, path, token, "").unwrap();
            assert_eq!(status, 401, "{token:?} {path}");
        }
    }
    assert!(serves_open(&service).await);
}
