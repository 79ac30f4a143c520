//! Tests of isolation behind Envoy: slow policies of some routes do not affect the clients of other
//! routes.

#![expect(clippy::expect_used, clippy::panic, reason = "a panic is how a test reports")]

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

/// Clients of a policy that never answers.
const CALLERS: usize = 64;
/// Clients that send long paths, and the pause of each between two requests: answers are fast, so
/// without a pause they would use up Envoy.
const LONG_PATHS: usize = 16;
const PACE: Duration = Duration::from_millis(50);
/// The default timeout of Envoy.
const ENVOYS_TIMEOUT: &str = "0.2s";
/// The bound for answers on another route, below Envoy's timeout. It is wide, because other tests use
/// the processors meanwhile; `make bench` measures the time.
const PROMISED: Duration = Duration::from_millis(150);
/// Attempts, because a busy machine may disturb some.
const ATTEMPTS: usize = 10;

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

/// This many clients that request `target`, each once per `pace`, until this is dropped.
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

/// The times of 100 requests to the other route, the shortest first. An unanswered request counts
/// as infinite.
async fn times(gate: &Gate) -> Vec<Duration> {
    let mut times = Vec::with_capacity(100);
    for _ in 0..100 {
        let begin = Instant::now();
        let response = gate.send(Request::get("/other")).await;
        times.push(if response.status == 200 { begin.elapsed() } else { Duration::MAX });
    }
    times.sort();
    times
}

/// The bound for answers on another route; longer on a busy machine, where they are already
/// slow without requests to the slow route. None if they are too slow for Envoy.
async fn promised(gate: &Gate) -> Option<Duration> {
    let slowest = times(gate).await[98];
    (slowest < Duration::MAX).then(|| PROMISED.max(slowest * 4))
}

/// Asserts that another route answers in time while there are `callers`. Each attempt first measures
/// the machine without them, because other work may slow it down at any time.
async fn others_are_answered(gate: &Gate, callers: impl Fn() -> JoinSet<()>) {
    let mut seen = Vec::new();
    let mut alone = None;
    for _ in 0..ATTEMPTS {
        // Calls of the last attempt may still run: they must not raise the bound without limit.
        let Some(measured) = promised(gate).await else {
            seen.push("no answer, without callers too".to_owned());
            continue;
        };
        let promised = measured.min(*alone.get_or_insert(measured) * 2);
        let _callers = callers();
        let slowest = times(gate).await[98];
        if slowest < promised {
            return;
        }
        seen.push(format!("{slowest:?}, longer than {promised:?}"));
    }
    panic!("99 of 100 took {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_hanging_policy_delay_no_other_route() {
    let gate = gate("hostile_guest", &json!({"attack": "spin", "when_path": "/slow/attack"})).await;
    let callers = || flood(gate.envoy.http(), "/slow/attack", CALLERS, Duration::ZERO);
    others_are_answered(&gate, callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_many_hanging_routes_delay_no_other_route() {
    const ROUTES: usize = 8;
    let name = |number: usize| format!("slow-{number}");
    let attack = |number| format!("/{}/attack", name(number));
    let route =
        |number| slow_route(&name(number), &json!({"attack": "spin", "when_path": attack(number)}));
    let gate = gate_with("hostile_guest", (0..ROUTES).map(route).collect()).await;
    let callers = || {
        let mut callers = JoinSet::new();
        for number in 0..ROUTES {
            let target = attack(number);
            let mut some = flood(gate.envoy.http(), &target, CALLERS / ROUTES, Duration::ZERO);
            callers.spawn(async move { while some.join_next().await.is_some() {} });
        }
        callers
    };
    others_are_answered(&gate, callers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_paths_against_many_patterns_delay_no_other_route() {
    let rule =
        |word: &str| json!({"match": {"paths": [format!("/**/*{word}*/**")]}, "effect": "deny"});
    let rules: Vec<_> = ["alpha", "bravo", "charlie", "delta"].map(rule).into();
    let gate = gate("portcullis_rules", &json!({ "rules": rules })).await;
    // As long as `paths.max_bytes` permits.
    let target = format!("/slow{}", "/a".repeat(4_000));
    let callers = || flood(gate.envoy.http(), &target, LONG_PATHS, PACE);
    others_are_answered(&gate, callers).await;
}
