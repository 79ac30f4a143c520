//! Tests of the order of rules: one that an earlier rule leaves nothing to decide is refused.

use portcullis_policy::{Policy, SettingsError};
use portcullis_rules::Rules;

use crate::settings::{manifest, refusal};

#[test]
fn a_rule_behind_one_that_covers_it_is_refused() {
    for (before, after) in [
        ("{methods: [GET]}", "{methods: [GET], scopes: [a]}"),
        ("{methods: [GET, POST]}", "{methods: [POST], paths: [/a]}"),
        ("{hosts: [A.example]}", "{hosts: [a.EXAMPLE], methods: [GET]}"),
        ("{hosts: ['*.example.com']}", "{hosts: [a.b.example.com, '*.c.example.com']}"),
        ("{hosts: ['*']}", "{hosts: [a.example], paths: [/a]}"),
        ("{paths: ['/**']}", "{path_templates: ['/admin/**']}"),
        ("{path_templates: ['/a/**']}", "{paths: ['/a']}"),
        ("{paths: ['/a/**', '/b']}", "{paths: ['/b', '/a/{id}/*.txt'], identity: required}"),
        ("{paths: ['/a/{x}']}", "{paths: ['/a/b', '/a/*', '/a/c*']}"),
        ("{paths: ['/a/*/c/**']}", "{paths: ['/a/b/c/d']}"),
        ("{paths: ['/a/**/b']}", "{paths: ['/a/**/b'], methods: [GET]}"),
        (
            "{hosts: [x.y], paths: ['/a/**']}",
            "{hosts: [x.y], paths: ['/a/b'], not_paths: [/a/b/c]}",
        ),
        ("{methods: [GET], scopes: [a]}", "{scopes: [a], methods: [GET]}"),
        ("{any: [{scopes: [a]}, {scopes: [b]}]}", "{any: [{scopes: [a]}, {scopes: [b]}]}"),
    ] {
        let yaml = format!(
            "rules: [{{match: {before}, effect: allow}}, {{match: {{paths: [/zzz], scopes: [z]}}, \
             effect: deny}}, {{match: {after}, effect: deny}}]"
        );
        // Where the first covers the middle one as well, that one is reported.
        let (path, message) = refusal(&yaml);
        assert!(path == "rules[2]" || path == "rules[1]", "{yaml}: {path}");
        assert!(message.contains("rules[0]"), "{yaml}: {message}");
    }
}

#[test]
fn a_rule_that_an_earlier_one_leaves_something_is_kept() {
    for (before, after) in [
        ("{methods: [GET]}", "{methods: [GET, POST]}"),
        ("{methods: [GET]}", "{paths: [/a]}"),
        ("{hosts: [a.example]}", "{hosts: ['*.a.example']}"),
        ("{hosts: ['*.example']}", "{hosts: [example]}"),
        ("{hosts: ['*']}", "{methods: [GET]}"),
        ("{paths: ['/**']}", "{methods: [GET]}"),
        ("{paths: ['/a/*']}", "{paths: ['/a/**']}"),
        ("{paths: ['/a/*']}", "{paths: ['/a']}"),
        ("{paths: ['/a/**']}", "{paths: ['/ab']}"),
        ("{paths: ['/a/b*']}", "{paths: ['/a/*b']}"),
        ("{paths: ['/a/**'], methods: [GET]}", "{paths: ['/a/b']}"),
        ("{paths: ['/a/**'], scopes: [x]}", "{paths: ['/a/b']}"),
        ("{paths: ['/a/**'], not_paths: ['/a/b']}", "{paths: ['/a/b']}"),
        ("{paths: ['/a/**'], hosts: [x.y]}", "{paths: ['/a/b'], hosts: [x.y, z.y]}"),
        ("{scopes: [a]}", "{scopes: [b]}"),
    ] {
        let yaml = format!(
            "rules: [{{match: {before}, effect: allow}}, {{match: {after}, effect: deny}}]"
        );
        manifest(&yaml).unwrap();
    }
}

#[test]
fn a_rule_is_covered_as_paths_are_compared() {
    let rules = "rules: [{match: {paths: [/Admin]}, effect: deny}, \
                 {match: {paths: [/admin]}, effect: allow}]";
    manifest(rules).unwrap();
    let (path, _) = refusal(&format!("{{paths: {{ignore_case: true}}, {rules}}}"));
    assert_eq!(path, "rules[1]");
    let rules = "rules: [{match: {paths: ['/a/*']}, effect: deny}, \
                 {match: {paths: [/a/]}, effect: allow}]";
    manifest(&format!("{{paths: {{trailing_slash: distinct}}, {rules}}}")).unwrap();
}

/// A list that grows takes a time that grows with it: this one is long enough to notice.
#[test]
fn a_long_list_of_rules_is_read() {
    let rule = |n: usize| {
        serde_json::json!({
            "match": {"hosts": [format!("t{n}.example.com")], "path_templates": ["/api/**"]},
            "effect": "allow",
        })
    };
    let mut rules: Vec<_> = (0..10_000).map(rule).collect();
    Rules::configure(&serde_json::json!({"rules": rules}).to_string()).unwrap();
    rules.push(rule(5_000));
    let refused = Rules::configure(&serde_json::json!({"rules": rules}).to_string());
    let Err(SettingsError::Invalid(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.path, "rules[10000]");
    assert!(problem.message.contains("rules[5000]"), "{}", problem.message);
}
