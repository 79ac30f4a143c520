//! Which additions are counted because of their expiry.

use portcullis_runtime::telemetry::{Metrics, RedisMetrics};
use portcullis_types::timestamp::Timestamp;
use serde_json::{Value, json};

use super::{
    steps::{Input, Returned},
    *,
};
use crate::{blacklist, feed::refresh, outbox_reader};

const MARGIN: Duration = Duration::from_secs(10);

/// A source that connects to nothing, and where it counts.
fn source() -> (StreamSource, Metrics) {
    let config = "rabbitmq: { url: 'amqp://broker' }\nredis: { url: 'redis://store' }";
    let config: Config = serde_saphyr::from_str(config).unwrap();
    let metrics = Metrics::new(&[]);
    let section = config.redis.as_ref().unwrap();
    let (redis, _keeper) = Redis::build(section, RedisMetrics::default()).unwrap();
    let (feed, _) = mpsc::channel(1);
    let (_, blacklist) = blacklist::pair(MARGIN);
    let (_, resyncs) = refresh::build(&config.refresh).unwrap();
    let metrics_of_feed = metrics.feed();
    metrics_of_feed.expect_broker();
    let (outbox, _, entries) = outbox_reader::build(redis.clone());
    let deps = StreamDeps {
        redis,
        outbox,
        entries,
        feed,
        blacklist,
        resyncs,
        receipts: None,
        metrics: metrics_of_feed,
        margin: MARGIN,
    };
    (StreamSource::new(&config, deps, "me".to_owned()).unwrap(), metrics)
}

fn go_live(source: &mut StreamSource) {
    let probe =
        |number| Input::Delivered { mark: None, probe: Some(Returned { number, in_time: true }) };
    for input in [Input::Start, Input::Bound, probe(1), Input::SnapshotDone, probe(2)] {
        source.state.on(input);
    }
    assert!(source.state.is_live());
}

fn count(source: &StreamSource, message: &Value) {
    let message = message.to_string();
    let event = Event::parse(message.as_bytes()).unwrap();
    source.count_expiry(&event, message.as_bytes());
}

/// How many were over when they arrived, and how many have an expiry that stands for "not set".
fn counted(metrics: &Metrics) -> [u64; 2] {
    let text = metrics.encode().unwrap();
    ["portcullis_blacklist_over_total ", "portcullis_blacklist_unset_expiry_total "]
        .map(|name| text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap())
}

#[test]
fn an_expired_addition_is_counted_unless_it_is_replayed() {
    let (mut source, metrics) = source();
    let now = Timestamp::now().as_secs();
    let margin = i64::try_from(MARGIN.as_secs()).unwrap();
    let over = json!({"jti": "j", "exp": now - margin - 1});
    count(&source, &over);
    assert_eq!(counted(&metrics), [0, 0], "it was in time once");
    go_live(&mut source);
    count(&source, &over);
    assert_eq!(counted(&metrics), [1, 0]);
    // A token is good, and its revocation counts, until the margin has passed.
    for in_time in [now - margin + 5, now + 60] {
        count(&source, &json!({"jti": "j", "exp": in_time}));
    }
    assert_eq!(counted(&metrics), [1, 0]);
}

#[test]
fn an_unset_expiry_is_counted_and_a_missing_one_is_not() {
    let (source, metrics) = source();
    for unset in [json!(0), json!(-1), json!("1970-01-01T00:00:00Z")] {
        count(&source, &json!({"jti": "j", "exp": unset}));
    }
    assert_eq!(counted(&metrics), [0, 3], "replayed or not");
    count(&source, &json!({"jti": "j"}));
    count(&source, &json!({"jti": "j", "exp": null}));
    count(&source, &json!({"type": "remove", "jti": "j", "exp": 0}));
    let cutoff = json!({"type": "cutoff", "sub": "alice", "issued_before": 5, "exp": 0});
    count(&source, &cutoff);
    assert_eq!(counted(&metrics), [0, 3]);
}
