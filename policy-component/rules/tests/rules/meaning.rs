//! Tests of conditions and effects: what they mean, one rule at a time.

use portcullis_policy::{Allowed, Decision, Policy};
use portcullis_rules::Rules;

use crate::case::CaseRequest;

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

fn decide(settings: &str, request: &str) -> Decision {
    let settings: serde_json::Value = yaml(settings);
    let (rules, manifest) = Rules::configure(&settings.to_string()).unwrap();
    let request: CaseRequest = yaml(request);
    rules.evaluate(&request.seen_through(&manifest)).unwrap()
}

/// Whether a request matches a block of conditions.
fn matches(conditions: &str, request: &str) -> bool {
    let settings = format!("rules: [{{match: {conditions}, effect: allow}}]");
    matches!(decide(&settings, request), Decision::Allow(_))
}

fn allowed(effect: &str, request: &str) -> Allowed {
    match decide(&format!("rules: [{{effect: {{allow: {effect}}}}}]"), request) {
        Decision::Allow(allowed) => allowed,
        Decision::Deny(denied) => panic!("{denied:?}"),
    }
}

#[test]
fn conditions_match_what_they_name() {
    for (conditions, request, expected) in [
        ("{methods: [GET, HEAD]}", "{method: HEAD}", true),
        ("{methods: [GET, HEAD]}", "{method: POST}", false),
        ("{hosts: ['*.example.com']}", "{host: a.b.example.com}", true),
        ("{hosts: ['*.Example.com']}", "{host: a.example.com}", true),
        ("{hosts: ['*.example.com']}", "{host: example.com}", false),
        ("{hosts: ['*.example.com']}", "{host: evilexample.com}", false),
        ("{path_templates: ['/a/**'], not_paths: ['/a/b']}", "{path: /a/c}", true),
        ("{paths: ['/a/**'], not_paths: ['/a/b']}", "{path: /a/b}", false),
        ("{not_paths: ['/a/**']}", "{path: ''}", false),
        ("{identity: required}", "{identity: {}}", true),
        ("{identity: required}", "{path: /}", false),
        ("{identity: absent}", "{path: /}", true),
        ("{identity: absent}", "{identity: {}}", false),
        ("{scopes: [a, b]}", "{identity: {scopes: [b, c, a]}}", true),
        ("{scopes: [a, b]}", "{identity: {scopes: [a]}}", false),
        ("{headers: [{name: x, prefix: 'v1.'}]}", "{headers: {x: v1.2}}", true),
        ("{headers: [{name: x, one_of: [a, b]}]}", "{headers: {x: 'a,b'}}", false),
        ("{headers: [{name: x, present: false}]}", "{headers: {x: ''}}", false),
        ("{context: {a: b}}", "{context: {a: b, c: d}}", true),
        ("{context: {a: b}}", "{context: {c: d}}", false),
        ("{source_principals: ['spiffe://x/*']}", "{source: {principal: spiffe://x/y}}", true),
        ("{source_principals: ['*']}", "{source: {principal: ''}}", false),
    ] {
        assert_eq!(matches(conditions, request), expected, "{conditions} {request}");
    }
}

#[test]
fn claims_are_found_by_path_and_compared_by_type() {
    let request = "{identity: {subject: u1, claims: {realm_access: {roles: [admin, user]}, \
                   tier: 2, beta: true, gone: null, 'https://x.y/z': {a: [1]}, blank: ' u1', \
                   large: 18446744073709551615}}}";
    for (claim, expected) in [
        ("{claim: sub, one_of: [u1, u2]}", true),
        ("{claim: realm_access.roles, contains: admin}", true),
        ("{claim: realm_access.roles, contains: adm}", false),
        ("{claim: realm_access.roles, equals: admin}", false),
        ("{claim: realm_access, present: true}", true),
        ("{claim: tier, equals: 2}", true),
        ("{claim: tier, equals: '2'}", false),
        ("{claim: beta, equals: true}", true),
        ("{claim: gone, present: true}", false),
        ("{claim: missing.deep, present: false}", true),
        ("{claim: ['https://x.y/z', a], contains: 1}", true),
        (r"{claim: 'https://x\.y/z.a', contains: 1}", true),
        (r"{claim: realm_access\.roles, present: true}", false),
        ("{claim: blank, equals: ' u1'}", true),
        ("{claim: blank, equals: u1}", false),
        ("{claim: large, equals: 18446744073709551615}", true),
        ("{claim: large, equals: '18446744073709551615'}", false),
    ] {
        assert_eq!(matches(&format!("{{claims: [{claim}]}}"), request), expected, "{claim}");
    }
}

#[test]
fn a_path_segment_is_compared_with_a_claim() {
    let own = "{paths: ['/u/{id}', '/v1/u/{id}/**'], path_segment: {name: id, equals_claim: sub}}";
    let number = "{paths: ['/u/{id}'], path_segment: {name: id, equals_claim: uid}}";
    let list = "{paths: ['/u/{id}'], path_segment: {name: id, in_claim: ids}}";
    for (conditions, request, expected) in [
        (own, "{path: /u/a, identity: {subject: a}}", true),
        (own, "{path: /v1/u/a/b, identity: {subject: a}}", true),
        (own, "{path: /v1/u/b/a, identity: {subject: a}}", false),
        (own, "{path: /u/a, identity: {}}", false),
        (own, "{path: /u/a}", false),
        (number, "{path: /u/7, identity: {claims: {uid: 7}}}", true),
        (number, "{path: /u/07, identity: {claims: {uid: 7}}}", false),
        (list, "{path: /u/b, identity: {claims: {ids: [a, b]}}}", true),
        (list, "{path: /u/c, identity: {claims: {ids: [a, b]}}}", false),
    ] {
        assert_eq!(matches(conditions, request), expected, "{conditions} {request}");
    }
}

#[test]
fn blocks_nest_and_see_the_segments_around_them() {
    let not_own = "{paths: ['/u/{id}'], not: {path_segment: {name: id, equals_claim: sub}}}";
    assert!(!matches(not_own, "{path: /u/a, identity: {subject: a}}"));
    assert!(matches(not_own, "{path: /u/b, identity: {subject: a}}"));
    assert!(matches(not_own, "{path: /u/b}"), "a request without identity is not the owner's");

    let either = "{any: [{methods: [GET]}, {all: [{scopes: [w]}, {methods: [PUT]}]}]}";
    assert!(matches(either, "{method: GET}"));
    assert!(matches(either, "{method: PUT, identity: {scopes: [w]}}"));
    assert!(!matches(either, "{method: PUT, identity: {}}"));
}

#[test]
fn a_claim_prefix_can_be_held_to_whole_segments() {
    let text = "{claim_prefixes_path: {claim: area}}";
    let whole = "{claim_prefixes_path: {claim: area, whole_segments: true}}";
    for (area, path, as_text, as_segments) in [
        ("/a", "/a", true, true),
        ("/a", "/a/b", true, true),
        ("/a", "/ab", true, false),
        ("/a/", "/a/b", true, true),
        ("/a/b", "/a", false, false),
        ("a", "/a", false, false),
    ] {
        let request = format!("{{path: {path}, identity: {{claims: {{area: {area}}}}}}}");
        assert_eq!(matches(text, &request), as_text, "{area} {path}");
        assert_eq!(matches(whole, &request), as_segments, "{area} {path}");
    }
}

#[test]
fn a_header_without_a_value_is_removed_rather_than_empty() {
    let effect = "{set_request_headers: {X-A: {claim: a}, x-b: [{claim: a}, {header: b}], \
                  x-c: [{claim: a}, none], x-d: {concat: [x, {claim: a}]}}, \
                  response_headers: {x-e: {claim: a}}}";
    let allowed = allowed(effect, "{headers: {b: ''}, identity: {claims: {a: ''}}}");
    assert_eq!(allowed.remove_request_headers, ["x-a", "x-b", "x-d"]);
    assert_eq!(allowed.set_request_headers.len(), 1);
    assert_eq!(allowed.set_request_headers[0].name, "x-c");
    assert_eq!(allowed.set_request_headers[0].value, "none");
    assert!(allowed.response_headers.is_empty());
}

#[test]
fn claims_of_every_type_become_text() {
    for (claim, expected) in [
        ("text", Some("text")),
        ("'a b'", Some("a b")),
        ("[one, two]", Some("one,two")),
        ("7", Some("7")),
        ("-9223372036854775808", Some("-9223372036854775808")),
        ("18446744073709551615", Some("18446744073709551615")),
        ("true", Some("true")),
        // What the upstream would read as something else has no value.
        ("' admin'", None),
        ("'admin '", None),
        ("\"admin\\t\"", None),
        ("\"admin\\u00a0\"", None),
        ("['one,two']", None),
        ("[staff, 'x,admin']", None),
        ("[one, '']", None),
        ("[one, ' two']", None),
        ("[]", None),
        ("''", None),
        ("1.5", None),
        ("18446744073709551616", None),
        ("{k: 1}", None),
        ("[1, a]", None),
        ("null", None),
    ] {
        let request = format!("{{identity: {{claims: {{c: {claim}}}}}}}");
        let allowed = allowed("{set_request_headers: {x-a: {claim: c}}}", &request);
        let value = allowed.set_request_headers.first().map(|header| header.value.as_str());
        assert_eq!(value, expected, "{claim}");
        // The client's own must not take its place.
        assert_eq!(allowed.remove_request_headers.is_empty(), expected.is_some(), "{claim}");
    }
}

#[test]
fn a_source_without_a_sound_value_gives_way_to_the_next() {
    let effect = "{set_request_headers: {x-a: [{claim: a}, {claim: b}, none]}}";
    for (claims, expected) in
        [("{a: ' p', b: q}", "q"), ("{a: p, b: q}", "p"), ("{a: 1.5, b: [a, 'b,c']}", "none")]
    {
        let allowed = allowed(effect, &format!("{{identity: {{claims: {claims}}}}}"));
        assert_eq!(allowed.set_request_headers[0].value, expected, "{claims}");
    }
    let effect = "{set_request_headers: {x-a: {concat: ['<', {claim: a}, '>']}}}";
    let allowed = allowed(effect, "{identity: {claims: {a: ' x '}}}");
    assert_eq!(allowed.set_request_headers[0].value, "< x >", "blanks inside are kept");
}

#[test]
fn an_allow_removes_what_other_rules_set() {
    let settings = "rules:
      - match: {path_templates: [/a]}
        effect: {allow: {set_request_headers: {X-User: {claim: sub}, x-a: a}}}
      - match: {path_templates: [/b]}
        effect: {allow: {set_request_headers: {x-b: b}, remove_request_headers: [x-a, x-c]}}
      - match: {path_templates: [/c]}
        effect: deny
      - effect: allow";
    for (path, set, removed) in [
        ("/a", vec!["x-a"], vec!["x-b", "x-user"]),
        ("/b", vec!["x-b"], vec!["x-a", "x-c", "x-user"]),
        ("/d", vec![], vec!["x-a", "x-b", "x-user"]),
    ] {
        let request = format!("{{path: {path}, headers: {{x-user: root}}}}");
        let Decision::Allow(mut allowed) = decide(settings, &request) else { panic!("{path}") };
        allowed.remove_request_headers.sort();
        let names: Vec<_> = allowed.set_request_headers.iter().map(|h| h.name.as_str()).collect();
        assert_eq!(names, set, "{path}");
        assert_eq!(allowed.remove_request_headers, removed, "{path}");
    }
    assert!(matches!(decide(settings, "{path: /c}"), Decision::Deny(_)));
}

#[test]
fn an_answer_without_a_body_by_its_status_has_none() {
    for (status, body) in
        [(204, ""), (205, ""), (304, ""), (403, "access denied"), (200, "access denied")]
    {
        let settings = format!("rules: [{{effect: {{deny: {{status: {status}}}}}}}]");
        let Decision::Deny(denied) = decide(&settings, "{path: /}") else { panic!("{status}") };
        assert_eq!(denied.body, body, "{status}");
    }
}

#[test]
fn a_segment_with_an_encoded_slash_agrees_with_the_claim_that_has_a_slash() {
    let own = "{path_templates: ['/repos/{repo}/**'], \
               path_segment: {name: repo, equals_claim: repo}}";
    let list = "{path_templates: ['/repos/{repo}/**'], \
                path_segment: {name: repo, in_claim: repos}}";
    for (path, claim, expected) in [
        ("/repos/group%2Fproject", "group/project", true),
        ("/repos/group%2Fproject/x", "group/project", true),
        ("/repos/group%2Fproject", "group%2Fproject", false),
        ("/repos/group/project", "group/project", false),
        ("/repos/a%252Fb", "a%2Fb", true),
        ("/repos/a%252Fb", "a/b", false),
        ("/repos/caf%E9", "caf%E9", false),
        ("/repos/100%", "100%", true),
    ] {
        let request = |claims: &str| format!("{{path: '{path}', identity: {{claims: {claims}}}}}");
        let one = request(&format!("{{repo: '{claim}'}}"));
        assert_eq!(matches(own, &one), expected, "{path} {claim}");
        let many = request(&format!("{{repos: [x, '{claim}']}}"));
        assert_eq!(matches(list, &many), expected, "{path} {claim}");
    }
}

#[test]
fn a_slash_at_the_end_counts_where_the_configuration_says_so() {
    let decide = |options: &str, template: &str, path: &str| {
        let settings = format!(
            "{{{options}rules: [{{match: {{path_templates: ['{template}']}}, effect: allow}}]}}"
        );
        matches!(decide(&settings, &format!("{{path: '{path}'}}")), Decision::Allow(_))
    };
    let distinct = "paths: {trailing_slash: distinct}, ";
    for (template, path, ignored, distinguished) in [
        ("/users", "/users", true, true),
        ("/users", "/users/", true, false),
        ("/users/**", "/users/", true, true),
        ("/users/*", "/users/", false, false),
    ] {
        assert_eq!(decide("", template, path), ignored, "{template} {path}");
        let ignore = "paths: {trailing_slash: ignore}, ";
        assert_eq!(decide(ignore, template, path), ignored, "{template} {path}");
        assert_eq!(decide(distinct, template, path), distinguished, "{template} {path}");
    }
    assert!(decide(distinct, "/users/", "/users/"));
    assert!(!decide(distinct, "/users/", "/users"));
}

#[test]
fn where_case_does_not_count_a_claim_still_does_by_its_case_unless_told_otherwise() {
    let decide = |condition: &str, request: &str| {
        let settings = format!(
            "{{paths: {{ignore_case: true}}, rules: [{{match: {{path_templates: \
             ['/Users/{{id}}/**'], {condition}}}, effect: allow}}]}}"
        );
        matches!(decide(&settings, request), Decision::Allow(_))
    };
    let exact = "path_segment: {name: id, equals_claim: sub}";
    let loose = "path_segment: {name: id, equals_claim: sub, ignore_case: true}";
    let list = "path_segment: {name: id, in_claim: ids, ignore_case: true}";
    let prefix = "claim_prefixes_path: {claim: area}";
    let alice = "{subject: alice, claims: {ids: [x, ALICE], area: /USERS/Alice}}";
    for (condition, raw, expected) in [
        (exact, "/users/alice", true),
        (exact, "/USERS/alice/x?q=Alice", true),
        (exact, "/users/Alice", false),
        (exact, "/users/%41lice", false),
        (exact, "/users/%61lice", true),
        (loose, "/users/Alice", true),
        (loose, "/users/alicf", false),
        (list, "/users/Alice", true),
        (prefix, "/USERS/Alice/x", true),
        (prefix, "/users/Alice/x", false),
    ] {
        let path = raw.split('?').next().unwrap().replace("%41", "a").replace("%61", "a");
        let path = path.to_lowercase();
        let request = format!("{{path: {path}, raw_path: '{raw}', identity: {alice}}}");
        assert_eq!(decide(condition, &request), expected, "{condition} {raw}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let settings = "rules: [{match: {paths: [/a]}, effect: deny}, {match: {methods: [GET], \
                    paths: ['/**']}, effect: allow}, {name: late, match: {paths: [/b]}, effect: deny}]";
    assert!(matches!(decide(settings, "{path: /a}"), Decision::Deny(_)));
    assert!(matches!(decide(settings, "{path: /b}"), Decision::Allow(_)));
}

#[test]
fn a_deny_says_which_rule_it_was() {
    let reason = |effect: &str| match decide(&format!("rules: [{effect}]"), "{path: /}") {
        Decision::Deny(denied) => (denied.status, denied.reason, denied.body),
        Decision::Allow(allowed) => panic!("{allowed:?}"),
    };
    let expected = |status, reason: &str, body: &str| (status, reason.into(), body.into());
    assert_eq!(reason("{effect: deny}"), expected(403, "denied-by-rule", "access denied"));
    assert_eq!(reason("{name: own, effect: deny}"), expected(403, "own", "access denied"));
    assert_eq!(
        reason("{name: own, effect: {deny: {status: 404, reason: r, body: gone}}}"),
        expected(404, "r", "gone")
    );
    assert_eq!(
        reason("{match: {paths: [/x]}, effect: allow}"),
        expected(403, "no-rule-matches", "access denied")
    );
}
