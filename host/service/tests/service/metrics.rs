//! Metrics of the running service: each answer is counted once, under the names and labels that
//! dashboards query.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    check::{Ask, Client, SECRET, claims, sign, token},
    process::{Folder, Service, component, http},
};

/// What counts answers, and what happens on the way to them.
const COUNTERS: [&str; 7] = [
    "ext_authz_requests_total",
    "ext_authz_decisions_total",
    "ext_authz_request_duration_seconds_count",
    "ext_authz_latency_seconds_count",
    "ext_authz_cache_",
    "ext_authz_blacklist_",
    "portcullis_policy_evaluations_total",
];

/// A service on whose one route a token and the rules decide.
fn service() -> Service {
    let folder = Folder::new();
    let settings = json!({"rules": [{"match": {"paths": ["/open"]}, "effect": "allow"}]});
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    config["routes"][0]["token"] = json!("required");
    config["routes"][0]["match"] = json!({"paths": ["/open", "/closed"]});
    config["cors"] = json!({"preflight": "forward"});
    Service::start(folder, &config)
}

/// Every series that has a whole number, as Prometheus, which has no token, sees them.
fn scrape(service: &Service) -> BTreeMap<String, u64> {
    let (status, text) = http(service.addresses.admin, "GET", "/metrics", None, "").unwrap();
    assert_eq!(status, 200, "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            Some((series.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// Those of [`COUNTERS`] that are not zero.
fn counted(service: &Service) -> BTreeMap<String, u64> {
    let mut samples = scrape(service);
    samples.retain(|series, value| {
        *value > 0 && COUNTERS.iter().any(|counter| series.starts_with(counter))
    });
    samples
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answer_is_counted_once_under_its_reason() {
    let service = service();
    let client = Client::connect(service.addresses.grpc).await;
    assert_eq!(counted(&service), BTreeMap::new(), "nothing was asked yet");
    let good = token("alice");
    let revoked = claims("mallory");
    service.revoke(revoked["jti"].as_str().unwrap());
    let preflight = Ask::get("/open")
        .method("OPTIONS")
        .header("origin", "https://shop.test")
        .header("access-control-request-method", "POST");
    for (times, ask) in [
        (5, Ask::get("/open").bearer(&good)),
        (3, Ask::get("/closed").bearer(&good)),
        (2, Ask::get("/open")),
        (1, Ask::get("/open").bearer("nonsense")),
        (4, Ask::get("/open").bearer(&sign(&revoked, SECRET))),
        (6, preflight),
        (7, Ask::get("/elsewhere").bearer(&good)),
        (8, Ask::connection("")),
        (9, Ask::get("/a/../open").bearer(&good)),
    ] {
        for _ in 0..times {
            client.ask(&ask).await;
        }
    }
    let expected = [
        (r#"ext_authz_decisions_total{result="allow",reason="allowed"}"#, 5),
        (r#"ext_authz_decisions_total{result="allow",reason="cors_preflight"}"#, 6),
        (r#"ext_authz_decisions_total{result="deny",reason="policy_denied"}"#, 3),
        (r#"ext_authz_decisions_total{result="deny",reason="missing_token"}"#, 2),
        (r#"ext_authz_decisions_total{result="deny",reason="invalid_token"}"#, 1),
        (r#"ext_authz_decisions_total{result="deny",reason="token_revoked"}"#, 4),
        (r#"ext_authz_decisions_total{result="deny",reason="no_route"}"#, 7),
        (r#"ext_authz_decisions_total{result="deny",reason="malformed_request"}"#, 8),
        (r#"ext_authz_decisions_total{result="deny",reason="ambiguous_path"}"#, 9),
        (r#"ext_authz_requests_total{result="allow"}"#, 11),
        (r#"ext_authz_requests_total{result="deny"}"#, 34),
        (r#"ext_authz_request_duration_seconds_count{result="allow"}"#, 11),
        (r#"ext_authz_request_duration_seconds_count{result="deny"}"#, 34),
        ("ext_authz_latency_seconds_count", 45),
        // Each good or revoked token on a route that reads tokens was looked up, here in the process.
        ("ext_authz_cache_hits_total", 12),
        ("ext_authz_blacklist_hits_total", 4),
        ("ext_authz_blacklist_size", 1),
        (r#"portcullis_policy_evaluations_total{policy="main",outcome="allow"}"#, 5),
        (r#"portcullis_policy_evaluations_total{policy="main",outcome="deny"}"#, 3),
    ];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(series, count)| (series.to_owned(), count)).collect();
    assert_eq!(counted(&service), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dashboards_ask_for_is_there_before_anything_happens() {
    let service = service();
    let samples = scrape(&service);
    for (series, value) in [
        (r#"ext_authz_requests_total{result="allow"}"#, 0),
        (r#"ext_authz_requests_total{result="deny"}"#, 0),
        (r#"ext_authz_decisions_total{result="deny",reason="token_revoked"}"#, 0),
        ("ext_authz_cache_hits_total", 0),
        ("ext_authz_cache_misses_total", 0),
        ("ext_authz_blacklist_size", 0),
        ("ext_authz_requests_in_flight", 0),
        (r#"portcullis_policy_reloads_total{policy="main",result="failure"}"#, 0),
        ("portcullis_ready", 1),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_leaves_a_latency_and_is_not_in_flight_any_more() {
    let service = service();
    let client = Client::connect(service.addresses.grpc).await;
    client.ask(&Ask::get("/open").bearer(&token("alice"))).await;
    let (_, text) = http(service.addresses.admin, "GET", "/metrics", None, "").unwrap();
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is missing in\n{text}")).parse().unwrap()
    };
    let sum = value(r#"ext_authz_request_duration_seconds_sum{result="allow"}"#);
    assert!(0.0 < sum && sum < 60.0, "{sum} s");
    let median = value(r#"ext_authz_latency_seconds{quantile="0.5"}"#);
    assert!(0.0 < median && median < 60.0, "{median} s");
    assert!(value("ext_authz_requests_in_flight") < 0.5);
}
