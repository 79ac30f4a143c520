//! An answer as Envoy reads it, with Envoy's limits. Every answer that a test or a fuzz target produces
//! passes through here.
//!
//! It is compiled into tests only, also into those that know nothing else of this crate.

use std::collections::BTreeSet;

use envoy_types::pb::{
    envoy::{
        config::core::v3::{HeaderValueOption, header_value_option::HeaderAppendAction},
        service::auth::v3::{
            CheckResponse, DeniedHttpResponse, OkHttpResponse, check_response::HttpResponse,
        },
        r#type::v3::StatusCode,
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use prost::Message;

/// Nested messages at which a protobuf parser stops.
const RECURSION_LIMIT: usize = 100;
/// What Envoy's connection manager takes in headers by default.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 60 * 1024;

/// Decodes an answer, a protobuf message without its gRPC prefix, and checks that its parts do not
/// contradict each other.
///
/// # Panics
/// When Envoy would read nothing, or another answer than is meant.
pub(crate) fn decode(message: &[u8]) -> CheckResponse {
    let response = CheckResponse::decode(message).expect("Envoy can decode the answer");
    let status = response.status.as_ref().expect("an answer without status lets everything pass");
    let metadata = response.dynamic_metadata.as_ref();
    let depth = metadata.map_or(0, |metadata| 1 + structure_depth(metadata));
    assert!(depth <= RECURSION_LIMIT, "{depth} nested messages");
    match response.http_response.as_ref().expect("every answer says how to go on") {
        HttpResponse::OkResponse(_) => assert_eq!(status.code, 0, "the halves contradict"),
        HttpResponse::DeniedResponse(_) => assert_ne!(status.code, 0, "the halves contradict"),
        HttpResponse::ErrorResponse(_) => panic!("an error lets everything pass, or nothing"),
    }
    response
}

/// Checks that an answer does what it says and no more.
///
/// # Panics
/// When a part of it could be read otherwise.
pub(crate) fn check(response: &CheckResponse) {
    match response.http_response.as_ref().expect("every answer says how to go on") {
        HttpResponse::OkResponse(ok) => check_ok(ok),
        HttpResponse::DeniedResponse(denied) => check_denied(denied),
        HttpResponse::ErrorResponse(_) => panic!("an error lets everything pass, or nothing"),
    }
}

fn check_ok(ok: &OkHttpResponse) {
    check_headers(&ok.headers);
    check_headers(&ok.response_headers_to_add);
    let set: Vec<_> = ok.headers.iter().map(name).collect();
    let folded: BTreeSet<_> = set.iter().map(|name| folded(name)).collect();
    assert_eq!(folded.len(), set.len(), "servers take two headers for one: {set:?}");
    for option in &ok.headers {
        let value = value(option);
        assert!(!value.is_empty() && value.trim_matches([' ', '\t']) == value, "{}", name(option));
        assert_eq!(option.append_action(), HeaderAppendAction::OverwriteIfExistsOrAdd);
    }
    for removed in &ok.headers_to_remove {
        check_name(removed);
        assert!(!set.contains(&removed.as_str()), "set and removed: {removed}");
    }
    for option in &ok.response_headers_to_add {
        assert!(!set.contains(&name(option)), "for the request and for the response");
        assert!(!ok.headers_to_remove.iter().any(|removed| removed == name(option)));
    }
    for parameter in &ok.query_parameters_to_set {
        assert!(!parameter.key.is_empty() && is_encoded(&parameter.key), "{}", parameter.key);
        assert!(is_encoded(&parameter.value), "the parameter {} is not encoded", parameter.key);
        assert!(!ok.query_parameters_to_remove.contains(&parameter.key), "set and removed");
    }
}

fn check_denied(denied: &DeniedHttpResponse) {
    let status = denied.status.as_ref().expect("a deny has a status").code;
    assert!((200..600).contains(&status) && StatusCode::try_from(status).is_ok(), "{status}");
    if [204, 205, 304].contains(&status) {
        assert_eq!(denied.body, "", "{status} has no body");
    }
    check_headers(&denied.headers);
}

fn check_headers(options: &[HeaderValueOption]) {
    assert!(options.len() <= MAX_HEADERS, "{} headers", options.len());
    let bytes: usize = options.iter().map(|option| name(option).len() + value(option).len()).sum();
    assert!(bytes <= MAX_HEADER_BYTES, "{bytes} bytes of headers");
    for option in options {
        check_name(name(option));
        assert!(!value(option).chars().any(|c| c.is_control() && c != '\t'), "{}", name(option));
        let is_appended = option.append_action() == HeaderAppendAction::AppendIfExistsOrAdd;
        assert!(!is_appended || name(option) == "set-cookie", "{}", name(option));
    }
}

fn check_name(name: &str) {
    assert!(http::HeaderName::from_lowercase(name.as_bytes()).is_ok(), "{name:?}");
    assert!(!name.starts_with("x-envoy-auth-") && name != "host", "{name}");
}

fn name(option: &HeaderValueOption) -> &str {
    &option.header.as_ref().expect("an option has a header").key
}

fn value(option: &HeaderValueOption) -> &str {
    &option.header.as_ref().expect("an option has a header").value
}

fn folded(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

fn is_encoded(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte))
}

/// Messages inside a `Struct`: each field is an entry of a map, and a value in it.
fn structure_depth(structure: &Struct) -> usize {
    structure.fields.values().map(|value| 2 + value_depth(value)).max().unwrap_or(0)
}

fn value_depth(value: &Value) -> usize {
    match &value.kind {
        Some(Kind::StructValue(structure)) => 1 + structure_depth(structure),
        Some(Kind::ListValue(list)) => {
            1 + list.values.iter().map(|value| 1 + value_depth(value)).max().unwrap_or(0)
        }
        _ => 0,
    }
}
