//! Settings that are refused say where and what to write instead; those that are accepted ask for
//! no more than they read.

use portcullis_policy::{Manifest, Parts, Policy, SettingsError};
use portcullis_rules::Rules;
use proptest::prelude::*;

fn manifest(yaml: &str) -> Result<Manifest, SettingsError> {
    let settings: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    Rules::configure(&settings.to_string()).map(|(_, manifest)| manifest)
}

/// The path and the message with which settings are refused.
fn refusal(yaml: &str) -> (String, String) {
    match manifest(yaml) {
        Err(SettingsError::Invalid(problem)) => (problem.path, problem.message),
        other => panic!("{yaml}: {other:?}"),
    }
}

#[test]
fn refused_settings_name_the_place_and_the_fix() {
    for (yaml, path, message) in [
        ("null", "", "write `settings: {rules: [..]}`"),
        ("[]", "", "must be a mapping"),
        ("{}", "", "is empty"),
        ("rule: []", "rule", "the keys here are `rules`"),
        ("rules: []", "rules", "empty list"),
        ("rules: {}", "rules", "must be a list"),
        ("rules: [{match: {}, effect: deny}]", "rules[0].match", "is empty"),
        ("rules: [{effect: permit}]", "rules[0].effect", "must be `allow`, `deny`"),
        ("rules: [{match: {methods: [GET]}}]", "rules[0].effect", "is missing; write `allow`"),
        ("rules: [{effect: deny}, {effect: allow}]", "rules[1]", "since rules[0] has no `match`"),
        ("rules: [{match: {path: [/a]}, effect: deny}]", "rules[0].match.path", "`paths`"),
        (
            "rules: [{match: {methods: [get]}, effect: deny}]",
            "rules[0].match.methods[0]",
            "write `GET`",
        ),
        (
            "rules: [{match: {hosts: ['a.example:80']}, effect: deny}]",
            "rules[0].match.hosts[0]",
            "without scheme, port",
        ),
        (
            "rules: [{match: {hosts: ['*example.com']}, effect: deny}]",
            "rules[0].match.hosts[0]",
            "`*.example.com`",
        ),
        (
            "rules: [{match: {paths: [/a, /b/]}, effect: deny}]",
            "rules[0].match.paths[1]",
            "slash at the end",
        ),
        (
            "rules: [{match: {identity: optional}, effect: deny}]",
            "rules[0].match.identity",
            "`required` or `absent`",
        ),
        (
            "rules: [{match: {scopes: ['a b']}, effect: deny}]",
            "rules[0].match.scopes[0]",
            "several elements",
        ),
        (
            "rules: [{match: {claims: [{claim: a, equals: 1, present: true}]}, effect: deny}]",
            "rules[0].match.claims[0]",
            "exactly one of",
        ),
        (
            "rules: [{match: {claims: [{claim: 'https://a.b/c', equals: x}]}, effect: deny}]",
            "rules[0].match.claims[0].claim",
            "as a list of names",
        ),
        (
            "rules: [{match: {claims: [{claim: a, equals: 1.5}]}, effect: deny}]",
            "rules[0].match.claims[0].equals",
            "whole number",
        ),
        (
            "rules: [{match: {paths: ['/u/{id}', /v], \
             path_segment: {name: id, equals_claim: sub}}, effect: allow}]",
            "rules[0].match.path_segment.name",
            "write `{id}` in each",
        ),
        (
            "rules: [{match: {not: {any: [{headers: [{name: x, equal: y}]}]}}, effect: deny}]",
            "rules[0].match.not.any[0].headers[0].equal",
            "the keys here are",
        ),
        (
            "rules: [{match: {context: {tier: 1}}, effect: deny}]",
            "rules[0].match.context.tier",
            "put it in quotes",
        ),
        (
            "rules: [{effect: {allow: {set_request_headers: {Host: x}}}}]",
            "rules[0].effect.allow.set_request_headers.Host",
            "must not touch `host`",
        ),
        (
            "rules: [{effect: {allow: {set_request_headers: {':path': x}}}}]",
            "rules[0].effect.allow.set_request_headers.:path",
            "is not the name of a header",
        ),
        (
            "rules: [{effect: {allow: {set_request_headers: {x-a: \"a\\r\\nb\"}}}}]",
            "rules[0].effect.allow.set_request_headers.x-a",
            "control character",
        ),
        (
            "rules: [{effect: {allow: {set_request_headers: {X-A: a}, \
             remove_request_headers: [x-a]}}}]",
            "rules[0].effect.allow.remove_request_headers[0]",
            "is also set",
        ),
        (
            "rules: [{effect: {allow: {set_request_headers: {x-a: {clam: sub}}}}}]",
            "rules[0].effect.allow.set_request_headers.x-a.clam",
            "`claim`",
        ),
        (
            "rules: [{effect: {deny: {status: 99}}}]",
            "rules[0].effect.deny.status",
            "from 200 to 599",
        ),
        (
            "rules: [{effect: {deny: {reason: 'not yours'}}}]",
            "rules[0].effect.deny.reason",
            "letters, digits",
        ),
        (
            "rules: [{effect: {allow: {}, deny: {}}}]",
            "rules[0].effect",
            "exactly one of `allow`, `deny`",
        ),
    ] {
        let (actual_path, actual_message) = refusal(yaml);
        assert_eq!(actual_path, path, "{yaml}: {actual_message}");
        assert!(actual_message.contains(message), "{yaml}: {actual_message}");
    }
}

#[test]
fn text_that_is_not_json_is_refused() {
    assert!(matches!(Rules::configure("rules: []"), Err(SettingsError::Syntax(_))));
    let deep = "[".repeat(100_000);
    assert!(matches!(Rules::configure(&deep), Err(SettingsError::Syntax(_))));
}

#[test]
fn rules_ask_for_what_they_read_and_for_nothing_else() {
    let plain = manifest(
        "rules: [{match: {paths: [/a], claims: [{claim: sub, present: true}]}, effect: allow}]",
    );
    assert_eq!(plain.unwrap(), Manifest::new());

    let full = manifest(
        "rules:
          - match:
              headers: [{name: X-Tenant, equals: acme}]
              claims: [{claim: realm_access.roles, contains: admin}, {claim: tier, equals: 1}]
              context: {a: b}
            effect: deny
          - match: {not: {claims: [{claim: [realm_access, roles], contains: user}]}}
            effect:
              allow:
                set_request_headers:
                  x-tenant: {header: x-tenant}
                  x-from: {request: source_principal}
                  x-mail: [{claim: email}, {claim: iss}]",
    );
    let expected = Manifest::new()
        .with_header("x-tenant")
        .with_claim(["realm_access", "roles"])
        .with_claim(["tier"])
        .with_claim(["email"])
        .with_parts(Parts::CONTEXT | Parts::SOURCE);
    assert_eq!(full.unwrap(), expected);
}

proptest! {
    #[test]
    fn no_settings_panic(text in r#"[{}\[\]":,a-z* /]{0,60}"#) {
        let _ = Rules::configure(&text);
    }
}
