//! Isolation of slow policies: their callers wait for each other, and no others wait, however many
//! policies are slow.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    check::{Ask, Client},
    process::{Folder, Service, component},
};

/// Callers that sit on the slow routes, all together.
const CALLERS: usize = 64;
/// An answer on another route is to come within this time, and one of `/livez` within twice this
/// time.
const PROMISED: Duration = Duration::from_millis(50);
/// What is promised holds for this share of the answers, in percent.
const SHARE: usize = 99;
/// A machine that does something else at the wrong moment gets another chance.
const ATTEMPTS: usize = 10;
/// How long a slow route works on a request whose caller states no limit.
const UNLIMITED: Duration = Duration::from_millis(300);

/// A service with slow routes, for `slow-0.test` and so on, on each of which a policy never
/// answers. Half of them have their own policy each, the others share one. The route for the rest
/// has another policy, which is quick.
fn service(slow_routes: usize) -> Service {
    let folder = Folder::new();
    let mut config = folder.config_with_policy(&component("hostile_guest"), &json!(null));
    let file = config["policies"]["main"]["file"].take();
    let names = (0..slow_routes).map(|n| format!("slow-{}", n.min(slow_routes / 2)));
    let names: Vec<String> = names.chain(["quick".to_owned()]).collect();
    config["policies"] = names.iter().map(|name| (name.clone(), json!({"file": file}))).collect();
    let mut routes: Vec<Value> = names[..slow_routes]
        .iter()
        .enumerate()
        .map(|(n, policy)| {
            json!({
                "name": format!("slow-{n}"), "match": {"hosts": [slow_host(n)]}, "token": "ignored",
                "policy": policy, "settings": {"attack": "spin"}, "deadline": "50ms",
            })
        })
        .collect();
    routes.push(json!({
        "name": "other", "token": "ignored", "policy": "quick", "settings": {"attack": "none"},
    }));
    config["routes"] = json!(routes);
    config["log"] = json!({"filter": "info,decision=off"});
    Service::start(folder, &config)
}

fn slow_host(number: usize) -> String {
    format!("slow-{number}.test")
}

/// Callers that ask the slow routes again and again, until this is dropped.
async fn flood(service: &Service, slow_routes: usize) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let client = Client::connect(service.addresses.grpc).await;
        let host = slow_host(number % slow_routes);
        callers.spawn(async move {
            loop {
                let answer = client.ask(&Ask::get("/attack").host(&host)).await;
                assert_eq!(answer.reason, "policy_timeout", "{answer:?}");
            }
        });
    }
    callers
}

/// Within which times the promised share came of 200 answers on the other route, and of 50 of
/// `/livez`.
async fn times(service: &Service) -> [Duration; 2] {
    let client = Client::connect(service.addresses.grpc).await.patient();
    let (mut checks, mut livez) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let begin = Instant::now();
        let answer = client.ask(&Ask::get("/").host("other.test")).await;
        assert!(answer.allowed, "{answer:?}");
        checks.push(begin.elapsed());
        if number % 4 == 0 {
            let begin = Instant::now();
            tokio::task::block_in_place(|| service.admin("GET", "/livez")).unwrap();
            livez.push(begin.elapsed());
        }
    }
    [checks, livez].map(|mut times| {
        times.sort();
        times[(times.len() * SHARE).div_ceil(100) - 1]
    })
}

/// The bounds of [`times`]; longer on a machine where answers are slow without callers, too.
fn bounds(alone: [Duration; 2]) -> [Duration; 2] {
    [PROMISED.max(alone[0] * 4), (PROMISED * 2).max(alone[1] * 4)]
}

/// Callers of so many slow routes leave the others what is promised, and the end comes in time.
/// Each attempt first measures the machine without callers, because other work may slow it down at
/// any time.
async fn assert_isolated(slow_routes: usize) {
    let mut service = service(slow_routes);
    let mut seen = Vec::new();
    let mut first = None;
    for _ in 0..ATTEMPTS {
        let alone = times(&service).await;
        // Calls of the last attempt may still run: they must not raise the bounds without limit.
        let first: [Duration; 2] = *first.get_or_insert(alone);
        let bounds = bounds([alone[0].min(first[0] * 2), alone[1].min(first[1] * 2)]);
        let callers = flood(&service, slow_routes).await;
        let times = times(&service).await;
        if times[0] < bounds[0] && times[1] < bounds[1] {
            // The end comes as soon as with no callers at all: without grace, and with none that
            // wait.
            service.signal("TERM");
            drop(callers);
            assert!(service.end().success());
            return;
        }
        seen.push((times, bounds));
    }
    panic!("{SHARE} % of checks and of /livez took too long, against the bounds: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_policy_that_never_answers_hold_up_no_other_route() {
    assert_isolated(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_many_policies_that_never_answer_hold_up_no_other_route() {
    assert_isolated(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quick_requests_of_a_slow_route_are_answered_between_slow_ones() {
    let service = service(1);
    let slow = Client::connect(service.addresses.grpc).await;
    let quick = Client::connect(service.addresses.grpc).await.patient();
    let mut in_time = 0;
    for _ in 0..ATTEMPTS {
        let denied = slow.ask(&Ask::get("/attack").host("slow-0.test")).await;
        assert_eq!(denied.reason, "policy_timeout");
        let begin = Instant::now();
        let answer = quick.ask(&Ask::get("/harmless").host("slow-0.test")).await;
        assert!(answer.allowed, "{answer:?}");
        in_time += usize::from(begin.elapsed() < UNLIMITED);
        if in_time == 5 {
            return;
        }
    }
    panic!("{in_time} of {ATTEMPTS} answers came within {UNLIMITED:?}");
}

/// Rules that take some milliseconds to read, and one that decides.
fn many_rules(number: usize) -> Value {
    let rule = |n| {
        json!({
            "match": {"paths": [format!("/never/{n}/**")], "headers": [{"name": "x-never", "equals": "x"}]},
            "effect": "deny",
        })
    };
    let mut rules: Vec<Value> = (0..number).map(rule).collect();
    rules.push(json!({"effect": "allow"}));
    json!({ "rules": rules })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_instance_costs_no_request_its_deadline() {
    let folder = Folder::new();
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &many_rules(1000));
    // Far less than it takes to read the settings, and enough to decide.
    config["routes"][0]["deadline"] = json!("5ms");
    config["policy_host"] = json!({"instance_reuse": 20});
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await.patient();
    for number in 0..300 {
        let answer = client.ask(&Ask::get("/")).await;
        assert!(answer.allowed, "request {number}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_routes_with_a_policy_fit_into_the_address_space() {
    let folder = Folder::new();
    let settings = json!({"rules": [{"effect": "allow"}]});
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    let route = |n: usize| {
        let mut route = config["routes"][0].clone();
        route["name"] = json!(format!("route-{n}"));
        route["match"] = json!({"paths": [format!("/route/{n}")]});
        route
    };
    config["routes"] = (0..2000).map(route).collect();
    let service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    for path in ["/route/0", "/route/1999"] {
        assert!(client.ask(&Ask::get(path)).await.allowed, "{path}");
    }
}

#[test]
fn a_share_of_no_threads_is_refused() {
    let folder = Folder::new();
    let mut config = folder.config();
    for key in ["slow_calls", "all_slow_calls"] {
        config["policy_host"] = json!({key: 0});
        folder.check_config(&config).assert_refused(&["policy_host", key, "at least 1"]);
    }
}
