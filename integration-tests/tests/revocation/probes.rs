//! Tests of probes: one probe serves all replicas, so that probes do not fill the stream.

use std::time::{Duration, Instant};

use portcullis_integration_tests::{
    portcullis::Replicas,
    publisher::{Event, Publisher},
};
use serde_json::json;

use super::{
    config, metric, reaches,
    relay_process::{Services, Tap},
};

const STREAM: &str = "portcullis.blacklist";
const REPLICAS: usize = 6;
/// The number of events, one per [`PACE`].
const EVENTS: usize = 100;
const PACE: Duration = Duration::from_millis(50);
/// The number of rounds, one of which must show few probes.
const ROUNDS: usize = 10;

#[tokio::test]
async fn while_events_arrive_one_replica_probes_for_all() {
    let services = Services::start().await;
    let config = config("authoritative", json!({"url": services.redis.url()}))
        .with("blacklist.rabbitmq.url", services.rabbitmq.url())
        // Generous, so that a busy machine does not make the broker look silent.
        .with("blacklist.rabbitmq.probe_timeout", "10s");
    let replicas = Replicas::start(REPLICAS, &config).await;
    for replica in replicas.iter() {
        reaches(replica, "live").await;
    }
    let publisher = Publisher::new(&services.rabbitmq.url(), services.redis.client()).patient();
    // Without sharing, each replica would send two per second. On a busy machine some do: hence
    // several rounds.
    let mut rates = Vec::new();
    let mut tap = Tap::of_stream(&services.rabbitmq, STREAM).await;
    for round in 0..ROUNDS {
        let begin = Instant::now();
        let mut turns = tokio::time::interval(PACE);
        for number in 0..EVENTS {
            turns.tick().await;
            publisher.publish(&Event::add_for_an_hour(&format!("{round}-{number}"))).await;
        }
        let seconds = begin.elapsed().as_secs_f64();
        let (first, last) = (format!("{round}-0\""), format!("{round}-{}\"", EVENTS - 1));
        let (mut is_counted, mut probes) = (false, 0_u32);
        loop {
            let message = tap.next().await;
            is_counted |= message.contains(&first);
            probes += u32::from(is_counted && message.contains("\"probe\""));
            if message.contains(&last) {
                break;
            }
        }
        let rate = f64::from(probes) / seconds;
        eprintln!("{REPLICAS} replicas: {rate:.1} probes in a second");
        rates.push(rate);
        if rate <= 4.0 {
            break;
        }
    }
    assert!(rates.iter().any(|rate| *rate <= 4.0), "probes in a second: {rates:?}");
    assert!(rates.iter().all(|rate| *rate >= 0.5), "no probes: {rates:?}");
    for replica in replicas.iter() {
        reaches(replica, "live").await;
        assert_eq!(metric::<u64>(replica, "ext_authz_mq_reconnects_total").await, 0);
    }
}
