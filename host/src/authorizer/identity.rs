//! Owns what a verified token becomes: the policy's view of the caller, the blacklist's view of the
//! token, and the identity headers for the upstream.

use super::{guard::is_blank, route::Route};
use crate::{
    blacklist::Presented,
    json::{JsonObject, JsonRef},
    policy::Identity,
    timestamp::Timestamp,
    token::VerifiedToken,
};

/// The caller, as policies see it.
pub(super) fn of(token: &VerifiedToken) -> Identity<'_> {
    Identity {
        claims: token.claims(),
        subject: token.subject(),
        issuer: token.issuer(),
        token_id: token.jti(),
        scopes: token.scopes(),
        expires_at: token.expires_at().map(Timestamp::as_secs),
    }
}

/// The token, as the blacklist sees it.
pub(super) fn presented(token: &VerifiedToken) -> Presented<'_> {
    Presented {
        token_id: token.token_id(),
        jti: token.jti(),
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
    sources.iter().find_map(|source| text(&lookup(claims, source)?))
}

/// A claim by its name, or by the keys that lead to it, joined by dots.
fn lookup<'a>(claims: &'a JsonObject, source: &str) -> Option<JsonRef<'a>> {
    claims.get(source).or_else(|| claims.find(source.split('.')))
}

/// A claim as a header value. Objects have none, and neither have blanks: proxies trim them, and an
/// empty header would be left.
fn text(value: &JsonRef<'_>) -> Option<String> {
    match value {
        JsonRef::Text(text) => Some((*text).to_owned()).filter(|text| !is_blank(text)),
        JsonRef::Number(number) => Some(number.to_string()),
        JsonRef::Bool(value) => Some(value.to_string()),
        JsonRef::List(items) => Some(items.texts()?.join(",")).filter(|text| !is_blank(text)),
        JsonRef::Null | JsonRef::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(json: &Value) -> JsonObject {
        JsonObject::parse(json.to_string().as_bytes()).unwrap()
    }

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
            let claims = object(&json!({ "claim": claim }));
            let header_value = text(&claims.get("claim").unwrap());
            assert_eq!(header_value.as_deref(), header, "{claim}");
        }
    }

    #[test]
    fn a_claim_whose_name_has_dots_is_found_before_a_path() {
        let claims = json!({"a.b": "name", "a": {"b": "path", "c": "deep"}});
        let claims = object(&claims);
        let find = |source| lookup(&claims, source).and_then(|value| value.as_str());
        assert_eq!(find("a.b"), Some("name"));
        assert_eq!(find("a.c"), Some("deep"));
        assert_eq!(find("x.y"), None);
    }
}
