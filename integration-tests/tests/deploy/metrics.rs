//! Tests of the alerts and the dashboard: they query metrics that exist.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_integration_tests::{
    eventually, places,
    portcullis::{Config, Portcullis},
};
use serde_json::{Value, json};

use super::{
    documents::{deploy, manifests, text},
    promql::{Selector, selectors},
    types::monitoring::PrometheusRule,
};
use crate::revocation::relay_process::Relay;

/// Metrics that appear only after an event.
const AFTER_AN_EVENT: [&str; 2] =
    ["portcullis_blacklist_last_event_timestamp_seconds", "portcullis_blacklist_stream_offset"];
/// Labels that Prometheus adds to a target that it discovers through a `ServiceMonitor`.
const TARGET_LABELS: [&str; 4] = ["namespace", "pod", "service", "container"];

/// The values of each label of each metric.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// The metrics of a Portcullis with a policy, and of a relay. Their broker and store are
/// unavailable, because the set of metrics does not depend on them.
async fn known() -> Known {
    let route = json!({
        "name": "all",
        "token": "optional",
        "policy": "rules",
        "settings": {"rules": [{"effect": "allow"}]},
    });
    let rules = places::component("portcullis_rules");
    let config = Config::new([route])
        .with("policies.rules.file", rules.to_str().unwrap())
        .with("receiver.listen", "127.0.0.1:0")
        .with("issuers.test.backchannel_logout", json!({"audiences": ["c"], "ends": "subject"}))
        .with("issuers.test.security_events", json!({"audiences": ["c"], "ends": "subject"}))
        .with("blacklist.rabbitmq.url", "amqp://127.0.0.1:1")
        .with("blacklist.redis.url", "redis://127.0.0.1:1");
    let portcullis = Portcullis::launch(&config).await;
    let relay = Relay::launch(&config);
    let of_relay = eventually::some("the relay listens", || relay.metrics()).await;
    let text = portcullis.admin().metrics().await + &of_relay;
    let mut known = Known::new();
    for line in text.lines() {
        let name = line.strip_prefix("# TYPE ").and_then(|rest| rest.split(' ').next());
        if let Some(name) = name {
            known.entry(name.to_owned()).or_default();
        }
        for Selector { metric, labels } in selectors(line).into_iter().filter(|_| name.is_none()) {
            let of_metric = known.entry(metric).or_default();
            for (label, value) in labels {
                of_metric.entry(label).or_default().extend(value);
            }
        }
    }
    known.extend(AFTER_AN_EVENT.map(|metric| (metric.to_owned(), BTreeMap::new())));
    known
}

/// Panics unless the query names a metric of ours, and only known metrics and labels.
fn assert_known(known: &Known, place: &str, query: &str) {
    let selectors = selectors(query);
    assert!(!selectors.is_empty(), "{place} queries no metric of ours: {query}");
    for Selector { metric, labels } in selectors {
        let of_metric =
            known.get(&metric).unwrap_or_else(|| panic!("{place}: there is no {metric}"));
        for (label, value) in labels {
            if TARGET_LABELS.contains(&label.as_str()) {
                continue;
            }
            let values = of_metric.get(&label);
            let values = values.unwrap_or_else(|| panic!("{place}: {metric} has no label {label}"));
            // Values of labels without a sample yet cannot be checked.
            let seen = value.is_none_or(|value| values.is_empty() || values.contains(&value));
            assert!(seen, "{place}: {metric}: {label} is one of {values:?}");
        }
    }
}

#[tokio::test]
async fn alerts_query_existing_metrics() {
    let known = known().await;
    let all = manifests("kubernetes").into_iter();
    let rules = all.filter(|manifest| manifest.kind() == "PrometheusRule");
    let rules: Vec<PrometheusRule> = rules.map(|manifest| manifest.typed()).collect();
    let alerts: Vec<_> =
        rules.into_iter().flat_map(|rule| rule.spec.groups).flat_map(|group| group.rules).collect();
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(names.len(), alerts.len(), "each name once");
    for name in [
        "ConnectionsRefused",
        "Down",
        "FeedStale",
        "FeedExpired",
        "HighDenyRate",
        "KeyFileFails",
        "LogLinesDropped",
        "LogoutsLost",
        "MalformedEvents",
        "PolicyReloadRefused",
        "RedisEvicts",
        "RelayBehind",
        "RelayDeadLetters",
        "RelayNotAtWork",
        "SecurityEventsLost",
    ] {
        assert!(
            names.contains(format!("Portcullis{name}").as_str()),
            "there is no alert for {name}"
        );
    }
    for alert in &alerts {
        assert_known(&known, &alert.name, &alert.expr);
        assert!(["warning", "critical"].contains(&alert.labels["severity"].as_str()));
        for annotation in ["summary", "description"] {
            assert!(alert.annotations.contains_key(annotation), "{}: {annotation}", alert.name);
        }
    }
}

#[tokio::test]
async fn the_dashboard_queries_existing_metrics() {
    let known = known().await;
    let dashboard: Value = serde_json::from_str(&text(&deploy("grafana/portcullis.json"))).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("a question") {
            assert_known(&known, title, target["expr"].as_str().expect("a query"));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            assert_known(&known, "a variable", query);
        }
    }
}

#[test]
fn the_panels_of_the_dashboard_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&text(&deploy("grafana/portcullis.json"))).unwrap();
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let size = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for x in size("x")..size("x") + size("w") {
            assert!(x < 24, "{} is wider than the page", panel["title"]);
            for y in size("y")..size("y") + size("h") {
                assert!(taken.insert((x, y)), "{} lies over another one", panel["title"]);
            }
        }
    }
}
