//! Attacks that no compiler produces: a component written by hand, in
//! `integration-tests/fixtures/raw-guest.wat`, that answers with what is not an answer.

use std::{fs, path::Path};

use serde_json::json;

use crate::{
    hostile::suffer,
    process::{Folder, Service},
};

/// The component, with `change` made to its text.
fn raw_guest(change: impl FnOnce(String) -> String) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../integration-tests/fixtures/raw-guest.wat");
    wat::parse_str(change(fs::read_to_string(path).unwrap())).unwrap()
}

/// The component, with a core module that is not used.
fn with_module(fields: &str) -> Vec<u8> {
    let begin = "(component\n";
    raw_guest(|text| text.replacen(begin, &format!("{begin}  (core module {fields})\n"), 1))
}

/// The attack denies the requests that it happens to, costs no memory, and harms no other.
async fn is_denied(attack: &str) {
    let folder = Folder::new();
    let file = folder.put("raw.wasm", raw_guest(|text| text));
    let config = folder.config_with_policy(&file, &json!(attack));
    let service = Service::start(folder, &config);
    suffer(&service).await;
    let before = service.resident_bytes();
    let answer = suffer(&service).await;
    assert_eq!((answer.allowed, answer.status), (false, 500), "{answer:?}");
    assert_eq!(answer.reason, "policy_failed");
    let grown = service.resident_bytes().saturating_sub(before) >> 20;
    assert!(grown < 32, "{grown} MiB more after three attacks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_grows_for_ever_is_denied() {
    is_denied("table").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_answered_many_times_over_is_copied_only_up_to_the_limit() {
    is_denied("shared").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_longer_than_the_memory_is_denied() {
    is_denied("length").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_the_contract_does_not_have_is_denied() {
    is_denied("variant").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_denied() {
    is_denied("utf8").await;
}

#[test]
fn a_whole_policy_with_one_import_too_many_is_refused_by_its_name() {
    // At the end, where it does not shift the numbers by which the types are named.
    let end = "  (export $portcullis:policy";
    let import = "(import \"wasi:sockets/tcp-create-socket@0.2.3\" \
                  (instance (export \"create\" (func))))";
    let folder = Folder::new();
    let file = raw_guest(|text| text.replacen(end, &format!("{import}\n{end}"), 1));
    let file = folder.put("raw.wasm", file);
    let config = folder.config_with_policy(&file, &json!("none"));
    folder
        .check_config(&config)
        .assert_refused(&["policy `main`", "`wasi:sockets/tcp-create-socket@0.2.3`"]);
}

/// Proposals of WebAssembly that no policy needs, each in the smallest module that uses it, and how
/// the refusal calls it.
const PROPOSALS: [(&str, &str); 17] = [
    ("(memory 1 1 shared)", "threads"),
    ("(memory 1) (func (drop (i32.atomic.load (i32.const 0))))", "threads"),
    ("(memory i64 1)", "memory64"),
    ("(memory 1) (memory 1)", "multiple memories"),
    ("(memory 1 (pagesize 1))", "custom page sizes"),
    ("(tag)", "exceptions"),
    ("(func (try_table))", "exceptions"),
    ("(type (struct))", "gc"),
    ("(type (array i32))", "gc"),
    ("(type (sub (func)))", "gc"),
    ("(rec (type (func)) (type (func)))", "gc"),
    ("(func (param externref))", "gc"),
    ("(type $type (func)) (func (param (ref $type)))", "function references"),
    ("(func $self (return_call $self))", "tail calls"),
    ("(func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))", "relaxed"),
    (
        "(func (result i64 i64) (i64.add128 (i64.const 0) (i64.const 0) (i64.const 0) \
         (i64.const 0)))",
        "wide arithmetic",
    ),
    ("(type $type (func)) (type (cont $type))", "stack switching"),
];

#[test]
fn proposals_that_no_policy_needs_are_refused_by_their_name_and_place() {
    let check = |module: &str| {
        let folder = Folder::new();
        let file = folder.put("raw.wasm", with_module(module));
        folder.check_config(&folder.config_with_policy(&file, &json!("none")))
    };
    for harmless in ["", "(memory 1) (func (param i32) (result i32) (local.get 0))"] {
        assert_eq!(check(harmless).code, Some(0), "a module alone is no reason to refuse");
    }
    for (module, name) in PROPOSALS {
        check(module).assert_refused(&["policy `main`", "does not compile", name, "offset"]);
    }
}
