//! Tests of `portcullis revoke` and `portcullis relay` that need neither a store nor a broker:
//! errors are reported before either is contacted.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use crate::process::{Finished, Folder, Service, command, run};

/// Runs a command with a configuration and more arguments.
fn with_config(name: &str, config: &Value, more: &[&str]) -> Finished {
    let folder = Folder::new();
    let file = folder.write(config);
    let mut arguments = vec![name, "--config", file.to_str().unwrap()];
    arguments.extend(more);
    run(&arguments)
}

/// A configuration whose store and broker cannot be reached: nothing listens on port 1.
fn networked() -> Value {
    json!({"blacklist": {
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "rabbitmq": {"url": "amqp://127.0.0.1:1"},
    }})
}

#[test]
fn what_contradicts_itself_is_refused() {
    for options in [
        &[] as &[&str],
        &["--jti", "j", "--sub", "u"],
        &["--jti", "j", "--iss", "i"],
        &["--jti", "j", "--issued-before", "5"],
        &["--jti", "j", "--token-file", "-"],
        &["--token-file", "-", "--expires-at", "5"],
        &["--sub", "u", "--sid", "s"],
        &["--sub", "u", "--remove", "--issued-before", "5"],
        &["--jti", "j", "--remove", "--expires-at", "5"],
        &["--sub", "u", "--issued-before", "soon"],
        &["--sub", "u", "--issued-before", "1999999999000"],
        &["--jti", "j", "--expires-at", "2033-05-18"],
        &["--jti", "j", "--wait", "--timeout", "5"],
        &["--jti", "j", "--except-sid", "s"],
        &["--iss", "i", "--except-sid", "s"],
        &["--sid", "s", "--except-sid", "t"],
        &["--token-file", "-", "--except-sid", "s"],
        &["--sub", "u", "--remove", "--except-sid", "s"],
        &["--sub", "u", "--future"],
        &["--jti", "j", "--future"],
    ] {
        let refused = with_config("revoke", &networked(), options);
        assert_eq!(refused.code, Some(2), "{options:?} {refused:?}");
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{refused:?}");
    }
}

#[test]
fn blank_names_are_refused() {
    for options in [
        ["--jti", " "],
        ["--sub", ""],
        ["--sid", "\t"],
        ["--iss", ""],
        ["--iss=i", "--sub= "],
        ["--sub=u", "--except-sid= "],
    ] {
        let refused = with_config("revoke", &networked(), &options);
        refused.assert_refused(&["blank"]);
        assert_eq!(refused.code, Some(2), "{options:?}");
    }
}

#[test]
fn a_cut_off_of_the_future_has_to_be_meant() {
    let cut = ["--sub", "u", "--issued-before", "2099-01-01T00:00:00Z"];
    let refused = with_config("revoke", &networked(), &cut);
    refused.assert_refused(&["`issued_before` is later than now", "`--future`"]);
    assert_eq!(refused.code, Some(2));
    let taken = with_config("revoke", &networked(), &[&cut[..], &["--future"]].concat());
    assert_eq!(taken.code, Some(1), "only the store is missing: {taken:?}");
}

#[test]
fn a_missing_store_is_named_with_the_way_out() {
    let refused = with_config("revoke", &json!({}), &["--jti", "hush"]);
    refused.assert_refused(&["`blacklist.redis`", "admin API"]);
    assert_eq!(refused.code, Some(2));
    assert!(!refused.stderr.contains("hush"), "{refused:?}");
    let config = json!({"blacklist": {"postgres": {"url": "postgres://127.0.0.1:1/d"}}});
    let refused = with_config("revoke", &config, &["--jti", "hush"]);
    refused.assert_refused(&["table `revoked_tokens`", "insert"]);
    assert!(!refused.stderr.contains("hush"), "{refused:?}");
}

#[test]
fn a_relay_needs_both_ends() {
    let refused = with_config("relay", &json!({}), &[]);
    refused.assert_refused(&["`blacklist.redis`", "relay", "add this section"]);
    let mut config = networked();
    config["blacklist"]["mode"] = json!("redis-on-miss");
    config["blacklist"]["rabbitmq"] = Value::Null;
    with_config("relay", &config, &[]).assert_refused(&["`blacklist.rabbitmq`", "relay"]);
    let mut config = networked();
    config["blacklist"]["rabbitmq"]["url"] = json!("http://broker");
    with_config("relay", &config, &[]).assert_refused(&["`blacklist.rabbitmq.url`"]);
}

#[test]
fn a_token_that_is_none_is_refused_without_being_shown() {
    let folder = Folder::new();
    let file = folder.write(&networked());
    let mut child = command()
        .args(["revoke", "--config", file.to_str().unwrap(), "--token-file", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hush.hush.hush\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("signed JWT") && !error.contains("hush"), "{error}");
    let refused = with_config("revoke", &networked(), &["--token-file", "/nonexistent/token"]);
    refused.assert_refused(&["/nonexistent/token", "check the path"]);
}

#[test]
fn in_one_process_who_waits_waits_for_that_process() {
    let folder = Folder::new();
    let config = folder.config();
    let service = Service::start(folder, &config);
    let (status, body) = service.admin("DELETE", "/v1/revocations/j?wait=5s").unwrap();
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&body["replicas"], &body["missing"]), (&json!(1), &json!(0)));
    assert_eq!(service.admin("DELETE", "/v1/revocations/j?wait=soon").unwrap().0, 400);
    assert_eq!(service.admin("DELETE", "/v1/revocations/j").unwrap().0, 204);
}

#[test]
fn a_cut_off_without_a_time_covers_clocks_that_are_ahead_and_says_from_when_logins_pass() {
    let folder = Folder::new();
    let mut config = folder.config();
    config["blacklist"]["skew"] = json!("7s");
    let service = Service::start(folder, &config);
    let now = || jiff::Timestamp::now().as_second();
    let begin = now();
    let cutoff = r#"{"type": "cutoff", "sub": "alice", "except_sid": "s"}"#;
    let (status, body) = service.post("/v1/revocations", cutoff);
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let from: jiff::Timestamp = body["logins_from"].as_str().unwrap().parse().unwrap();
    assert!((begin + 8..=now() + 8).contains(&from.as_second()), "{body}");

    let (status, body) = service.post("/v1/revocations", r#"{"jti": "j"}"#);
    assert_eq!((status, body.as_str()), (201, r#"{"applied":1}"#), "a token has no logins");
}

#[test]
fn the_admin_api_refuses_what_a_cut_off_cannot_mean() {
    let folder = Folder::new();
    let config = folder.config();
    let service = Service::start(folder, &config);
    let future = json!({"type": "cutoff", "sub": "u", "issued_before": "2099-01-01T00:00:00Z"});
    let future = future.to_string();
    let (status, body) = service.post("/v1/revocations", &future);
    assert_eq!(status, 400, "{body}");
    assert!(body.contains("?future=true"), "{body}");
    assert_eq!(service.post("/v1/revocations?future=true", &future).0, 201);
    for (cutoff, what) in [
        (r#"{"type": "cutoff", "sid": "s", "except_sid": "t"}"#, "goes with `sub` only"),
        (r#"{"type": "cutoff", "iss": "i", "except_sid": "t"}"#, "goes with `sub` only"),
        (r#"{"type": "cutoff", "sub": "u", "except_sid": 5}"#, "`except_sid` is blank"),
        (r#"{"type": "cutoff", "sub": "u", "sub": "v"}"#, "occurs twice"),
    ] {
        let (status, body) = service.post("/v1/revocations", cutoff);
        assert_eq!(status, 400, "{cutoff}: {body}");
        assert!(body.contains(what), "{body}");
    }
}
