//! Tests of what decisions become on the wire.

use portcullis_types::{
    attributes::{Headers, HttpAttributes},
    decision::Reason,
};
use proptest::prelude::*;
use serde_json::json;

use super::{readable, *};
use crate::authorizer::guard_verdict;

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned() }
}

/// Name, value, the old and the new way to say whether to append.
fn headers_of(
    options: &[HeaderValueOption],
) -> Vec<(String, String, Option<bool>, HeaderAppendAction)> {
    let headers_of = |option: &HeaderValueOption| {
        let header = option.header.clone().unwrap();
        #[expect(deprecated, reason = "old Envoys read it")]
        let append = option.append.map(|append| append.value);
        (header.key, header.value, append, option.append_action())
    };
    options.iter().map(headers_of).collect()
}

fn ok(allow: Allow) -> OkHttpResponse {
    let decision = Decision::new(Verdict::Allow(allow), Reason::Allowed);
    match check_response(decision).http_response {
        Some(HttpResponse::OkResponse(ok)) => ok,
        other => panic!("{other:?}"),
    }
}

fn denied(deny: Deny) -> DeniedHttpResponse {
    let decision = Decision::new(Verdict::Deny(deny), Reason::PolicyDenied);
    match check_response(decision).http_response {
        Some(HttpResponse::DeniedResponse(denied)) => denied,
        other => panic!("{other:?}"),
    }
}

const SET: (Option<bool>, HeaderAppendAction) =
    (Some(false), HeaderAppendAction::OverwriteIfExistsOrAdd);
const APPEND: (Option<bool>, HeaderAppendAction) =
    (Some(true), HeaderAppendAction::AppendIfExistsOrAdd);

#[test]
fn request_headers_always_replace_the_clients() {
    let headers = ["x-user-id", "set-cookie"].map(|name| header(name, "v"));
    let ok = ok(Allow { set_request_headers: headers.to_vec(), ..Allow::default() });
    for (name, _, append, action) in headers_of(&ok.headers) {
        assert_eq!((append, action), SET, "{name}");
    }
}

#[test]
fn cookies_stand_beside_each_other_and_other_response_headers_replace() {
    let headers = vec![header("set-cookie", "a"), header("set-cookie", "b"), header("x", "y")];
    let expected = [
        ("set-cookie".to_owned(), "a".to_owned(), APPEND.0, APPEND.1),
        ("set-cookie".to_owned(), "b".to_owned(), APPEND.0, APPEND.1),
        ("x".to_owned(), "y".to_owned(), SET.0, SET.1),
    ];
    let ok = ok(Allow { response_headers: headers.clone(), ..Allow::default() });
    assert_eq!(headers_of(&ok.response_headers_to_add), expected);
    let deny = Deny { headers, ..Deny::for_reason(Reason::PolicyDenied) };
    assert_eq!(headers_of(&denied(deny).headers), expected);
}

#[test]
fn everything_an_allow_says_is_passed_on() {
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let ok = ok(Allow {
        remove_request_headers: vec!["x-spoof".to_owned()],
        set_query_parameters: vec![pair("k", "v")],
        remove_query_parameters: vec!["x".to_owned()],
        ..Allow::default()
    });
    assert_eq!(ok.headers_to_remove, ["x-spoof"]);
    assert_eq!(
        ok.query_parameters_to_set,
        [QueryParameter { key: "k".to_owned(), value: "v".to_owned() }]
    );
    assert_eq!(ok.query_parameters_to_remove, ["x"]);
}

#[test]
fn metadata_is_a_structure() {
    let values = json!({ "a": [1, true, null, "s", { "b": 0.5 }] });
    let metadata = vec![("m".to_owned(), values)];
    let allow = Allow { metadata, ..Allow::default() };
    let decision = Decision::new(Verdict::Allow(allow), Reason::Allowed);
    let sent = check_response(decision).dynamic_metadata.unwrap();
    let Some(Kind::StructValue(sent)) = sent.fields["m"].kind.clone() else { panic!() };
    let Some(Kind::ListValue(list)) = sent.fields["a"].kind.clone() else { panic!() };
    assert_eq!(list.values[0].kind, Some(Kind::NumberValue(1.0)));
    assert_eq!(list.values[3].kind, Some(Kind::StringValue("s".to_owned())));
}

#[test]
fn a_number_that_a_float_cannot_hold_arrives_with_its_digits() {
    const EXACT: u64 = 1 << 53;
    for (number, expected) in [
        (json!(EXACT), Kind::NumberValue(9_007_199_254_740_992.0)),
        (json!(-9_007_199_254_740_992_i64), Kind::NumberValue(-9_007_199_254_740_992.0)),
        (json!(EXACT + 1), Kind::StringValue("9007199254740993".to_owned())),
        (json!(i64::MIN + 1), Kind::StringValue("-9223372036854775807".to_owned())),
        (json!(u64::MAX), Kind::StringValue("18446744073709551615".to_owned())),
        (json!(0.1), Kind::NumberValue(0.1)),
    ] {
        assert_eq!(value(number.clone()).kind, Some(expected), "{number}");
    }
}

#[test]
fn a_status_that_envoy_does_not_know_becomes_forbidden() {
    for (status, expected) in [
        (204, 204),
        (302, 302),
        (401, 401),
        (429, 429),
        (500, 500),
        (0, 403),
        (100, 403),
        (299, 403),
        (418, 403),
        (599, 403),
        (1000, 403),
    ] {
        let deny = Deny { status, ..Deny::for_reason(Reason::PolicyDenied) };
        assert_eq!(denied(deny).status.unwrap().code, expected, "{status}");
    }
}

#[test]
fn a_message_has_the_prefix_that_grpc_wants() {
    let response = check_response(Decision::deny(Reason::MissingToken));
    let bytes = message(&response);
    assert_eq!(bytes[0], 0);
    assert_eq!(u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize, bytes.len() - 5);
    assert_eq!(CheckResponse::decode(&bytes[5..]).unwrap(), response);
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    let headers = prop::collection::vec(
        ("[a-z-]{1,12}", ".{0,20}").prop_map(|(name, value)| Header { name, value }),
        0..4,
    );
    let allow = (headers.clone(), headers.clone(), prop::collection::vec(".{0,8}", 0..3)).prop_map(
        |(set_request_headers, response_headers, remove_request_headers)| {
            Verdict::Allow(Allow {
                set_request_headers,
                remove_request_headers,
                response_headers,
                ..Allow::default()
            })
        },
    );
    let deny = (any::<u16>(), ".{0,40}", headers).prop_map(|(status, body, headers)| {
        Verdict::Deny(Deny { status, body, headers, metadata: Vec::new() })
    });
    prop_oneof![allow, deny]
}

proptest! {
    #[test]
    fn status_is_always_set_and_never_contradicts_the_answer(
        verdict in any_verdict(),
        reason in prop::sample::select(Reason::ALL.to_vec()),
    ) {
        let decision = Decision::new(verdict, reason);
        let is_allowed = decision.is_allowed();
        let sent = message(&check_response(decision));
        let response = readable::decode(&sent[5..]);
        let code = response.status.unwrap().code;
        match response.http_response {
            Some(HttpResponse::OkResponse(_)) => prop_assert!(is_allowed && code == 0),
            Some(HttpResponse::DeniedResponse(denied)) => {
                prop_assert!(!is_allowed && code == 7);
                let status = denied.status.unwrap().code;
                prop_assert!(status >= 200 && StatusCode::try_from(status).is_ok());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn envoy_reads_what_the_guard_lets_through_as_it_is_meant(
        verdict in anything(),
        query in "(%72ole|role|=|&|x|;|\\[\\]|%zz|debug){0,8}",
        sent in prop::collection::vec("(x[-_]a|x[-_]user[_-]id|x-host|accept)", 0..4),
    ) {
        let sent = sent.into_iter().map(|name| (name, "v".to_owned()));
        let request = HttpAttributes {
            path: format!("/?{query}"),
            headers: Headers::new(sent),
            ..HttpAttributes::default()
        };
        let decision = guard_verdict(verdict, &request);
        let response = readable::decode(&check_response(decision).encode_to_vec());
        readable::check(&response);
    }
}

/// What a policy may answer, beyond every limit too.
fn anything() -> impl Strategy<Value = Verdict> {
    let name = || prop_oneof!["x[-_]a", "X[-_]b", "x-user-id", "set-cookie", "host", "[ -~]{0,8}"];
    let pair = (name(), prop_oneof!["[a-z]{0,4}", "[ -~]{0,8}", "\\PC{0,4}", ".{0,4}"]);
    let headers = || {
        let header = pair.clone().prop_map(|(name, value)| Header { name, value });
        prop::collection::vec(header, 0..4)
    };
    let pairs = || prop::collection::vec((prop_oneof!["role", "debug", ".{1,4}"], ".{0,6}"), 0..3);
    let names = || prop::collection::vec(prop_oneof![name(), Just("role".to_owned())], 0..3);
    let metadata = || {
        let depth = prop_oneof![0_usize..20, 90_usize..130];
        let entry = (".{0,4}", depth, any::<bool>()).prop_map(|(key, depth, is_list)| {
            let wrap = |inner| if is_list { json!([inner]) } else { json!({ "a": inner }) };
            (key, (0..depth).fold(json!(u64::MAX), |inner, _| wrap(inner)))
        });
        prop::collection::vec(entry, 0..2)
    };
    let allow = (headers(), names(), headers(), pairs(), names(), metadata()).prop_map(
        |(set, remove, response, set_query, remove_query, metadata)| {
            Verdict::Allow(Allow {
                set_request_headers: set,
                remove_request_headers: remove,
                response_headers: response,
                set_query_parameters: set_query,
                remove_query_parameters: remove_query,
                metadata,
                ..Allow::default()
            })
        },
    );
    let status = prop_oneof![Just(204), Just(205), Just(304), 199_u16..600, any::<u16>()];
    let deny =
        (status, ".{0,8}", headers(), metadata()).prop_map(|(status, body, headers, metadata)| {
            Verdict::Deny(Deny { status, body, headers, metadata })
        });
    prop_oneof![allow, deny]
}
