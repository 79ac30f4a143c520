//! Owns what a verified token becomes: the policy's view of the caller, the blacklist's view of the
//! token, and the identity headers for the upstream.

use serde_json::{Map, Value};

use super::{guard::is_blank, route::Route};
use crate::{blacklist::Presented, policy::Identity, timestamp::Timestamp, token::VerifiedToken};

/// The caller, as policies see it.
pub(super) fn of(token: &VerifiedToken) -> Identity<'_> {
    Identity {
        claims: token.claims(),
        scopes: token.scopes(),
        expires_at: token.expires_at().map(Timestamp::as_secs),
    }
}

/// The token, as the blacklist sees it.
pub(super) fn presented(token: &VerifiedToken) -> Presented<'_> {
    Presented {
        token_id: token.token_id(),
        jti: token.claims().get("jti").and_then(Value::as_str),
        issuer: token.issuer(),
        subject: token.subject(),
        session_id: token.session_id(),
        issued_at: token.issued_at(),
    }
}

/// The value of the identity header `name`; `None` removes it.
pub(super) fn header(
    name: &str,
    route: Option<&Route>,
    token: Option<&VerifiedToken>,
) -> Option<String> {
    let (_, sources) = route?.identity_headers.iter().find(|(header, _)| header == name)?;
    let claims = token?.claims();
    sources.iter().find_map(|source| text(lookup(claims, source)?))
}

/// A claim by its name, or by the keys that lead to it, joined by dots.
fn lookup<'a>(claims: &'a Map<String, Value>, source: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(source) {
        return Some(value);
    }
    let mut keys = source.split('.');
    let first = claims.get(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get(key))
}

/// A claim as a header value. Objects have none, and neither have blanks: proxies trim them, and an
/// empty header would be left.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()).filter(|text| !is_blank(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(Value::as_str).collect();
            Some(texts?.join(",")).filter(|text| !is_blank(text))
        }
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_become_header_values_where_they_can() {
        for (claim, header) in [
            (json!("u1"), Some("u1")),
            (json!(""), None),
            (json!(" "), None),
            (json!(" \t "), None),
            (json!("a b"), Some("a b")),
            (json!([" "]), None),
            (json!(7), Some("7")),
            (json!(true), Some("true")),
            (json!(["a", "b"]), Some("a,b")),
            (json!([]), None),
            (json!([1]), None),
            (json!({"a": 1}), None),
            (json!(null), None),
        ] {
            assert_eq!(text(&claim).as_deref(), header, "{claim}");
        }
    }

    #[test]
    fn a_claim_whose_name_has_dots_is_found_before_a_path() {
        let claims = json!({"a.b": "name", "a": {"b": "path", "c": "deep"}});
        let claims = claims.as_object().unwrap();
        assert_eq!(lookup(claims, "a.b"), Some(&json!("name")));
        assert_eq!(lookup(claims, "a.c"), Some(&json!("deep")));
        assert_eq!(lookup(claims, "x.y"), None);
    }
}
