//! Isolation behind Envoy: routes with slow policies, and what the clients of other routes notice.

#![expect(clippy::expect_used, reason = "a panic is how a test reports")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use portcullis_integration_tests::{
    client::Request,
    places,
    portcullis::{Config, public_route},
};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Gate;

/// Clients that sit on a policy that never answers.
const CALLERS: usize = 64;
/// Clients that send long paths, and how long each waits between two: answers are quick, so without
/// a pause they would take all that Envoy has.
const LONG_PATHS: usize = 16;
const PACE: Duration = Duration::from_millis(50);
/// What Envoy waits unless it is told otherwise.
const ENVOYS_TIMEOUT: &str = "0.2s";
/// Answers on another route are to come within this time.
const PROMISED: Duration = Duration::from_millis(50);
/// A machine that does something else at the wrong moment gets another chance.
const ATTEMPTS: usize = 3;

/// A gate whose requests below `/slow` are decided by `component` with `settings`.
async fn gate(component: &str, settings: &Value) -> Gate {
    gate_with(component, vec![slow_route("slow", settings)]).await
}

/// A route for what is below the folder of its name.
fn slow_route(name: &str, settings: &Value) -> Value {
    json!({
        "name": name, "match": {"paths": [format!("/{name}/*")]}, "token": "ignored",
        "policy": "slow", "settings": settings,
    })
}

/// A gate with these routes, whose policy is `component`, and one for `/other`.
async fn gate_with(component: &str, mut routes: Vec<Value>) -> Gate {
    routes.push(public_route("other", &["/other"]));
    let file = places::component(component);
    let config = Config::new(routes)
        .with("policies.slow.file", file.to_str().expect("the path is text"))
        .with("log.filter", "info,decision=off");
    Gate::with(&config, |envoy| envoy.with_timeout(ENVOYS_TIMEOUT)).await
}

/// So many clients that ask for `target`, each once in `pace`, until this is dropped.
fn flood(to: SocketAddr, target: &str, number: usize, pace: Duration) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..number {
        let request = Request::get(target);
        callers.spawn(async move {
            loop {
                let response = request.send(to).await;
                assert_ne!(response.status, 200, "the slow route is closed");
                tokio::time::sleep(pace).await;
            }
        });
    }
    callers
}

/// Of 100 requests to the other route, how many got their answer in time.
async fn in_time(gate: &Gate) -> usize {
    let mut in_time = 0;
    for _ in 0..100 {
        let begin = Instant::now();
        let response = gate.send(Request::get("/other")).await;
        in_time += usize::from(response.status == 200 && begin.elapsed() < PROMISED);
    }
    in_time
}

async fn others_are_answered(gate: &Gate, _callers: JoinSet<()>) {
    let mut seen = Vec::new();
    while seen.len() < ATTEMPTS && seen.last().is_none_or(|in_time| *in_time < 99) {
        seen.push(in_time(gate).await);
    }
    assert!(seen.iter().any(|in_time| *in_time >= 99), "{seen:?} of 100 came in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_policy_that_never_answers_hold_up_no_other_route() {
    let gate = gate("hostile_guest", &json!({"attack": "spin", "when_path": "/slow/attack"})).await;
    let callers = flood(gate.envoy.http(), "/slow/attack", CALLERS, Duration::ZERO);
    others_are_answered(&gate, callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_many_routes_that_never_answer_hold_up_no_other_route() {
    const ROUTES: usize = 8;
    let name = |number: usize| format!("slow-{number}");
    let attack = |number| format!("/{}/attack", name(number));
    let route =
        |number| slow_route(&name(number), &json!({"attack": "spin", "when_path": attack(number)}));
    let gate = gate_with("hostile_guest", (0..ROUTES).map(route).collect()).await;
    let mut callers = JoinSet::new();
    for number in 0..ROUTES {
        let target = attack(number);
        let mut some = flood(gate.envoy.http(), &target, CALLERS / ROUTES, Duration::ZERO);
        callers.spawn(async move { while some.join_next().await.is_some() {} });
    }
    others_are_answered(&gate, callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_paths_against_many_patterns_hold_up_no_other_route() {
    let rule =
        |word: &str| json!({"match": {"paths": [format!("/**/*{word}*/**")]}, "effect": "deny"});
    let rules: Vec<_> = ["alpha", "bravo", "charlie", "delta"].map(rule).into();
    let gate = gate("portcullis_rules", &json!({ "rules": rules })).await;
    // As long as `paths.max_bytes` permits.
    let target = format!("/slow{}", "/a".repeat(4_000));
    let callers = flood(gate.envoy.http(), &target, LONG_PATHS, PACE);
    others_are_answered(&gate, callers).await;
}
