//! Tests of files that hang: neither the end of the process nor anything else waits for them.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    check::{Ask, Client},
    process::{Folder, Service, command, component, eventually, signal},
};

/// A route that allows by a policy, and one for each other policy.
fn config(folder: &Folder) -> Value {
    let settings = json!({"rules": [{"effect": "allow"}]});
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    let other = folder.put("other.wasm", fs::read(component("portcullis_rules")).unwrap());
    config["policies"]["other"] = json!({"file": other});
    config["policy_host"] = json!({"reload_interval": "20ms"});
    config["routes"][0]["match"] = json!({"paths": ["/main"]});
    let mut route = config["routes"][0].clone();
    route["name"] = json!("other");
    route["policy"] = json!("other");
    route["match"] = json!({"paths": ["/other"]});
    config["routes"].as_array_mut().unwrap().push(route);
    config["shutdown"] = json!({"grace": "0s", "timeout": "2s"});
    config
}

/// Puts a pipe without a writer in the place of a file: to read it takes forever.
fn replace_by_pipe(folder: &Folder, name: &str) {
    let pipe = folder.path("pipe");
    let status = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(status.success(), "mkfifo: {status}");
    fs::rename(pipe, folder.path(name)).unwrap();
}

/// The state of a policy.
fn policy(service: &Service, name: &str) -> Value {
    let (status, body) = service.admin("GET", "/v1/policies").unwrap();
    assert_eq!(status, 200, "{body}");
    let policies: Vec<Value> = serde_json::from_str(&body).unwrap();
    policies.into_iter().find(|policy| policy["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_file_that_cannot_be_read_stops_no_other_reload_and_not_the_end() {
    let folder = Folder::new();
    let config = config(&folder);
    let mut service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    replace_by_pipe(&service.folder, "policy.wasm");
    let (status, body) = service.admin("POST", "/v1/policies/reload").unwrap();
    assert_eq!(status, 409, "{body}");
    let error = policy(&service, "main")["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("policy.wasm") && error.contains("not a file"), "{error}");
    let failed = r#"portcullis_policy_reloads_total{policy="main",result="failure"}"#;
    assert!(service.metric(failed).unwrap() > 0);
    service.has_logged(1, "policy not replaced");

    let maintenance = fs::read(component("portcullis_maintenance")).unwrap();
    service.folder.replace("other.wasm", &maintenance);
    eventually("the other policy is replaced or refused", || {
        let other = policy(&service, "other");
        (other["reloads"] != 0 || other["failures"] != 0).then_some(())
    });
    service.signal("HUP");
    assert!(client.ask(&Ask::get("/main")).await.allowed);

    service.folder.replace("policy.wasm", &fs::read(component("portcullis_rules")).unwrap());
    eventually("the policy is loaded again", || {
        policy(&service, "main")["last_error"].is_null().then_some(())
    });
    replace_by_pipe(&service.folder, "policy.wasm");
    service.signal("HUP");
    service.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_hangs_does_not_hold_up_the_end() {
    let folder = Folder::new();
    let mut config = config(&folder);
    config["tokens"] = json!({"key_reload_interval": "1ms"});
    let mut service = Service::start(folder, &config);
    let client = Client::connect(service.addresses.grpc).await;
    replace_by_pipe(&service.folder, "issuer.secret");
    for _ in 0..100 {
        assert!(client.ask(&Ask::get("/main")).await.allowed);
    }
    service.terminate();
}

/// Whether a process has a handler for SIGTERM.
fn hears_sigterm(child: &Child) -> bool {
    const SIGTERM: u64 = 15;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << (SIGTERM - 1)) != 0
}

fn serve(config: &Path) -> Child {
    command()
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_start_that_hangs_can_be_ended() {
    let folder = Folder::new();
    let config = folder.write(&config(&folder));
    replace_by_pipe(&folder, "admin.token");
    let mut child = serve(&config);
    eventually("it listens to signals", || hears_sigterm(&child).then_some(()));
    assert!(child.try_wait().unwrap().is_none(), "it hangs");
    let begin = Instant::now();
    signal(&child, "TERM");
    let status = eventually("it ends", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
}

#[test]
fn a_policy_that_is_no_file_is_refused_at_the_start() {
    let folder = Folder::new();
    let config = config(&folder);
    replace_by_pipe(&folder, "policy.wasm");
    folder.check_config(&config).assert_refused(&["policy `main`", "policy.wasm", "not a file"]);
}
