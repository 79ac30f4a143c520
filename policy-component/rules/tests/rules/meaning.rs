//! What the conditions and effects mean, one rule at a time.

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
        ("{hosts: ['*.example.com']}", "{host: example.com}", false),
        ("{hosts: ['*.example.com']}", "{host: evilexample.com}", false),
        ("{paths: ['/a/**'], not_paths: ['/a/b']}", "{path: /a/c}", true),
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
                   tier: 2, beta: true, gone: null, 'https://x.y/z': {a: [1]}}}}";
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
    assert!(matches(not_own, "{path: /u/b}"), "nobody is not the owner");

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
    let effect = "{set_request_headers: {a: {claim: list}, b: {claim: odd}, c: {claim: count}, \
                  d: {claim: o}, e: {claim: t}}}";
    let request =
        "{identity: {claims: {list: [one, two], odd: ['one,two'], count: 7, o: {k: 1}, t: true}}}";
    let allowed = allowed(effect, request);
    let values: Vec<_> = allowed.set_request_headers.iter().map(|h| h.value.as_str()).collect();
    assert_eq!(values, ["one,two", "7", "{\"k\":1}", "true"]);
    assert_eq!(allowed.remove_request_headers, ["b"], "a comma would make two elements of one");
}

#[test]
fn the_first_rule_that_matches_decides() {
    let settings = "rules: [{match: {paths: [/a]}, effect: deny}, {match: {paths: ['/**']}, \
                    effect: allow}, {name: late, match: {paths: [/b]}, effect: deny}]";
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
