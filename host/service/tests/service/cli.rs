//! Tests of the command line as an operator meets it: errors name the place and the fix, and
//! policies can be tried out without a service.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use serde_json::{Map, Value, json};

use crate::process::{Finished, Folder, command, component, example_file, examples, run};

/// Runs `portcullis serve`, which is to fail.
fn serve(folder: &Folder, config: &Value) -> Finished {
    run(&["serve".as_ref(), "--config".as_ref(), folder.write(config).as_os_str()])
}

/// Runs `portcullis policy eval`.
fn eval(folder: &Folder, component: &Path, settings: &Value, request: &Value) -> Finished {
    let settings = folder.put("settings.yaml", settings.to_string());
    let request = folder.put("request.yaml", request.to_string());
    run(&[
        "policy".as_ref(),
        "eval".as_ref(),
        component.as_os_str(),
        "--settings".as_ref(),
        settings.as_os_str(),
        "--request".as_ref(),
        request.as_os_str(),
        // A busy machine is not what is tested.
        "--deadline".as_ref(),
        "5s".as_ref(),
    ])
}

fn is_one_line(refused: &Finished) {
    assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
}

#[test]
fn a_deadline_is_a_duration_here_too() {
    let refused = run(&["policy", "eval", "p.wasm", "--request", "r", "--deadline", "20"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("such as 250ms"), "{refused:?}");
}

#[test]
fn a_good_configuration_is_ok() {
    let folder = Folder::new();
    let settings = json!({"rules": [{"effect": "allow"}]});
    let config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    let checked = folder.check_config(&config);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.ends_with("portcullis.yaml: ok\n"), "{checked:?}");
}

#[test]
fn an_unknown_key_is_named() {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([{"name": "a", "token": "ignored", "allow_without_polcy": true}]);
    let refused = folder.check_config(&config);
    refused.assert_refused(&["portcullis.yaml", "routes[0]", "allow_without_polcy"]);
    assert_eq!(refused.code, Some(2));
}

#[test]
fn a_value_of_the_wrong_type_is_named() {
    let folder = Folder::new();
    for (section, key, value) in [
        ("grpc", "listen", json!("everywhere")),
        ("grpc", "max_message_bytes", json!("many")),
        ("shutdown", "grace", json!(5)),
        ("blacklist", "skew", json!("soon")),
    ] {
        let mut config = folder.config();
        config[section][key] = value;
        let refused = folder.check_config(&config);
        refused.assert_refused(&["portcullis.yaml", &format!("`{section}.{key}`")]);
        is_one_line(&refused);
    }
}

#[test]
fn text_that_is_not_yaml_is_refused() {
    let folder = Folder::new();
    let file = folder.put("portcullis.yaml", "grpc: [\n");
    run(&["check-config".as_ref(), "--config".as_ref(), file.as_os_str()])
        .assert_refused(&["portcullis.yaml", "YAML"]);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    for command in ["serve", "check-config"] {
        let refused = run(&[command, "--config", "/nonexistent/portcullis.yaml"]);
        refused.assert_refused(&["/nonexistent/portcullis.yaml", "check the path"]);
        is_one_line(&refused);
    }
}

#[test]
fn a_secret_in_place_of_a_file_or_an_address_is_not_shown() {
    let folder = Folder::new();
    let address = "redis://u:hunter2@h";
    let key = |file: &str, value: &str| json!({"keys": [{file: value, "algorithm": "HS256"}]});
    for (section, value, words) in [
        ("issuers", json!({"main": key("secret_file", "hunter2")}), "issuers.main.keys"),
        ("issuers", json!({"main": key("secret_file", "hunter2/+Secret==")}), "issuers.main.keys"),
        ("issuers", json!({"main": {"keys": [{"jwks_file": address}]}}), "issuers.main.keys"),
        (
            "blacklist",
            json!({"mode": "redis-on-miss", "redis": {"url_file": address}}),
            "blacklist.redis.url_file",
        ),
        (
            "blacklist",
            json!({
                "mode": "redis-on-miss",
                "redis": {"url": "redis://h", "password_file": "hunter2"},
            }),
            "blacklist.redis.password_file",
        ),
        (
            "blacklist",
            json!({
                "mode": "redis-on-miss",
                "redis": {"sentinels": ["u:hunter2@h:26379"], "master_name": "m"},
            }),
            "blacklist.redis.sentinels",
        ),
        ("admin", json!({"listen": "127.0.0.1:0", "token_file": "hunter2"}), "admin.token_file"),
        ("policies", json!({"main": {"file": address}}), "policy `main`"),
    ] {
        let mut config = folder.config();
        config[section] = value;
        let refused = folder.check_config(&config);
        refused.assert_refused(&[words]);
        assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    }
    let file = folder.write(&folder.config());
    let output = command()
        .args(["check-config", "--config"])
        .arg(file)
        .env("PORTCULLIS__BLACKLIST__REDIS__URL_FILE", address)
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_filter_that_would_silence_the_log_is_refused() {
    let folder = Folder::new();
    let mut config = folder.config();
    for filter in ["nonsense", "info,decision=of", "info,decisions=off", "decision=off", ""] {
        config["log"] = json!({"filter": filter});
        for refused in [folder.check_config(&config), serve(&folder, &config)] {
            refused.assert_refused(&["log.filter: ", "info,decision=off"]);
            assert_eq!(refused.code, Some(2));
        }
    }
    for filter in ["off", "warn,portcullis::policy=debug"] {
        config["log"] = json!({"filter": filter});
        assert_eq!(folder.check_config(&config).code, Some(0), "{filter}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    for section in ["grpc", "http", "admin"] {
        let mut config = folder.config();
        config[section]["listen"] = json!(address);
        let refused = serve(&folder, &config);
        refused.assert_refused(&[&format!("`{section}.listen`"), &address, "choose another"]);
    }
}

#[test]
fn a_key_file_that_is_not_there_is_named() {
    let folder = Folder::new();
    let config = folder.config();
    fs::remove_file(folder.path("issuer.secret")).unwrap();
    let refused = folder.check_config(&config);
    refused.assert_refused(&["issuers.test.keys", "issuer.secret", "check the path"]);
    is_one_line(&refused);
}

#[test]
fn a_key_file_that_cannot_be_read_is_named() {
    let folder = Folder::new();
    let config = folder.config();
    let file = folder.path("issuer.secret");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&file).is_ok() {
        // Nothing is unreadable to root, except what is no file.
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    }
    folder.check_config(&config).assert_refused(&["issuers.test.keys", "issuer.secret"]);
}

#[test]
fn keys_that_protect_nothing_are_refused() {
    let folder = Folder::new();
    let config = folder.config();
    folder.put("issuer.secret", "short");
    folder.check_config(&config).assert_refused(&["issuers.test.keys", "issuer.secret"]);
    folder.put("issuer.secret", "");
    folder.check_config(&config).assert_refused(&["issuers.test.keys", "issuer.secret", "empty"]);
}

#[test]
fn an_admin_token_that_is_not_there_is_named() {
    let folder = Folder::new();
    let config = folder.config();
    fs::remove_file(folder.path("admin.token")).unwrap();
    folder.check_config(&config).assert_refused(&["`admin.token_file`", "check the path"]);
}

#[test]
fn a_policy_file_that_is_not_there_is_named() {
    let folder = Folder::new();
    let config = folder.config_with_policy(&component("portcullis_rules"), &Value::Null);
    fs::remove_file(folder.path("policy.wasm")).unwrap();
    folder.check_config(&config).assert_refused(&[
        "policy `main`",
        "policy.wasm",
        "check the path",
    ]);
    serve(&folder, &config).assert_refused(&["policy `main`", "policy.wasm"]);
}

#[test]
fn a_policy_that_no_section_lists_is_named() {
    let folder = Folder::new();
    let mut config = folder.config();
    config["routes"] = json!([{"name": "a", "token": "ignored", "policy": "absent"}]);
    folder.check_config(&config).assert_refused(&["route `a`", "absent", "`policies`"]);
}

#[test]
fn inspection_shows_what_a_policy_is_made_of() {
    for name in ["portcullis_rules", "portcullis_maintenance"] {
        let file = component(name);
        let inspected = run(&["policy".as_ref(), "inspect".as_ref(), file.as_os_str()]);
        assert_eq!(inspected.code, Some(0), "{inspected:?}");
        let lines: Vec<_> = inspected.stdout.lines().collect();
        assert!(lines[0].starts_with("digest:  sha256:"), "{lines:?}");
        assert_eq!(lines[1..], ["exports: portcullis:policy/evaluator@0.1.0", "imports: none"]);
    }
}

/// Its standard library imports `wasi:cli` and `wasi:io`, behind which there is nothing.
#[test]
fn a_policy_with_the_standard_library_loads_and_decides() {
    let folder = Folder::new();
    let policy = component("portcullis_owner_only");
    let inspected = run(&["policy".as_ref(), "inspect".as_ref(), policy.as_os_str()]);
    assert_eq!(inspected.code, Some(0), "{inspected:?}");
    assert!(inspected.stdout.contains("wasi:cli/"), "{inspected:?}");
    for (path, decision) in [("/users/alice", "allow"), ("/users/bob", "deny")] {
        let request = json!({"path": path, "identity": {"subject": "alice"}});
        let answer = eval(&folder, &policy, &Value::Null, &request);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let answer: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(answer["decision"], decision, "{path}");
    }
}

#[test]
fn evaluation_names_what_is_wrong_with_its_files() {
    let folder = Folder::new();
    let rules = component("portcullis_rules");
    let settings = json!({"rules": [{"effect": "allow"}]});
    eval(&folder, &rules, &settings, &json!({"metod": "GET"}))
        .assert_refused(&["request.yaml", "metod"]);
    eval(&folder, &rules, &json!({"rules": 5}), &json!({})).assert_refused(&["settings.rules"]);
    eval(&folder, Path::new("/nonexistent.wasm"), &settings, &json!({}))
        .assert_refused(&["/nonexistent.wasm", "check the path"]);
    let attack = json!({"attack": "panic", "when_path": "/"});
    eval(&folder, &component("hostile_guest"), &attack, &json!({}))
        .assert_refused(&["no verdict", "trapped"]);
}

#[test]
fn eco2_rules_decide_the_same_as_a_component() {
    example("eco2.yaml");
}

#[test]
fn gemini_rules_decide_the_same_as_a_component() {
    example("gemini.yaml");
}

#[test]
fn istio_sample_rules_decide_the_same_as_a_component() {
    example("istio-sample.yaml");
}

#[test]
fn opa_path_claim_rules_decide_the_same_as_a_component() {
    example("opa-path-claim.yaml");
}

#[test]
fn every_example_is_run() {
    let source = include_str!("cli.rs");
    for entry in fs::read_dir(examples()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if Path::new(&name).extension().is_some_and(|end| end == "yaml") {
            assert!(source.contains(&format!("example(\"{name}\")")), "{name} is run by no test");
        }
    }
}

/// Runs every case of a file.
fn example(file: &str) {
    let folder = Folder::new();
    let example = example_file(file);
    let cases = example["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let name = format!("{file}: {}", case["name"]);
        let mut request = json!({"route": "example", "host": "api.example.com"});
        for (key, value) in case["request"].as_object().unwrap() {
            request[key] = value.clone();
        }
        let evaluated =
            eval(&folder, &component("portcullis_rules"), &example["settings"], &request);
        assert_eq!(evaluated.code, Some(0), "{name}: {evaluated:?}");
        let decision = serde_json::from_str(&evaluated.stdout).unwrap();
        compare(&name, &decision, case["expect"].as_object().unwrap());
    }
}

/// Compares only what the case says.
fn compare(name: &str, decision: &Value, expect: &Map<String, Value>) {
    let (kind, expected) = expect.iter().next().unwrap();
    assert_eq!(decision["decision"], **kind, "{name}: {decision}");
    for (key, expected) in expected.as_object().unwrap() {
        let actual = &decision[key];
        match expected {
            Value::Object(headers) => {
                for (header, value) in headers {
                    let one = json!({header: value});
                    assert!(actual.as_array().unwrap().contains(&one), "{name}: {one} in {actual}");
                }
            }
            Value::Array(items) => {
                for item in items {
                    assert!(
                        actual.as_array().unwrap().contains(item),
                        "{name}: {item} in {actual}"
                    );
                }
            }
            plain => assert_eq!(actual, plain, "{name}: {key}"),
        }
    }
}
