//! Tests of refused settings: the message names the place, and what to write instead.

use portcullis_policy::{Manifest, Policy, SettingsError};
use portcullis_rules::Rules;
use proptest::prelude::*;

pub(crate) fn manifest(yaml: &str) -> Result<Manifest, SettingsError> {
    let settings: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
    Rules::configure(&settings.to_string()).map(|(_, manifest)| manifest)
}

/// The path and the message with which settings are refused.
pub(crate) fn refusal(yaml: &str) -> (String, String) {
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
        ("rule: []", "rule", "the keys here are `paths`, `rules`"),
        ("{paths: {ignore_cas: true}, rules: []}", "paths.ignore_cas", "`ignore_case`"),
        ("{paths: {trailing_slash: keep}, rules: []}", "paths.trailing_slash", "`distinct`"),
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
            "rules: [{match: {paths: [/a], path_templates: [/b]}, effect: deny}]",
            "rules[0].match.paths",
            "another name of `path_templates`",
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
            "write `https://a\\.b/c`, or a list of names",
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
            "rules: [{effect: {allow: {set_request_headers: {X-Envoy-Retry-On: '5xx'}}}}]",
            "rules[0].effect.allow.set_request_headers.X-Envoy-Retry-On",
            "must not touch `x-envoy-retry-on`",
        ),
        (
            "rules: [{effect: {allow: {remove_request_headers: [x_envoy_foo]}}}]",
            "rules[0].effect.allow.remove_request_headers[0]",
            "must not touch `x_envoy_foo`",
        ),
        (
            "rules: [{effect: {deny: {headers: {x-envoy-auth-headers-to-remove: a}}}}]",
            "rules[0].effect.deny.headers.x-envoy-auth-headers-to-remove",
            "must not touch",
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

/// A rule with these conditions.
fn with(conditions: &str) -> String {
    format!("rules: [{{match: {conditions}, effect: deny}}]")
}

#[test]
fn hosts_that_no_request_has_are_refused_with_the_remedy() {
    for (host, remedy) in [
        ("a.example:80", "without port"),
        ("https://a.example", "without scheme"),
        ("/admin", "without scheme"),
        ("a.example.", "write `a.example`"),
        ("münchen.example", "`xn--`"),
        ("::1", "`[::1]`"),
        ("[::1]:80", "without a port"),
        ("[0:0:0:0:0:0:0:1]", "write `[::1]`"),
        ("[::x]", "IPv6"),
        ("*.[::1]", "without scheme"),
        ("*example.com", "`*.example.com`"),
        ("api.*.com", "`*.example.com`"),
        ("*.", "is not a host"),
        ("a..example", "is not a host"),
        (".example.com", "is not a host"),
        ("a b", "is not a host"),
        ("a,b", "is not a host"),
        ("user@a", "is not a host"),
        ("a%41", "is not a host"),
        ("127.1", "IPv4"),
        ("0x7f.1", "IPv4"),
        ("10.0.0.01", "IPv4"),
    ] {
        let (path, message) = refusal(&with(&format!("{{hosts: ['{host}']}}")));
        assert_eq!(path, "rules[0].match.hosts[0]", "{host}");
        assert!(message.contains(remedy), "{host}: {message}");
    }
    for host in ["API.Example.com", "*.Example.com", "*", "[::1]", "10.0.0.1", "a_b.c-d", "xn--a"] {
        manifest(&with(&format!("{{hosts: ['{host}']}}"))).unwrap();
    }
}

#[test]
fn conditions_that_can_never_hold_are_refused() {
    for (conditions, path) in [
        ("{methods: []}", "methods"),
        ("{methods: [Get]}", "methods[0]"),
        ("{methods: ['GET,POST']}", "methods[0]"),
        ("{methods: ['GET ']}", "methods[0]"),
        ("{methods: ['GET|POST']}", "methods[0]"),
        ("{methods: [GET+POST]}", "methods[0]"),
        ("{methods: [GET_POST]}", "methods[0]"),
        ("{methods: ['GET.*']}", "methods[0]"),
        ("{methods: [GET, '*']}", "methods[1]"),
        ("{methods: [ANY]}", "methods[0]"),
        ("{methods: [all]}", "methods[0]"),
        ("{methods: [PRI]}", "methods[0]"),
        ("{methods: [CONNECT]}", "methods[0]"),
        ("{identity: absent, scopes: [a]}", "scopes"),
        ("{identity: absent, claims: [{claim: sub, equals: a}]}", "claims"),
        ("{identity: absent, claim_prefixes_path: {claim: a}}", "claim_prefixes_path"),
        ("{identity: absent, any: [{scopes: [a]}, {methods: [GET]}]}", "any[0].scopes"),
        ("{identity: required, all: [{identity: absent}]}", "all[0].identity"),
        ("{methods: [GET], any: [{methods: [POST]}]}", "any[0].methods"),
        ("{claims: [{claim: a, equals: p}, {claim: a, equals: q}]}", "claims[1]"),
        ("{claims: [{claim: a, one_of: [p, q]}, {claim: a, equals: r}]}", "claims[1]"),
        ("{claims: [{claim: a, equals: p}, {claim: a, present: false}]}", "claims[1]"),
        ("{headers: [{name: x-a, equals: p}, {name: X-A, equals: q}]}", "headers[1]"),
        ("{headers: [{name: x-a, present: false}, {name: x-a, prefix: q}]}", "headers[1]"),
        ("{headers: [{name: x-a, equals: ' a'}]}", "headers[0].equals"),
        ("{headers: [{name: x-a, one_of: [a, \"b\\t\"]}]}", "headers[0].one_of[1]"),
        ("{headers: [{name: x-a, prefix: ' a'}]}", "headers[0].prefix"),
        ("{headers: [{name: Host, equals: a}]}", "headers[0].name"),
        ("{not_paths: ['/**']}", "not_paths"),
        ("{path_templates: ['/a/b', '/c'], not_paths: ['/a/**']}", "path_templates[0]"),
        ("{paths: ['/{id}'], not_paths: ['/*']}", "paths[0]"),
        ("{scopes: [\"a\\tb\"]}", "scopes[0]"),
        ("{methods: [GET], not: {methods: [GET]}}", "not"),
        ("{methods: [GET], not: {methods: [GET, POST]}}", "not"),
        ("{all: [{methods: [GET]}, {methods: [POST]}]}", "all[1].methods"),
        ("{methods: [GET, PUT], all: [{methods: [GET]}, {methods: [PUT]}]}", "all[1].methods"),
        ("{any: [{methods: [GET]}], methods: [POST]}", "any[0].methods"),
        ("{all: [{all: [{methods: [GET]}]}, {any: [{methods: [PUT]}]}]}", "all[1].any[0].methods"),
        ("{all: [{not: {methods: [GET]}}, {methods: [GET]}]}", "all[0].not"),
        (
            "{all: [{any: [{methods: [GET]}, {scopes: [a]}]}, {methods: [PUT]}]}",
            "all[0].any[0].methods",
        ),
        ("{methods: [GET, PUT], not: {any: [{methods: [GET, PUT]}, {scopes: [a]}]}}", "not"),
        (
            "{methods: [GET, PUT], all: [{not: {methods: [GET]}}, {not: {methods: [PUT]}}]}",
            "all[0].not",
        ),
        ("{not: {not: {methods: [GET]}}, all: [{methods: [PUT]}]}", "not.not.methods"),
        ("{identity: absent, not: {identity: absent}}", "not"),
        ("{identity: required, not: {identity: required}}", "not"),
        ("{scopes: [a], not: {identity: required}}", "not"),
        ("{all: [{identity: absent}, {scopes: [a]}]}", "all[1].scopes"),
        ("{not: {identity: required}, all: [{not: {identity: absent}}]}", "not"),
        ("{hosts: [a.example], all: [{hosts: [b.example]}]}", "all[0].hosts"),
        ("{hosts: [a.example], not: {hosts: ['*.example']}}", "not"),
        ("{hosts: [A.example], not: {hosts: [a.example, b.example]}}", "not"),
        ("{paths: [/a], all: [{path_templates: [/b, '/c/**']}]}", "all[0].path_templates"),
        ("{paths: ['/a/{id}'], all: [{paths: ['/b/**']}]}", "all[0].paths"),
        ("{paths: [/a/b], not: {path_templates: ['/a/**']}}", "not"),
        ("{paths: [/a/b], all: [{not_paths: ['/a/**']}]}", "all[0].not_paths"),
        ("{not_paths: ['/a/**'], not: {not_paths: [/a/b]}}", "not"),
        ("{not_paths: ['/a/**'], any: [{paths: [/a/b]}, {paths: [/c]}]}", "any[0].paths"),
        ("{scopes: [a, b], not: {scopes: [a]}}", "not"),
        (
            "{claims: [{claim: a, equals: p}], all: [{claims: [{claim: a, equals: q}]}]}",
            "all[0].claims[0]",
        ),
        ("{claims: [{claim: a, equals: p}], not: {claims: [{claim: a, one_of: [p, q]}]}}", "not"),
        ("{claims: [{claim: a, equals: p}], not: {claims: [{claim: a, present: true}]}}", "not"),
        ("{identity: absent, not: {claims: [{claim: a, present: false}]}}", "not"),
        ("{claims: [{claim: a, present: false}], claim_prefixes_path: {claim: a}}", "claims[0]"),
        ("{headers: [{name: x-a, prefix: p}, {name: X-A, equals: q}]}", "headers[1]"),
        (
            "{headers: [{name: x-a, prefix: pa}], all: [{headers: [{name: x-a, prefix: pb}]}]}",
            "all[0].headers[0]",
        ),
        ("{headers: [{name: x-a, equals: pq}], not: {headers: [{name: X-A, prefix: p}]}}", "not"),
        ("{context: {a: b}, all: [{context: {a: c}}]}", "all[0].context.a"),
        ("{context: {a: b, c: d}, not: {context: {a: b}}}", "not"),
        ("{source_principals: [a], all: [{source_principals: [b]}]}", "all[0].source_principals"),
        ("{source_principals: ['*/a'], not: {source_principals: ['*/a']}}", "not"),
        (
            "{any: [{methods: [GET]}, {scopes: [a]}], not: {any: [{methods: [GET]}, {scopes: [a]}]}}",
            "not",
        ),
        (
            "{paths: ['/u/{id}'], path_segment: {name: id, equals_claim: sub}, \
             not: {path_segment: {name: id, equals_claim: sub}}}",
            "not",
        ),
        ("{claims: [{claim: sub, equals: 42}]}", "claims[0].equals"),
        ("{claims: [{claim: [iss], one_of: [a, true]}]}", "claims[0].one_of[1]"),
        ("{claims: [{claim: exp, equals: '7'}]}", "claims[0].equals"),
        ("{claims: [{claim: nbf, one_of: [7, true]}]}", "claims[0].one_of[1]"),
        ("{claims: [{claim: iat, contains: '7'}]}", "claims[0].contains"),
        ("{claims: [{claim: exp, equals: -1}]}", "claims[0].equals"),
        ("{claims: [{claim: sub, equals: ''}]}", "claims[0].equals"),
        ("{claims: [{claim: sub, equals: ' '}]}", "claims[0].equals"),
        ("{claims: [{claim: jti, one_of: [a, 'b ']}]}", "claims[0].one_of[1]"),
        ("{claims: [{claim: sid, equals: 1}]}", "claims[0].equals"),
        ("{claims: [{claim: 'role ', equals: a}]}", "claims[0].claim"),
        ("{claims: [{claim: [a, ' b'], equals: a}]}", "claims[0].claim"),
        ("{source_principals: ['*/sa/a ']}", "source_principals[0]"),
    ] {
        let (actual, message) = refusal(&with(conditions));
        assert_eq!(actual, format!("rules[0].match.{path}"), "{conditions}: {message}");
    }
    for conditions in [
        "{identity: absent, claims: [{claim: sub, present: false}]}",
        "{identity: required, not: {identity: absent}}",
        "{methods: [GET], not: {methods: [POST]}}",
        "{methods: [M-SEARCH, VERSION-CONTROL, X_GET]}",
        "{claims: [{claim: a, contains: p}, {claim: a, contains: q}]}",
        "{claims: [{claim: a, one_of: [p, q]}, {claim: a, one_of: [q, r]}]}",
        "{claims: [{claim: a, present: true}, {claim: a, equals: r}]}",
        "{paths: ['/a/**'], not_paths: ['/a/b']}",
        "{methods: [GET, PUT], not: {methods: [GET]}}",
        "{claims: [{claim: tier, equals: ''}]}",
        "{claims: [{claim: exp, present: true}]}",
        "{methods: [GET], not: {methods: [GET], scopes: [a]}}",
        "{all: [{methods: [GET, PUT]}, {methods: [PUT, POST]}]}",
        "{any: [{methods: [GET]}, {methods: [PUT]}], not: {identity: absent}}",
        "{hosts: ['*.example'], not: {hosts: [a.example]}}",
        "{paths: ['/a/**'], all: [{paths: ['/**/b']}]}",
        "{paths: ['/a/*'], all: [{paths: ['/a/x*']}]}",
        "{paths: ['/a/**'], not: {paths: [/a/b]}}",
        "{not_paths: ['/a/b'], not: {not_paths: ['/a/**']}}",
        "{scopes: [a], not: {scopes: [a, b]}}",
        "{claims: [{claim: a, one_of: [p, q]}], not: {claims: [{claim: a, equals: p}]}}",
        "{claims: [{claim: a, equals: p}], not: {claims: [{claim: b, equals: p}]}}",
        "{headers: [{name: x-a, prefix: p}, {name: x-a, prefix: pq}]}",
        "{source_principals: ['*/a'], all: [{source_principals: ['b/*']}]}",
        "{paths: ['/a/{x}/b/{y}'], path_segment: {name: x, equals_claim: sub}, \
         not: {paths: ['/a/{y}/b/{x}'], path_segment: {name: x, equals_claim: sub}}}",
    ] {
        manifest(&with(conditions)).unwrap();
    }
}

#[test]
fn an_answer_without_a_body_by_its_status_is_given_none() {
    for status in [204, 205, 304] {
        let rule =
            |body: &str| format!("rules: [{{effect: {{deny: {{status: {status}{body}}}}}}}]");
        manifest(&rule("")).unwrap();
        manifest(&rule(", body: ''")).unwrap();
        let (path, message) = refusal(&rule(", body: x"));
        assert_eq!(path, "rules[0].effect.deny.body");
        assert!(message.contains(&format!("status {status} has no body")), "{message}");
    }
}

#[test]
fn a_status_that_envoy_does_not_know_is_refused() {
    for status in [209, 299, 306, 309, 399, 418, 419, 425, 427, 430, 451, 499, 509, 512, 599] {
        let (path, message) =
            refusal(&format!("rules: [{{effect: {{deny: {{status: {status}}}}}}}]"));
        assert_eq!(path, "rules[0].effect.deny.status");
        assert!(message.contains("write 403"), "{status}: {message}");
    }
    for status in [200, 226, 302, 401, 404, 421, 429, 431, 503, 511] {
        manifest(&format!("rules: [{{effect: {{deny: {{status: {status}}}}}}}]")).unwrap();
    }
}

#[test]
fn values_that_the_upstream_would_not_read_as_written_are_refused() {
    for (value, place) in [
        ("' a'", ""),
        ("\"a\\u00a0\"", ""),
        ("{value: 'a '}", ""),
        ("[{claim: sub}, ' a']", ""),
        ("{concat: [' ', {claim: sub}]}", ""),
        ("{concat: [{claim: sub}, ' ']}", ""),
        ("[other, {claim: sub}]", "[1]"),
        ("{header: host}", ".header"),
    ] {
        let yaml =
            format!("rules: [{{effect: {{allow: {{set_request_headers: {{x-a: {value}}}}}}}}}]");
        let (path, message) = refusal(&yaml);
        let expected = format!("rules[0].effect.allow.set_request_headers.x-a{place}");
        assert_eq!(path, expected, "{value}: {message}");
    }
    let (path, _) = refusal(
        "rules: [{effect: {allow: {set_request_headers: {x-a: a}, remove_request_headers: [X_A]}}}]",
    );
    assert_eq!(path, "rules[0].effect.allow.remove_request_headers[0]");
}

#[test]
fn more_headers_than_one_answer_may_change_are_refused() {
    let rule = |n: usize| {
        let set = serde_json::json!({format!("x-{n}"): "a"});
        serde_json::json!({
            "match": {"path_templates": [format!("/{n}")]},
            "effect": {"allow": {"set_request_headers": set}},
        })
    };
    let list = |count| {
        let rules: Vec<_> = (0..count).map(rule).collect();
        Rules::configure(&serde_json::json!({"rules": rules}).to_string()).map(|_| ())
    };
    list(100).unwrap();
    let Err(SettingsError::Invalid(problem)) = list(101) else { panic!("is accepted") };
    assert_eq!(problem.path, "rules");
}

#[test]
fn text_that_is_not_json_is_refused() {
    assert!(matches!(Rules::configure("rules: []"), Err(SettingsError::Syntax(_))));
    let deep = "[".repeat(100_000);
    assert!(matches!(Rules::configure(&deep), Err(SettingsError::Syntax(_))));
}

proptest! {
    #[test]
    fn no_settings_panic(text in r#"[{}\[\]":,a-z* /]{0,60}"#) {
        let _ = Rules::configure(&text);
    }
}
