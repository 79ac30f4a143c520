//! Refused policies: files that are not policies, and policies that do not take their settings. The
//! message names the policy, its file, the route, and what to do.

use std::fs;

use serde_json::{Value, json};

use crate::process::{Finished, Folder, command, component, run};

/// The first bytes of a component, and of a core module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// A component that has one import and passes it on as its only export, both of them an instance
/// without anything in it.
fn passing_on(import: &str, export: &str) -> Vec<u8> {
    let section =
        |id: u8, items: &[u8]| [&[id, u8::try_from(items.len()).unwrap()], items].concat();
    let name = |name: &str| [&[0, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    [
        COMPONENT.to_vec(),
        // One type: an instance without exports.
        section(7, &[1, 0x42, 0]),
        // One import: an instance of that type.
        section(10, &[&[1], name(import).as_slice(), &[5, 0]].concat()),
        // One export: that instance, with the type that it has.
        section(11, &[&[1], name(export).as_slice(), &[5, 0, 0]].concat()),
    ]
    .concat()
}

fn check_file(bytes: &[u8]) -> Finished {
    let folder = Folder::new();
    let file = folder.put("strange.wasm", bytes);
    let config = folder.config_with_policy(&file, &Value::Null);
    let refused = folder.check_config(&config);
    refused.assert_refused(&["policy `main`", "policy.wasm"]);
    refused
}

fn check_attack(attack: &str) -> Finished {
    let folder = Folder::new();
    let settings = json!({"attack": attack, "size": 4 << 20});
    let config = folder.config_with_policy(&component("hostile_guest"), &settings);
    let refused = folder.check_config(&config);
    refused.assert_refused(&["policy `main`", "policy.wasm", "route `everything`"]);
    assert!(refused.stderr.len() < 8192, "{} bytes of message", refused.stderr.len());
    refused
}

#[test]
fn a_file_that_is_not_webassembly_is_refused() {
    check_file(b"#!/bin/sh\n").assert_refused(&["not a WebAssembly component", "wasm32-wasip2"]);
    check_file(b"").assert_refused(&["not a WebAssembly component"]);
}

#[test]
fn a_core_module_is_refused() {
    check_file(CORE_MODULE).assert_refused(&["core WebAssembly module", "wasm32-wasip2"]);
}

#[test]
fn a_component_that_is_cut_off_is_refused() {
    let whole = fs::read(component("portcullis_rules")).unwrap();
    for length in [9, whole.len() / 2, whole.len() - 1] {
        check_file(&whole[..length]);
    }
    check_file(&whole[..whole.len() / 2]).assert_refused(&["does not compile"]);
}

#[test]
fn another_world_is_refused() {
    check_file(COMPONENT).assert_refused(&["`portcullis:policy/evaluator@0.1.0`"]);
    check_file(&passing_on("wasi:io/poll@0.2.0", "wasi:http/incoming-handler@0.2.0"))
        .assert_refused(&["does not export `portcullis:policy/evaluator@0.1.0`"]);
}

#[test]
fn another_version_of_the_contract_is_refused() {
    check_file(&passing_on("wasi:io/poll@0.2.0", "portcullis:policy/evaluator@9.0.0"))
        .assert_refused(&["`portcullis:policy/evaluator@9.0.0`", "rebuild"]);
}

#[test]
fn other_types_than_those_of_the_contract_are_refused() {
    check_file(&passing_on("wasi:io/poll@0.2.0", "portcullis:policy/evaluator@0.1.0"))
        .assert_refused(&["other types"]);
}

#[test]
fn a_forbidden_import_is_refused_by_its_name() {
    for import in ["wasi:sockets/tcp@0.2.0", "wasi:filesystem/types@0.2.0", "evil:host/shell"] {
        let file = passing_on(import, "portcullis:policy/evaluator@0.1.0");
        check_file(&file).assert_refused(&[&format!("`{import}`")]);
    }
}

#[test]
fn inspection_refuses_the_same() {
    let folder = Folder::new();
    let file = passing_on("wasi:sockets/tcp@0.2.0", "portcullis:policy/evaluator@0.1.0");
    let file = folder.put("strange.wasm", file);
    let inspected = run(&["policy".as_ref(), "inspect".as_ref(), file.as_os_str()]);
    inspected.assert_refused(&["strange.wasm", "not a policy", "`wasi:sockets/tcp@0.2.0`"]);
    assert!(inspected.stdout.contains("imports: wasi:sockets/tcp@0.2.0"), "{inspected:?}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = Folder::new();
    let mut config = folder.config_with_policy(&component("portcullis_rules"), &Value::Null);
    config["policy_host"] = json!({"max_component_bytes": 1000});
    folder
        .check_config(&config)
        .assert_refused(&["policy `main`", "`policy_host.max_component_bytes` (1000)"]);
}

#[test]
fn settings_that_the_policy_refuses_are_refused_with_its_words() {
    let folder = Folder::new();
    let settings = json!({"rules": [{"effect": "alow"}]});
    let config = folder.config_with_policy(&component("portcullis_rules"), &settings);
    folder.check_config(&config).assert_refused(&[
        "policy `main`",
        "route `everything`",
        "settings.rules",
    ]);
    check_attack("nonsense").assert_refused(&["settings.attack", "`nonsense`"]);
}

#[test]
fn a_trap_in_configure_is_refused() {
    check_attack("configure_trap").assert_refused(&["`configure` trapped"]);
    check_attack("configure_grow_memory").assert_refused(&["`configure` "]);
}

#[test]
fn a_configure_that_never_ends_is_refused_in_time() {
    check_attack("configure_spin").assert_refused(&["`configure` took longer than its deadline"]);
}

#[test]
fn a_huge_message_about_the_settings_is_not_repeated() {
    check_attack("huge_settings_error");
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused() {
    check_attack("huge_manifest");
    check_attack("bad_manifest").assert_refused(&["manifest"]);
}

#[test]
fn serving_refuses_to_start_as_checking_does() {
    let folder = Folder::new();
    let settings = json!({"attack": "configure_trap"});
    let config = folder.config_with_policy(&component("hostile_guest"), &settings);
    let output = command().args(["serve", "--config"]).arg(folder.write(&config)).output().unwrap();
    let refused = Finished {
        code: output.status.code(),
        stdout: String::new(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    refused.assert_refused(&["policy `main`", "route `everything`", "`configure` trapped"]);
}
