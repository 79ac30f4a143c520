//! Examples: runs every case of every file in `examples/` against the rules, natively, and those that
//! `docs/rules.md` prints.
//!
//! The policy sees what Portcullis would show it: only what its manifest asks for.

use std::{collections::BTreeSet, fs, path::Path};

use portcullis_policy::{Decision, Header, Manifest, Policy};
use portcullis_rules::Rules;
use serde_json::Value as Json;

use crate::case::{Case, CaseRequest, CaseRoute, Example, Expectation};

/// What a client sends under a name that the upstream trusts.
const SPOOFED: &str = "spoofed-by-the-client";

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
    let trusted = trusted(&example.route, &example.settings);
    for Case { name, request, expect, upstream } in example.cases {
        let case = format!("{file}: {name}");
        let decision = rules.evaluate(&request.clone().seen_through(&manifest)).unwrap();
        compare(&case, &decision, &expect);
        for (name, expected) in upstream {
            let Decision::Allow(allowed) = &decision else { panic!("{case}: is denied") };
            assert_eq!(
                request.upstream(&name, &example.route, allowed),
                expected,
                "{case}: {name}"
            );
        }
        for request in [request.clone().anonymous(), request] {
            assert_nothing_survives(&case, &rules, &manifest, &example.route, &trusted, request);
        }
    }
}

/// The names under which the upstream reads what Portcullis says: identity headers, and what any of
/// the rules sets.
fn trusted(route: &CaseRoute, settings: &Json) -> BTreeSet<String> {
    let rules = settings["rules"].as_array().unwrap().iter();
    let sets = rules.filter_map(|rule| {
        rule.get("effect")?.get("allow")?.get("set_request_headers")?.as_object()
    });
    let set = sets.flat_map(|headers| headers.keys()).map(|name| name.to_ascii_lowercase());
    route.identity_headers.keys().cloned().chain(set).collect()
}

/// A client that sends headers of the trusted names changes nothing about the decision, and none of
/// them reaches the upstream.
fn assert_nothing_survives(
    case: &str,
    rules: &Rules,
    manifest: &Manifest,
    route: &CaseRoute,
    trusted: &BTreeSet<String>,
    request: CaseRequest,
) {
    let plain = rules.evaluate(&request.clone().seen_through(manifest)).unwrap();
    let mut spoofing = request;
    for name in trusted {
        spoofing.headers.insert(name.clone(), SPOOFED.to_owned());
    }
    let decision = rules.evaluate(&spoofing.clone().seen_through(manifest)).unwrap();
    assert_eq!(decision, plain, "{case}: a header of the client's changes the decision");
    let Decision::Allow(allowed) = decision else { return };
    for name in trusted {
        let read = spoofing.upstream(name, route, &allowed);
        assert_ne!(read.as_deref(), Some(SPOOFED), "{case}: {name}");
    }
}

#[test]
fn the_examples_in_the_documentation_are_safe_as_printed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rules.md");
    let text = fs::read_to_string(path).unwrap();
    let mut checked = 0;
    for block in text.split("```yaml\n").skip(1) {
        let yaml = block.split("```").next().unwrap();
        let example: Json = serde_saphyr::from_str(yaml).unwrap();
        for route in example["routes"].as_array().into_iter().flatten() {
            check_printed(route);
            checked += 1;
        }
    }
    assert!(checked > 0, "docs/rules.md prints no route");
}

fn check_printed(route: &Json) {
    let settings = &route["settings"];
    let (rules, manifest) = Rules::configure(&settings.to_string()).unwrap();
    let headers: CaseRoute = serde_json::from_value(route.clone()).unwrap();
    let trusted = trusted(&headers, settings);
    assert!(!trusted.is_empty(), "{route}");
    for path in ["/", "/health", "/docs/x", "/users/alice", "/users/alice/a", "/users/bob"] {
        for method in ["GET", "POST", "OPTIONS"] {
            let request = serde_json::json!({
                "path": path, "method": method, "identity": {"subject": "alice"},
            });
            let request: CaseRequest = serde_json::from_value(request).unwrap();
            for request in [request.clone().anonymous(), request] {
                assert_nothing_survives(path, &rules, &manifest, &headers, &trusted, request);
            }
        }
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
