//! Owns the last step of every allow and of every deny that a policy wrote: what may be changed.
//!
//! Envoy applies what it is told. It would let a policy send a request to another host (`:path` and
//! `host` are rewritten), answers 503 to a header with a line break, and leaves whatever the client
//! sent under a name that nobody mentions. So each change passes here, whichever path produced it.

use std::collections::BTreeSet;

use crate::decision::{Allow, Deny, Header};

/// The headers that a decision sets on a message, be it the request or the response; those that it
/// removes; and the same of the query. Envoy refuses messages with more than 60 KiB of headers.
const MAX_HEADER_BYTES: usize = 60_000;
/// How many of each.
const MAX_HEADERS: usize = 100;
/// A body that a policy writes.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Headers that describe the connection or the message, not the request: RFC 9110 section 7.6.1,
/// and those that Envoy itself computes.
const FORBIDDEN: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A decision would change the request or the response in a way that is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnsafeDecision {
    /// A header name is malformed, a pseudo header, or one of the connection's.
    #[error("header name not permitted: {0:?}")]
    Name(String),
    /// A header value has a control character.
    #[error("header value with a control character: {0}")]
    Value(String),
    /// Too much.
    #[error(
        "more than {MAX_HEADERS} headers or query parameters, or {MAX_HEADER_BYTES} bytes of them"
    )]
    TooLarge,
    /// A query parameter without a key, or with a control character. Only the key is told: the
    /// value may be anything.
    #[error("query parameter not permitted: {0:?}")]
    Query(String),
    /// A status that is no HTTP status, or that asks for another protocol.
    #[error("status {0} is not between 200 and 599")]
    Status(u16),
    /// A body beyond the limit.
    #[error("body of more than {MAX_BODY_BYTES} bytes")]
    Body,
}

/// Checks an allow and completes it.
///
/// `identity` are the identity headers of this request: a value to set, or `None` to make sure that
/// nothing of that name reaches the upstream. They win over whatever the policy wants.
///
/// # Errors
/// When the change is not permitted; the request is then denied.
pub(super) fn allow(
    mut allow: Allow,
    identity: impl Iterator<Item = (String, Option<String>)>,
) -> Result<Allow, UnsafeDecision> {
    let identity: Vec<_> =
        identity.map(|(name, value)| (name, value.filter(|value| !is_blank(value)))).collect();
    let is_identity = |name: &str| identity.iter().any(|(identity, _)| identity == name);

    let mut set: Vec<Header> = Vec::with_capacity(allow.set_request_headers.len() + identity.len());
    let mut remove = BTreeSet::new();
    for mut header in allow.set_request_headers {
        header.name = checked_name(header.name)?;
        if is_identity(&header.name) {
            continue;
        }
        set.retain(|earlier| earlier.name != header.name);
        set.push(header);
    }
    check_size(allow.remove_request_headers.iter().map(String::len))?;
    for name in allow.remove_request_headers {
        remove.insert(checked_name(name)?);
    }
    for (name, value) in identity {
        match value {
            Some(value) => set.push(Header { name, value }),
            None => drop(remove.insert(name)),
        }
    }
    // Envoy removes after it sets; a name on both lists would end up unset.
    for header in &set {
        remove.remove(&header.name);
    }
    check_values(&set)?;
    allow.set_request_headers = set;
    allow.remove_request_headers = remove.into_iter().collect();
    allow.response_headers = response_headers(allow.response_headers)?;
    check_query(&allow)?;
    Ok(allow)
}

/// Checks a deny that a policy wrote.
///
/// # Errors
/// When the answer is not permitted; the request is then denied in the standard way.
pub(super) fn deny(mut deny: Deny) -> Result<Deny, UnsafeDecision> {
    if !(200..=599).contains(&deny.status) {
        return Err(UnsafeDecision::Status(deny.status));
    }
    if deny.body.len() > MAX_BODY_BYTES {
        return Err(UnsafeDecision::Body);
    }
    deny.headers = response_headers(deny.headers)?;
    Ok(deny)
}

/// Whether `name` may be set by configuration as an identity header.
pub(super) fn is_permitted_name(name: &str) -> bool {
    checked_name(name.to_owned()).is_ok_and(|checked| checked == name)
}

/// Whether nothing is left of a header value when proxies have trimmed it: RFC 9110 section 5.5.
pub(super) fn is_blank(value: &str) -> bool {
    value.bytes().all(|byte| matches!(byte, b' ' | b'\t'))
}

fn response_headers(headers: Vec<Header>) -> Result<Vec<Header>, UnsafeDecision> {
    let headers = headers
        .into_iter()
        .map(|header| Ok(Header { name: checked_name(header.name)?, value: header.value }))
        .collect::<Result<Vec<_>, _>>()?;
    check_values(&headers)?;
    Ok(headers)
}

fn checked_name(mut name: String) -> Result<String, UnsafeDecision> {
    name.make_ascii_lowercase();
    // A pseudo header begins with a colon, which is no token character.
    let is_token = http::HeaderName::from_lowercase(name.as_bytes()).is_ok();
    if is_token && !FORBIDDEN.contains(&name.as_str()) {
        Ok(name)
    } else {
        Err(UnsafeDecision::Name(name))
    }
}

fn check_values(headers: &[Header]) -> Result<(), UnsafeDecision> {
    check_size(headers.iter().map(|header| header.name.len() + header.value.len()))?;
    match headers.iter().find(|header| header.value.chars().any(is_control)) {
        Some(header) => Err(UnsafeDecision::Value(header.name.clone())),
        None => Ok(()),
    }
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\t'
}

fn check_query(allow: &Allow) -> Result<(), UnsafeDecision> {
    let (set, remove) = (&allow.set_query_parameters, &allow.remove_query_parameters);
    check_size(set.iter().map(|(key, value)| key.len() + value.len()))?;
    check_size(remove.iter().map(String::len))?;
    let is_bad = |text: &str| text.chars().any(char::is_control);
    let set = set.iter().map(|(key, value)| (key, is_bad(value)));
    let mut all = set.chain(remove.iter().map(|key| (key, false)));
    let bad = all.find(|(key, is_bad_value)| key.is_empty() || is_bad(key) || *is_bad_value);
    bad.map_or(Ok(()), |(key, _)| Err(UnsafeDecision::Query(key.clone())))
}

/// Checks how many there are of something, and how long they are together.
fn check_size(lengths: impl ExactSizeIterator<Item = usize>) -> Result<(), UnsafeDecision> {
    if lengths.len() > MAX_HEADERS || lengths.sum::<usize>() > MAX_HEADER_BYTES {
        return Err(UnsafeDecision::TooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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

    fn identity(
        entries: &[(&str, Option<&str>)],
    ) -> impl Iterator<Item = (String, Option<String>)> {
        let owned =
            |(name, value): &(&str, Option<&str>)| ((*name).to_owned(), value.map(str::to_owned));
        entries.iter().map(owned).collect::<Vec<_>>().into_iter()
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
            "",
            "x y",
            "x\r\ny",
            "é",
        ] {
            let wanted = setting(&[(name, "v")]);
            assert!(allow(wanted, identity(&[])).is_err(), "set {name}");
            let wanted =
                Allow { remove_request_headers: vec![name.to_owned()], ..Allow::default() };
            assert!(allow(wanted, identity(&[])).is_err(), "remove {name}");
            let answer = Deny {
                status: 403,
                body: String::new(),
                headers: vec![header(name, "v")],
                metadata: Vec::new(),
            };
            assert!(deny(answer).is_err(), "deny {name}");
        }
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
    fn so_is_the_size_of_what_is_removed_and_of_the_query() {
        let texts = |count: usize| (0..count).map(|n| format!("x-{n}")).collect::<Vec<_>>();
        let pairs = |count| texts(count).into_iter().map(|key| (key, String::new())).collect();
        let of = |count| {
            [
                Allow { remove_request_headers: texts(count), ..Allow::default() },
                Allow { remove_query_parameters: texts(count), ..Allow::default() },
                Allow { set_query_parameters: pairs(count), ..Allow::default() },
            ]
        };
        for wanted in of(MAX_HEADERS) {
            allow(wanted, identity(&[])).unwrap();
        }
        for wanted in of(MAX_HEADERS + 1) {
            assert_eq!(allow(wanted, identity(&[])), Err(UnsafeDecision::TooLarge));
        }
        let long = vec!["a".repeat(MAX_HEADER_BYTES + 1)];
        let wanted = Allow { remove_query_parameters: long, ..Allow::default() };
        assert_eq!(allow(wanted, identity(&[])), Err(UnsafeDecision::TooLarge));
    }

    #[test]
    fn a_refused_query_parameter_is_told_by_its_key_alone() {
        for (key, value, told) in [("k", "hush\n", "k"), ("a\n", "", "a\n"), ("", "hush", "")] {
            let pair = (key.to_owned(), value.to_owned());
            let wanted = Allow { set_query_parameters: vec![pair], ..Allow::default() };
            let refused = allow(wanted, identity(&[]));
            assert_eq!(refused, Err(UnsafeDecision::Query(told.to_owned())));
        }
        let wanted = Allow { remove_query_parameters: vec![String::new()], ..Allow::default() };
        assert_eq!(allow(wanted, identity(&[])), Err(UnsafeDecision::Query(String::new())));
    }

    #[test]
    fn a_status_that_is_no_answer_is_refused() {
        for status in [0, 100, 101, 199, 600, 999] {
            let answer = Deny { status, body: String::new(), headers: vec![], metadata: vec![] };
            assert_eq!(deny(answer), Err(UnsafeDecision::Status(status)));
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![Just("x-user-id".to_owned()), Just("X-Role".to_owned()), "[a-zA-Z:-]{1,8}"]
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
            let result = allow(wanted, [("x-user-id".to_owned(), identity)].into_iter());
            let Ok(allow) = result else { return Ok(()) };
            let set: Vec<_> = allow.set_request_headers.iter().map(|h| h.name.clone()).collect();
            let unique: BTreeSet<_> = set.iter().collect();
            prop_assert_eq!(unique.len(), set.len(), "a name is set twice");
            for name in &set {
                prop_assert!(!allow.remove_request_headers.contains(name), "set and removed");
                prop_assert_eq!(name, &name.to_lowercase());
                prop_assert!(!name.starts_with(':') && !FORBIDDEN.contains(&name.as_str()));
            }
            for header in &allow.set_request_headers {
                prop_assert!(!header.value.contains(['\r', '\n', '\0']));
            }
            let sent = allow.set_request_headers.iter().find(|h| h.name == "x-user-id");
            prop_assert_eq!(
                sent.map(|header| header.value.clone()),
                known.filter(|value| !value.is_empty())
            );
            prop_assert!(sent.is_some() || allow.remove_request_headers.contains(&"x-user-id".to_owned()));
        }
    }
}
