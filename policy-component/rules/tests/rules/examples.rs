//! Runs every case of every file in `examples/` against the rules, natively.
//!
//! The policy sees what Portcullis would show it: only what its manifest asks for.

use std::{fs, path::Path};

use portcullis_policy::{Decision, Header, Policy};
use portcullis_rules::Rules;

use crate::case::{Case, Example, Expectation};

#[test]
fn eco2_public_paths_pass_and_the_rest_needs_a_caller() {
    check("eco2.yaml");
}

#[test]
fn gemini_paths_take_the_token_of_their_provider_and_users_reach_only_themselves() {
    check("gemini.yaml");
}

#[test]
fn opa_path_claim_gives_403_403_200_200() {
    check("opa-path-claim.yaml");
}

#[test]
fn istio_sample_answers_as_its_sample_server_does() {
    check("istio-sample.yaml");
}

#[test]
fn every_example_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let source = include_str!("examples.rs");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".yaml") {
            continue;
        }
        assert!(source.contains(&format!("check(\"{name}\")")), "{name} is run by no test");
    }
}

fn check(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file);
    let text = fs::read_to_string(path).unwrap();
    let example: Example = serde_saphyr::from_str(&text).unwrap();
    let settings = example.settings.to_string();
    let (rules, manifest) = Rules::configure(&settings).unwrap();
    assert!(!example.cases.is_empty(), "{file} has no cases");
    for Case { name, request, expect } in example.cases {
        let decision = rules.evaluate(&request.seen_through(&manifest)).unwrap();
        compare(&format!("{file}: {name}"), &decision, &expect);
    }
}

/// Compares only what the case says.
fn compare(case: &str, decision: &Decision, expect: &Expectation) {
    match (decision, expect) {
        (Decision::Allow(allowed), Expectation::Allow(expected)) => {
            for (name, value) in &expected.set_request_headers {
                assert_header(case, &allowed.set_request_headers, name, value);
            }
            for name in &expected.remove_request_headers {
                let removed = &allowed.remove_request_headers;
                assert!(removed.contains(name), "{case}: {name} is not among {removed:?}");
            }
            for (name, value) in &expected.response_headers {
                assert_header(case, &allowed.response_headers, name, value);
            }
        }
        (Decision::Deny(denied), Expectation::Deny(expected)) => {
            assert_eq!(denied.status, expected.status, "{case}");
            for (actual, expected) in
                [(&denied.reason, &expected.reason), (&denied.body, &expected.body)]
            {
                if let Some(expected) = expected {
                    assert_eq!(actual, expected, "{case}");
                }
            }
            for (name, value) in &expected.headers {
                assert_header(case, &denied.headers, name, value);
            }
        }
        (actual, expected) => panic!("{case}: {actual:?} instead of {expected:?}"),
    }
}

fn assert_header(case: &str, headers: &[Header], name: &str, value: &str) {
    let found = headers.iter().find(|header| header.name == name);
    assert_eq!(found.map(|header| header.value.as_str()), Some(value), "{case}: {name}");
}
