//! What the `blacklist` section accepts.

use serde_json::{Value, json};

use super::*;

fn parse(section: Value) -> Result<Config, String> {
    let written = section.clone();
    let config: Config = serde_json::from_value(section).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())?;
    config.check_written(&written).map_err(|error| error.to_string())?;
    Ok(config)
}

#[test]
fn an_empty_section_is_the_default() {
    assert_eq!(parse(json!({})).unwrap(), Config::default());
}

#[test]
fn unknown_keys_and_a_zero_interval_are_refused() {
    let error = parse(json!({"sweep": "1s"})).unwrap_err();
    assert!(error.contains("sweep_interval"), "{error}");
    let error = parse(json!({"sweep_interval": "0s"})).unwrap_err();
    assert!(error.contains("longer than zero"), "{error}");
}

#[test]
fn broker_and_store_together_are_enough_and_so_is_a_table() {
    let (rabbitmq, redis) = (json!({"url": "amqp://broker"}), json!({"url": "redis://store"}));
    let config = parse(json!({"rabbitmq": rabbitmq, "redis": redis})).unwrap();
    assert_eq!(config.rabbitmq.unwrap().exchange, "blacklist.events");
    assert_eq!(config.redis.unwrap().outbox, "outbox:blacklist");
    parse(json!({"redis": redis, "mode": "redis-on-miss"})).unwrap();
    parse(json!({"redis": redis, "mode": "redis-always"})).unwrap();
    let config = parse(json!({"postgres": {"url": "postgres://db"}})).unwrap();
    assert_eq!(config.postgres.unwrap().table, "revoked_tokens");
}

#[test]
fn sections_that_do_not_go_together_are_refused_with_the_fix() {
    let (rabbitmq, redis) = (json!({"url": "amqp://broker"}), json!({"url": "redis://store"}));
    let slow = json!({"url": "amqp://broker", "probe_timeout": "600ms"});
    let cases = [
        (json!({"mode": "redis-on-miss"}), "`blacklist.mode`"),
        (json!({"rabbitmq": rabbitmq}), "`blacklist.rabbitmq`"),
        (json!({"redis": redis}), "`blacklist.redis`"),
        (json!({"redis": redis, "rabbitmq": rabbitmq, "postgres": {}}), "`blacklist.postgres`"),
        (json!({"postgres": {"table": " revoked"}}), "`blacklist.postgres.table`"),
        (json!({"postgres": {"column": "a\nb"}}), "`blacklist.postgres.column`"),
        (json!({"postgres": {"channel": ""}}), "`blacklist.postgres.channel`"),
        (json!({"postgres": {"schema": ""}}), "`blacklist.postgres.schema`"),
        (json!({"refresh": {"enabled": true}}), "`blacklist.refresh.enabled`"),
        (json!({"refresh": {"secret_file": "s"}}), "`blacklist.refresh.secret_file`"),
        (json!({"redis": redis, "rabbitmq": slow}), "`blacklist.rabbitmq.probe_timeout`"),
        (
            json!({"mode": "redis-always", "redis": {"url": "redis://s", "snapshot": "scan"}}),
            "`blacklist.redis.snapshot`",
        ),
        (
            json!({"mode": "redis-on-miss", "redis": {
                "url": "redis://s", "snapshot": "index", "key_prefix": "portcullis:",
            }}),
            "`blacklist.redis.key_prefix`",
        ),
        (
            json!({"mode": "redis-always", "redis": {"sentinels": ["s:26379"]}}),
            "`blacklist.redis.master_name`",
        ),
        (
            json!({"mode": "redis-always", "redis": {"url": "redis://s", "master_name": "m"}}),
            "`blacklist.redis.master_name`",
        ),
    ];
    for (section, key) in cases {
        let error = parse(section.clone()).unwrap_err();
        assert!(error.starts_with(key), "{section}: {error}");
    }
}

#[test]
fn settings_of_sentinels_are_checked_as_a_whole() {
    let sentinels = json!({"sentinels": ["s:26379"], "master_name": "m"});
    let address = json!({"url": "redis://s"});
    let check = |redis: &Value, more: Value| {
        let mut redis = redis.clone();
        redis.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse(json!({"mode": "redis-on-miss", "redis": redis}))
    };
    for (redis, more, key) in [
        (&sentinels, json!({"sentinel_username": "u"}), "sentinel_username"),
        (&sentinels, json!({"wait_replicas": 0}), "wait_replicas"),
        (&address, json!({"sentinel_username": "u"}), "sentinel_username"),
        (&address, json!({"sentinel_password_file": "f"}), "sentinel_password_file"),
        (&address, json!({"sentinel_tls": false}), "sentinel_tls"),
    ] {
        let error = check(redis, more.clone()).unwrap_err();
        assert!(error.starts_with(&format!("`blacklist.redis.{key}`")), "{more}: {error}");
    }
    for (redis, more) in [
        (&sentinels, json!({"sentinel_username": "u", "sentinel_password_file": "f"})),
        (&sentinels, json!({"sentinel_tls": false, "wait_replicas": 2})),
        (&address, json!({"wait_replicas": 0, "connect_timeout": "2s"})),
    ] {
        check(redis, more.clone()).unwrap_or_else(|error| panic!("{more}: {error}"));
    }
}

#[test]
fn an_interval_that_bounds_nothing_or_reads_nothing_is_refused() {
    let redis = |interval: &str| json!({"url": "redis://s", "resnapshot_interval": interval});
    parse(json!({"mode": "redis-on-miss", "redis": redis("24h")})).unwrap();
    for (mode, interval) in
        [("redis-on-miss", "25h"), ("redis-on-miss", "0s"), ("redis-always", "5m")]
    {
        let error = parse(json!({"mode": mode, "redis": redis(interval)})).unwrap_err();
        assert!(error.contains("resnapshot_interval") || interval == "0s", "{error}");
    }
}

#[test]
fn a_setting_that_was_removed_is_refused_by_its_name() {
    let redis = json!({"url": "redis://store", "breaker": {"failures": 3}});
    let error = parse(json!({"mode": "redis-on-miss", "redis": redis})).unwrap_err();
    assert!(error.contains("breaker"), "{error}");
}

#[test]
fn an_explicit_key_that_would_be_ignored_is_refused() {
    let redis = json!({"url": "redis://store"});
    let broker = |more: Value| {
        let mut rabbitmq = json!({"url": "amqp://broker", "topology": "exclusive-queue"});
        rabbitmq.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"redis": redis, "rabbitmq": rabbitmq})
    };
    let postgres = |while_stale| json!({"postgres": {}, "while_stale": while_stale});
    let while_stale = "`blacklist.while_stale`: ";
    for (section, key) in [
        (json!({"while_stale": "deny"}), while_stale),
        (json!({"while_stale": "ask-redis"}), while_stale),
        (json!({"mode": "redis-always", "redis": redis, "while_stale": "serve"}), while_stale),
        (postgres("ask-redis"), while_stale),
        (broker(json!({"replay": "10m"})), "`blacklist.rabbitmq.replay`: "),
        (broker(json!({"stream_max_age": "8d"})), "`blacklist.rabbitmq.stream_max_age`: "),
    ] {
        let error = parse(section.clone()).unwrap_err();
        assert!(error.starts_with(key), "{section}: {error}");
        assert!(error.contains("remove it") || error.contains("write serve"), "{error}");
    }
    for section in [postgres("serve"), postgres("deny"), broker(json!({}))] {
        parse(section.clone()).unwrap_or_else(|error| panic!("{section}: {error}"));
    }
}

#[test]
fn without_redis_it_is_not_asked() {
    let config = parse(json!({"postgres": {}})).unwrap();
    assert_eq!(config.resolved().while_stale, WhileStale::Serve);
    let deny = parse(json!({"postgres": {}, "while_stale": "deny"})).unwrap();
    assert_eq!(deny.resolved().while_stale, WhileStale::Deny);
    let both = json!({"redis": {}, "rabbitmq": {}});
    assert_eq!(parse(both).unwrap().resolved().while_stale, WhileStale::AskRedis);
}

#[test]
fn debug_shows_no_password() {
    let rabbitmq = json!({"url": "amqp://user:hush@broker/v"});
    let redis = json!({"url": "redis://:hush@store"});
    let config = parse(json!({"rabbitmq": rabbitmq, "redis": redis})).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush") && shown.contains("broker"), "{shown}");
}

#[test]
fn a_set_without_a_new_lease_expires_when_it_is_too_old() {
    for (max_staleness, after_the_lease) in [("8s", 6_500), ("1s", 0), ("0s", 0)] {
        let config = parse(json!({"postgres": {}, "max_staleness": max_staleness})).unwrap();
        let terms = config.resolved().lease_terms();
        assert_eq!(terms.max_staleness, Duration::from_millis(after_the_lease), "{max_staleness}");
    }
}
