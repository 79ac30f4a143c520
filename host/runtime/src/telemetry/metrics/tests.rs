//! What a scrape shows after known observations.

#![expect(clippy::float_cmp, reason = "Prometheus shows counts as floating-point numbers")]

use std::collections::BTreeMap;

use super::*;
use crate::telemetry::Outcome;

const REASONS: [&str; 2] = ["allowed", "missing_token"];

fn observe(metrics: &Metrics, allowed: bool, latency: Duration) {
    metrics.record(&Observation {
        allowed,
        reason: usize::from(!allowed),
        latency,
        finished: Instant::now(),
    });
}

/// Parses the text format: every sample line is `name{labels} value`.
fn scrape(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.encode().unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

#[test]
fn every_answered_check_is_counted_once_by_result_and_by_reason() {
    let metrics = Metrics::new(&REASONS);
    for _ in 0..3 {
        observe(&metrics, true, Duration::from_millis(1));
    }
    observe(&metrics, false, Duration::from_micros(40));
    let samples = scrape(&metrics);
    assert_eq!(samples[r#"ext_authz_requests_total{result="allow"}"#], 3.0);
    assert_eq!(samples[r#"ext_authz_requests_total{result="deny"}"#], 1.0);
    let decisions = r#"ext_authz_decisions_total{result="deny",reason="missing_token"}"#;
    assert_eq!(samples[decisions], 1.0);
    let bucket = r#"ext_authz_request_duration_seconds_bucket{result="allow",le="0.001"}"#;
    assert_eq!(samples[bucket], 3.0);
    let infinite = r#"ext_authz_request_duration_seconds_bucket{result="deny",le="+Inf"}"#;
    assert_eq!(samples[infinite], 1.0);
    assert_eq!(samples["ext_authz_latency_seconds_count"], 4.0);
    assert!((samples["ext_authz_latency_seconds_sum"] - 0.003_04).abs() < 1e-9);
    let median = samples[r#"ext_authz_latency_seconds{quantile="0.5"}"#];
    assert!((median / 0.001 - 1.0).abs() < 0.06, "{median}");
}

#[test]
fn every_series_that_dashboards_name_exists_from_the_start() {
    let samples = scrape(&Metrics::new(&REASONS));
    for series in [
        r#"ext_authz_requests_total{result="allow"}"#,
        r#"ext_authz_requests_total{result="deny"}"#,
        r#"ext_authz_decisions_total{result="deny",reason="missing_token"}"#,
        r#"ext_authz_latency_seconds{quantile="0.5"}"#,
        r#"ext_authz_latency_seconds{quantile="0.9"}"#,
        r#"ext_authz_latency_seconds{quantile="0.99"}"#,
        "ext_authz_cache_hits_total",
        "ext_authz_cache_misses_total",
        "ext_authz_blacklist_hits_total",
        "ext_authz_blacklist_size",
        "ext_authz_requests_in_flight",
        "portcullis_ready",
    ] {
        assert!(samples.contains_key(series), "{series}: {samples:#?}");
    }
}

#[test]
fn each_event_counts_into_the_series_beside_it() {
    let metrics = Metrics::new(&REASONS);
    for (times, event) in (1_u8..).zip(Event::ALL) {
        (0..times).for_each(|_| metrics.count(event));
        assert_eq!(scrape(&metrics)[event.metric()], f64::from(times), "{event:?}");
    }
}

#[test]
fn gauges_are_read_when_scraped() {
    let metrics = Metrics::new(&REASONS);
    metrics.report_blacklist_size(|| 7);
    metrics.report_ready(|| true);
    let flight = metrics.in_flight();
    assert!(!scrape(&metrics).contains_key("portcullis_dpop_proofs"));
    metrics.report_remembered_proofs(|| 5);
    let samples = scrape(&metrics);
    assert_eq!(samples["portcullis_dpop_proofs"], 5.0);
    assert_eq!(samples["ext_authz_blacklist_size"], 7.0);
    assert_eq!(samples["portcullis_ready"], 1.0);
    assert_eq!(samples["ext_authz_requests_in_flight"], 1.0);
    drop(flight);
    assert_eq!(scrape(&metrics)["ext_authz_requests_in_flight"], 0.0);
}

#[test]
fn a_policy_shows_calls_reloads_and_only_its_latest_revision() {
    let metrics = Metrics::new(&REASONS);
    let policy = metrics.policy("rules");
    policy.reloaded(Some("aaaa"));
    policy.reloaded(Some("bbbb"));
    policy.reloaded(None);
    metrics.policy("rules").evaluated(Outcome::Timeout);
    let samples = scrape(&metrics);
    let one = |series: &str| samples[series];
    assert_eq!(
        one(r#"portcullis_policy_evaluations_total{policy="rules",outcome="timeout"}"#),
        1.0
    );
    assert_eq!(one(r#"portcullis_policy_reloads_total{policy="rules",result="success"}"#), 2.0);
    assert_eq!(one(r#"portcullis_policy_reloads_total{policy="rules",result="failure"}"#), 1.0);
    assert_eq!(one(r#"portcullis_policy_revision_info{policy="rules",digest="bbbb"}"#), 1.0);
    assert!(!samples.keys().any(|series| series.contains("aaaa")), "{samples:#?}");
}

#[test]
fn a_reason_beyond_the_list_is_still_counted_as_a_request() {
    let metrics = Metrics::new(&REASONS);
    metrics.record(&Observation {
        allowed: false,
        reason: usize::MAX,
        latency: Duration::ZERO,
        finished: Instant::now(),
    });
    assert_eq!(scrape(&metrics)[r#"ext_authz_requests_total{result="deny"}"#], 1.0);
}
