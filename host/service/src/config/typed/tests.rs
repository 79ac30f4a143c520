//! Tests of the error for each kind of mistake.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use portcullis_types::duration::HumanDuration;
use serde_json::json;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    listen: Option<SocketAddr>,
    #[serde(default)]
    wait: Option<HumanDuration>,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    list: Vec<u8>,
    #[serde(default)]
    free: Value,
    #[serde(default)]
    inner: BTreeMap<String, Inner>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    One,
    Two { three: bool },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Inner {
    key: u8,
}

/// Key and message.
fn wrong(value: &Value) -> (String, String) {
    let error = read::<Settings>(value).unwrap_err();
    (error.key(), error.message())
}

#[test]
fn every_kind_of_value_is_read() {
    let value = json!({
        "name": "n", "file": "/f", "listen": "127.0.0.1:1", "wait": "5s", "list": [1, 2],
        "mode": {"two": {"three": true}}, "free": {"a": [null, -1, 1.5, u64::MAX, "t", false]},
        "inner": {"x": {"key": 7}},
    });
    let settings: Settings = read(&value).unwrap();
    assert_eq!(settings.free, value["free"]);
    assert_eq!(settings.mode, Some(Mode::Two { three: true }));
    assert_eq!(settings.inner["x"].key, 7);
    assert_eq!(
        read::<Settings>(&json!({"name": "n", "mode": "one"})).unwrap().mode,
        Some(Mode::One)
    );
}

#[test]
fn a_mistake_is_told_with_key_and_remedy_and_without_the_value() {
    for (value, key, words) in [
        (json!({"name": true}), "name", "boolean in YAML, and text is needed; put it in quotes"),
        (json!({"name": 987_654}), "name", "number in YAML, and text is needed; put it in quotes"),
        (json!({"name": ["hunter2"]}), "name", "it is a list, and text is needed"),
        (json!({"name": "n", "file": 987_654}), "file", "put it in quotes"),
        (json!({"name": "n", "listen": "hunter2:1"}), "listen", "such as 127.0.0.1:9191"),
        (json!({"name": "n", "listen": 987_654}), "listen", "such as 127.0.0.1:9191"),
        (json!({"name": "n", "wait": 987_654}), "wait", "250ms"),
        (json!({"name": "n", "wait": "hunter2"}), "wait", "`…` is not a duration"),
        (json!({"name": "n", "mode": "hunter2"}), "mode", "`one`, `two`"),
        (json!({"name": "n", "mode": {"hunter2": 1}}), "mode", "`one`, `two`"),
        (json!({"name": "n", "list": "hunter2"}), "list", "it is text, and a list is needed"),
        (
            json!({"name": "n", "list": [1, "hunter2"]}),
            "list[1]",
            "it is text, and a whole number is needed",
        ),
        (
            json!({"name": "n", "list": [987_654]}),
            "list[0]",
            "cannot have this value; a whole number",
        ),
        (json!({"name": "n", "inner": {"x": "hunter2"}}), "inner.x", "section with keys"),
        (json!({"name": "n", "inner": {"x": {}}}), "inner.x", "`key` is missing"),
        (json!({"name": "n", "inner": {"@hunter2": {}}}), "inner.…", "`key` is missing"),
        (json!({"name": "n", "nam": "hunter2"}), "nam", "unknown key `nam`; there are `name`"),
        (json!({"name": "n", "@hunter2": 1}), "…", "unknown key; there are `name`"),
        (json!("hunter2"), ".", "it is text, and a section with keys is needed"),
    ] {
        let (wrong_key, message) = wrong(&value);
        assert_eq!(wrong_key, key, "{value}: {message}");
        assert!(message.contains(words), "{value}: {message}");
        for secret in ["hunter2", "987654", "987_654"] {
            assert!(!message.contains(secret), "{value}: {message}");
        }
    }
}
