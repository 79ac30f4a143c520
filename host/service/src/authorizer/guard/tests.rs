//! Tests of what the guard lets through, and what it refuses.

use proptest::prelude::*;

use super::*;

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}

fn setting(headers: &[(&str, &str)]) -> Allow {
    Allow {
        set_request_headers: headers.iter().map(|(name, value)| header(name, value)).collect(),
        ..Allow::default()
    }
}

fn identity(entries: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
    let owned =
        |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
    entries.iter().map(owned).collect()
}

fn responding(headers: &[(&str, &str)]) -> Allow {
    Allow {
        response_headers: headers.iter().map(|(name, value)| header(name, value)).collect(),
        ..Allow::default()
    }
}

fn denying(status: u16, body: &str, headers: &[(&str, &str)]) -> Deny {
    Deny {
        status,
        body: body.to_owned(),
        headers: headers.iter().map(|(name, value)| header(name, value)).collect(),
        metadata: Vec::new(),
    }
}

#[test]
fn an_identity_header_without_value_is_removed() {
    for value in [None, Some(""), Some(" \t")] {
        let allow = allow(Allow::default(), identity(&[("x-auth-provider", value)])).unwrap();
        assert_eq!(allow.set_request_headers, []);
        assert_eq!(allow.remove_request_headers, ["x-auth-provider"]);
    }
}

#[test]
fn the_hosts_identity_headers_win_over_the_policys() {
    let mut wanted = setting(&[("X-User-Id", "forged")]);
    wanted.remove_request_headers = vec!["x-user-id".to_owned()];
    let allow = allow(wanted, identity(&[("x-user-id", Some("u1"))])).unwrap();
    assert_eq!(allow.set_request_headers, [header("x-user-id", "u1")]);
    assert_eq!(allow.remove_request_headers, Vec::<String>::new());
}

#[test]
fn a_policy_cannot_set_an_identity_header_that_the_token_lacks() {
    let wanted = setting(&[("x-user-id", "forged")]);
    let allow = allow(wanted, identity(&[("x-user-id", None)])).unwrap();
    assert_eq!(allow.set_request_headers, []);
    assert_eq!(allow.remove_request_headers, ["x-user-id"]);
}

#[test]
fn headers_that_redirect_or_reframe_a_request_are_refused() {
    for name in [
        ":path",
        ":authority",
        "host",
        "Host",
        "connection",
        "Transfer-Encoding",
        "te",
        "content-length",
        "upgrade",
        "x-envoy-auth-headers-to-remove",
        "X-Envoy-Auth-Partial-Body",
        "",
        "x y",
        "x\r\ny",
        "é",
    ] {
        let wanted = setting(&[(name, "v")]);
        assert!(allow(wanted, identity(&[])).is_err(), "set {name}");
        let wanted = Allow { remove_request_headers: vec![name.to_owned()], ..Allow::default() };
        assert!(allow(wanted, identity(&[])).is_err(), "remove {name}");
        assert!(deny(denying(403, "", &[(name, "v")])).is_err(), "deny {name}");
        assert!(allow(responding(&[(name, "v")]), identity(&[])).is_err(), "respond {name}");
    }
}

#[test]
fn envoys_own_headers_of_the_request_are_refused_in_every_spelling() {
    for name in [
        "x-envoy-foo",
        "X-Envoy-Retry-On",
        "x-envoy-upstream-rq-timeout-ms",
        "x-envoy",
        "x-envoyfoo",
        "x_envoy_original_path",
        "x.envoy-foo",
    ] {
        assert!(allow(setting(&[(name, "v")]), identity(&[])).is_err(), "set {name}");
        assert!(allow(setting(&[(name, "")]), identity(&[])).is_err(), "set nothing {name}");
        let wanted = Allow { remove_request_headers: vec![name.to_owned()], ..Allow::default() };
        assert!(allow(wanted, identity(&[])).is_err(), "remove {name}");
        assert!(!is_identity_name(name), "{name}");
    }
    for name in ["x-env", "x-env-oy", "my-x-envoy-a"] {
        allow(setting(&[(name, "v")]), identity(&[])).unwrap();
        assert!(is_identity_name(name), "{name}");
    }
    // To a client they are headers like any other, apart from those of the protocol.
    deny(denying(403, "", &[("x-envoy-overloaded", "true")])).unwrap();
    allow(responding(&[("x-envoy-overloaded", "true")]), identity(&[])).unwrap();
    assert!(is_response_name("x-envoy-overloaded") && !is_response_name("x-envoy-auth-a"));
}

#[test]
fn line_breaks_in_a_claim_deny_the_request() {
    for value in ["a\r\nx-admin: 1", "a\nb", "a\0", "\u{85}"] {
        let result = allow(Allow::default(), identity(&[("x-user-id", Some(value))]));
        assert_eq!(result, Err(UnsafeDecision::Value("x-user-id".to_owned())), "{value:?}");
    }
}

#[test]
fn the_size_of_what_is_added_is_capped() {
    let wanted = setting(&[("x-a", &"a".repeat(MAX_HEADER_BYTES))]);
    assert_eq!(allow(wanted, identity(&[])), Err(UnsafeDecision::TooLarge));
}

#[test]
fn so_is_the_size_of_what_is_removed_of_the_query_and_of_responses() {
    let texts = |count: usize| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>();
    let pairs = |count| texts(count).into_iter().map(|key| (key, String::new())).collect();
    let headers = |count| texts(count).iter().map(|name| header(name, "v")).collect::<Vec<_>>();
    let of = |count| {
        [
            Allow { remove_query_parameters: texts(count), ..Allow::default() },
            Allow { set_query_parameters: pairs(count), ..Allow::default() },
            Allow { set_request_headers: headers(count), ..Allow::default() },
            Allow { response_headers: headers(count), ..Allow::default() },
            Allow { remove_request_headers: texts(count), ..Allow::default() },
        ]
    };
    for wanted in of(MAX_HEADERS) {
        allow(wanted, identity(&[])).unwrap();
    }
    for mut wanted in of(MAX_HEADERS + 1) {
        assert_eq!(allow(wanted.clone(), identity(&[])), Err(UnsafeDecision::TooLarge));
        let headers = std::mem::take(&mut wanted.response_headers);
        let answer = Deny { headers, ..denying(403, "", &[]) };
        assert_eq!(deny(answer.clone()).is_err(), !answer.headers.is_empty());
    }
    let long = "a".repeat(MAX_HEADER_BYTES + 1);
    let wanted = Allow { remove_query_parameters: vec![long.clone()], ..Allow::default() };
    assert_eq!(allow(wanted, identity(&[])), Err(UnsafeDecision::TooLarge));
    assert_eq!(deny(denying(403, "", &[("x", &long)])), Err(UnsafeDecision::TooLarge));
    let full = setting(&[("x-a", &"a".repeat(MAX_HEADER_BYTES - 5))]);
    let result = allow(full, identity(&[("x-user-id", Some("u1"))]));
    assert_eq!(result, Err(UnsafeDecision::TooLarge), "identity headers count too");
}

#[test]
fn an_answer_that_has_no_body_by_its_status_gets_none() {
    for status in [204, 205, 304] {
        let answer = denying(status, "x", &[("Content-Type", "a/b"), ("x-own", "kept")]);
        let denied = deny(answer).unwrap();
        assert_eq!((denied.body.as_str(), denied.headers), ("", vec![header("x-own", "kept")]));
    }
    for status in [200, 206, 302, 403, 500] {
        let answer = denying(status, "x", &[("content-type", "a/b")]);
        assert_eq!(deny(answer.clone()).unwrap(), answer);
    }
}

#[test]
fn metadata_is_bounded_for_allows_and_denies() {
    let deep = (0..17).fold(serde_json::json!(1), |inner, _| serde_json::json!({"a": inner}));
    let metadata = vec![("a".to_owned(), deep)];
    let answer = Deny { metadata: metadata.clone(), ..denying(403, "", &[]) };
    assert!(matches!(deny(answer), Err(UnsafeDecision::Metadata(_))));
    let wanted = Allow { metadata, ..Allow::default() };
    assert!(matches!(allow(wanted, identity(&[])), Err(UnsafeDecision::Metadata(_))));
}

#[test]
fn a_response_header_has_no_name_that_the_request_relies_on() {
    let mut wanted = responding(&[("x-user-id", "u1")]);
    for own in [&[("x-user-id", None)], &[("x-user-id", Some("u1"))], &[("x_user_id", None)]] {
        let refused = allow(wanted.clone(), identity(own));
        assert_eq!(refused, Err(UnsafeDecision::ResponseName("x-user-id".to_owned())));
    }
    allow(wanted.clone(), identity(&[("x-other", None)])).unwrap();
    wanted.set_request_headers = vec![header("X-User-Id", "u1")];
    assert!(allow(wanted.clone(), identity(&[])).is_err());
    wanted.set_request_headers.clear();
    wanted.remove_request_headers = vec!["x-user-id".to_owned()];
    assert!(allow(wanted, identity(&[])).is_err());
}

#[test]
fn response_headers_of_one_name_are_joined_except_for_cookies() {
    let twice = [("Vary", "a"), ("set-cookie", "a=1"), ("vary", "b"), ("set-cookie", "b=2")];
    let expected =
        [header("vary", "a, b"), header("set-cookie", "a=1"), header("set-cookie", "b=2")];
    assert_eq!(allow(responding(&twice), identity(&[])).unwrap().response_headers, expected);
    assert_eq!(deny(denying(403, "", &twice)).unwrap().headers, expected);
}

#[test]
fn a_policy_cannot_set_an_identity_header_in_another_spelling() {
    let wanted = setting(&[("x_user_id", "forged"), ("x.user-id", "forged")]);
    let allow = allow(wanted, identity(&[("x-user-id", Some("u1"))])).unwrap();
    assert_eq!(allow.set_request_headers, [header("x-user-id", "u1")]);
}

#[test]
fn two_headers_that_a_server_takes_for_one_are_refused() {
    let wanted = setting(&[("x-a", "1"), ("x_a", "2")]);
    let expected = UnsafeDecision::Alike("x-a".to_owned(), "x_a".to_owned());
    assert_eq!(allow(wanted, identity(&[])), Err(expected));
    let twice = setting(&[("x-a", "1"), ("X-A", "2")]);
    let allow = allow(twice, identity(&[])).unwrap();
    assert_eq!(allow.set_request_headers, [header("x-a", "2")]);
}

#[test]
fn a_value_that_would_be_trimmed_is_refused_and_an_empty_one_removes() {
    for value in [" a", "a ", "\ta", "a\t"] {
        let refused = allow(setting(&[("x-a", value)]), identity(&[]));
        assert_eq!(refused, Err(UnsafeDecision::Blank("x-a".to_owned())), "{value:?}");
    }
    for value in ["", " ", "\t"] {
        let allow = allow(setting(&[("x-a", value)]), identity(&[])).unwrap();
        assert_eq!(
            (allow.set_request_headers.len(), allow.remove_request_headers.as_slice()),
            (0, &["x-a".to_owned()] as &[_])
        );
    }
}

#[test]
fn a_refused_query_parameter_is_told_by_its_key_alone() {
    for (key, value, shown) in [("k", "hush\n", "k"), ("a\n", "", "a\n"), ("", "hush", "")] {
        let pair = (key.to_owned(), value.to_owned());
        let wanted = Allow { set_query_parameters: vec![pair], ..Allow::default() };
        let refused = allow(wanted, identity(&[]));
        assert_eq!(refused, Err(UnsafeDecision::Query(shown.to_owned())));
    }
    let wanted = Allow { remove_query_parameters: vec![String::new()], ..Allow::default() };
    assert_eq!(allow(wanted, identity(&[])), Err(UnsafeDecision::Query(String::new())));
}

#[test]
fn a_status_that_is_no_answer_is_refused() {
    for status in [0, 100, 101, 199, 600, 999] {
        assert_eq!(deny(denying(status, "", &[])), Err(UnsafeDecision::Status(status)));
    }
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x-user-id".to_owned()),
        Just("x_user-id".to_owned()),
        Just("X-Role".to_owned()),
        "[a-zA-Z:_-]{1,8}",
    ]
}

proptest! {
    #[test]
    fn every_allow_that_passes_is_safe(
        set in prop::collection::vec((name(), ".{0,6}"), 0..6),
        remove in prop::collection::vec(name(), 0..6),
        identity in prop::option::of("[a-z]{0,4}"),
    ) {
        let wanted = Allow {
            set_request_headers: set.into_iter().map(|(name, value)| Header { name, value }).collect(),
            remove_request_headers: remove,
            ..Allow::default()
        };
        let known = identity.clone();
        let result = allow(wanted, vec![("x-user-id".to_owned(), identity)]);
        let Ok(allow) = result else { return Ok(()) };
        let set: Vec<_> = allow.set_request_headers.iter().map(|h| h.name.clone()).collect();
        let unique: BTreeSet<_> = set.iter().collect();
        prop_assert_eq!(unique.len(), set.len(), "a name is set twice");
        for name in &set {
            prop_assert!(!allow.remove_request_headers.contains(name), "set and removed");
            prop_assert_eq!(name, &name.to_lowercase());
            prop_assert!(!name.starts_with(':') && is_end_to_end(name));
        }
        for header in &allow.set_request_headers {
            prop_assert!(!header.value.contains(['\r', '\n', '\0']));
            prop_assert_eq!(header.value.trim_matches(BLANK), &header.value);
            prop_assert!(!header.value.is_empty());
            let alike = set.iter().filter(|name| fold_alike(name, &header.name));
            prop_assert_eq!(alike.count(), 1, "two headers that are one");
        }
        let sent = allow.set_request_headers.iter().find(|h| h.name == "x-user-id");
        prop_assert_eq!(
            sent.map(|header| header.value.clone()),
            known.filter(|value| !value.is_empty())
        );
        prop_assert!(sent.is_some() || allow.remove_request_headers.contains(&"x-user-id".to_owned()));
    }
}
