//! Identity: what a verified token becomes for policies, for the blacklist and, as identity headers,
//! for the upstream.
//!
//! A claim that could arrive as another value than the token has is given no header form: proxies and
//! servers trim blanks, split lists at commas and read bytes beyond ASCII in several ways.

use std::borrow::Cow;

use portcullis_revocation::PresentedToken;
use portcullis_types::{
    json::{JsonItems, JsonRef},
    timestamp::Timestamp,
};

use super::{
    claim_path::ClaimPath,
    config::{IdentityEncoding, RouteConfig, TokenMode, UnusableClaims},
    guard,
    percent::push_escape,
    route_error::RouteCause,
};
use crate::{policy::Identity, token::VerifiedToken};

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
pub(super) fn presented(token: &VerifiedToken) -> PresentedToken<'_> {
    PresentedToken {
        token_id: token.token_id(),
        jti: token.jti(),
        issuer: token.issuer(),
        subject: token.subject(),
        session_id: token.session_id(),
        issued_at: token.issued_at(),
    }
}

/// The identity headers of a route, and how their values are written.
#[derive(Debug)]
pub(super) struct IdentityRules {
    /// Header name, and the claims to take its value from.
    pub(super) headers: Vec<(String, Vec<ClaimPath>)>,
    /// The header for the whole payload.
    pub(super) payload: Option<String>,
    pub(super) encoding: IdentityEncoding,
    pub(super) unusable_claims: UnusableClaims,
}

impl From<&RouteConfig> for IdentityRules {
    fn from(config: &RouteConfig) -> Self {
        Self {
            headers: config.identity_headers.clone().into_iter().collect(),
            payload: config.payload_header.clone(),
            encoding: config.identity_encoding,
            unusable_claims: config.unusable_claims,
        }
    }
}

impl IdentityRules {
    /// The names of all headers.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.headers.iter().map(|(name, _)| name).chain(&self.payload)
    }
}

/// Checks the identity headers of a route.
pub(super) fn check(config: &RouteConfig) -> Result<(), RouteCause> {
    for (name, claims) in &config.identity_headers {
        if !guard::is_identity_name(name) {
            return Err(RouteCause::HeaderName(name.clone()));
        }
        if claims.is_empty() {
            return Err(RouteCause::NoClaim(name.clone()));
        }
    }
    if let Some(name) = &config.payload_header
        && (config.token == TokenMode::Ignored
            || config.identity_headers.contains_key(name)
            || !guard::is_identity_name(name))
    {
        return Err(RouteCause::PayloadHeader);
    }
    let is_default = config.unusable_claims == UnusableClaims::default()
        && config.identity_encoding == IdentityEncoding::default();
    if config.identity_headers.is_empty() && !is_default {
        return Err(RouteCause::NothingToEncode);
    }
    Ok(())
}

/// The value that a token gives to one identity header.
#[derive(Debug, PartialEq)]
pub(super) enum Claimed<'a> {
    /// Nothing: the header is removed.
    Nothing,
    /// This value.
    Value(Cow<'a, str>),
    /// The claim at this path, which has no header form.
    Unusable(&'a ClaimPath),
}

/// The value of the identity header `name`. The first claim that it has decides: if a later
/// one took the place of one that is unusable, a caller could choose between identities.
pub(super) fn header<'a>(
    name: &str,
    rules: Option<&'a IdentityRules>,
    token: Option<&'a VerifiedToken>,
) -> Claimed<'a> {
    let (Some(rules), Some(token)) = (rules, token) else { return Claimed::Nothing };
    let sources = rules.headers.iter().find(|(header, _)| header == name);
    for path in sources.map_or(&[] as &[_], |(_, sources)| sources) {
        match path.find(token.claims()).map(|claim| form(&claim, rules.encoding)) {
            None | Some(Form::Absent) => {}
            Some(Form::Text(text)) => return Claimed::Value(text),
            Some(Form::Unusable) => return Claimed::Unusable(path),
        }
    }
    Claimed::Nothing
}

/// A claim as a header value.
#[derive(Debug, PartialEq)]
enum Form<'a> {
    /// As good as absent.
    Absent,
    Text(Cow<'a, str>),
    Unusable,
}

fn form<'a>(claim: &JsonRef<'a>, encoding: IdentityEncoding) -> Form<'a> {
    let text = match claim {
        JsonRef::Null | JsonRef::Text("") => return Form::Absent,
        JsonRef::List(items) if items.iter().next().is_none() => return Form::Absent,
        JsonRef::Text(text) => written(text, encoding),
        JsonRef::Bool(value) => Some(if *value { "true" } else { "false" }.into()),
        JsonRef::Number(number) if number.is_i64() || number.is_u64() => {
            Some(number.to_string().into())
        }
        JsonRef::List(items) => list(*items, encoding).map(Cow::Owned),
        // A number with a fraction, an exponent or more than 64 bits has been rounded.
        JsonRef::Number(_) | JsonRef::Object(_) => None,
    };
    text.map_or(Form::Unusable, Form::Text)
}

fn list(items: JsonItems<'_>, encoding: IdentityEncoding) -> Option<String> {
    let mut joined = String::new();
    for (place, item) in items.texts()?.into_iter().enumerate() {
        let text = written(item, encoding)?;
        // Readers skip empty elements, and some read quoted strings, in which a comma is part of an
        // element (RFC 9110 section 5.6).
        if text.is_empty() || text.contains([',', '"']) {
            return None;
        }
        if place > 0 {
            joined.push(',');
        }
        joined.push_str(&text);
    }
    Some(joined)
}

/// Text as it is sent, unless it could arrive as another.
fn written(text: &str, encoding: IdentityEncoding) -> Option<Cow<'_, str>> {
    let is_safe = match encoding {
        IdentityEncoding::Percent => return Some(percent_encoded(text)),
        IdentityEncoding::Ascii => text.bytes().all(|byte| matches!(byte, b' '..=b'~')),
        IdentityEncoding::Utf8 => !text.chars().any(char::is_control),
    };
    (is_safe && text.trim().len() == text.len()).then_some(Cow::Borrowed(text))
}

fn percent_encoded(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',' | b'"');
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            push_escape(&mut encoded, byte);
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use portcullis_types::json::JsonObject;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Claims of which the only one is called `claim`.
    fn object(claim: &Value) -> JsonObject {
        JsonObject::parse(json!({ "claim": claim }).to_string().as_bytes()).unwrap()
    }

    const ALL: [IdentityEncoding; 3] =
        [IdentityEncoding::Ascii, IdentityEncoding::Utf8, IdentityEncoding::Percent];

    /// The header value of a claim, `None` where it has none; absent claims have `-`.
    fn sent(claim: &Value, encoding: IdentityEncoding) -> Option<String> {
        let claims = object(claim);
        match form(&claims.get("claim").unwrap(), encoding) {
            Form::Absent => Some("-".to_owned()),
            Form::Text(text) => Some(text.into_owned()),
            Form::Unusable => None,
        }
    }

    #[test]
    fn claims_become_header_values_where_no_reader_can_take_them_for_others() {
        let number = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        // The claim, and its form as ASCII, UTF-8 and percent-encoded.
        for (claim, ascii, utf8, percent) in [
            (json!("u1"), Some("u1"), Some("u1"), Some("u1")),
            (json!("a b"), Some("a b"), Some("a b"), Some("a%20b")),
            (json!("a,b"), Some("a,b"), Some("a,b"), Some("a%2Cb")),
            (json!(" admin"), None, None, Some("%20admin")),
            (json!("admin "), None, None, Some("admin%20")),
            (json!("admin\t"), None, None, Some("admin%09")),
            (json!(" \t "), None, None, Some("%20%09%20")),
            (json!("a\r\nx-admin: 1"), None, None, Some("a%0D%0Ax-admin:%201")),
            (json!("a\tb"), None, None, Some("a%09b")),
            (json!("a\0"), None, None, Some("a%00")),
            (json!("Jos\u{e9}"), None, Some("Jos\u{e9}"), Some("Jos%C3%A9")),
            (json!("admin\u{a0}"), None, None, Some("admin%C2%A0")),
            (json!("a\u{85}b"), None, None, Some("a%C2%85b")),
            (json!("100%"), Some("100%"), Some("100%"), Some("100%25")),
            (json!(["a", "b"]), Some("a,b"), Some("a,b"), Some("a,b")),
            (json!(["a,b"]), None, None, Some("a%2Cb")),
            (json!(["a", "x,admin"]), None, None, Some("a,x%2Cadmin")),
            (json!(["\"a", "b\""]), None, None, Some("%22a,b%22")),
            (json!(["a", ""]), None, None, None),
            (json!([""]), None, None, None),
            (json!(["a "]), None, None, Some("a%20")),
            (json!([" "]), None, None, Some("%20")),
            (json!([1]), None, None, None),
            (json!([["a"]]), None, None, None),
            (json!({"a": 1}), None, None, None),
            (json!(7), Some("7"), Some("7"), Some("7")),
            (json!(-7), Some("-7"), Some("-7"), Some("-7")),
            (
                json!(u64::MAX),
                Some("18446744073709551615"),
                Some("18446744073709551615"),
                Some("18446744073709551615"),
            ),
            (number("18446744073709551616"), None, None, None),
            (number("100000000000000000001"), None, None, None),
            (number("1234.0"), None, None, None),
            (number("1e3"), None, None, None),
            (number("-0"), None, None, None),
            (json!(0.5), None, None, None),
            (json!(true), Some("true"), Some("true"), Some("true")),
            (json!(null), Some("-"), Some("-"), Some("-")),
            (json!(""), Some("-"), Some("-"), Some("-")),
            (json!([]), Some("-"), Some("-"), Some("-")),
        ] {
            let forms = ALL.map(|encoding| sent(&claim, encoding));
            let forms = forms.each_ref().map(Option::as_deref);
            assert_eq!(forms, [ascii, utf8, percent], "{claim}");
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c ,\"%\t]{0,4}", "\\PC{0,4}", "[ -~]{0,4}"]
    }

    proptest! {
        #[test]
        fn a_value_arrives_as_it_is_and_a_list_in_its_elements(
            texts in prop::collection::vec(any_text(), 1..4),
        ) {
            for encoding in ALL {
                let claims = object(&json!(texts[0]));
                if let Form::Text(text) = form(&claims.get("claim").unwrap(), encoding) {
                    // What RFC 9110 section 5.5 takes for the value of a field.
                    prop_assert_eq!(text.trim_matches([' ', '\t']), &*text);
                    prop_assert!(!text.is_empty() && !text.chars().any(char::is_control));
                    if encoding != IdentityEncoding::Percent {
                        prop_assert_eq!(&*text, &texts[0]);
                    }
                }
                let claims = object(&json!(texts));
                if let Form::Text(text) = form(&claims.get("claim").unwrap(), encoding) {
                    let elements: Vec<_> = text.split(',').map(str::trim).collect();
                    prop_assert_eq!(elements.len(), texts.len());
                    if encoding != IdentityEncoding::Percent {
                        prop_assert_eq!(elements, texts.clone());
                    }
                }
            }
        }

        #[test]
        fn percent_encoded_texts_differ_where_the_texts_do(one in any_text(), other in any_text()) {
            let encode = |text: &str| percent_encoded(text).into_owned();
            prop_assert_eq!(encode(&one) == encode(&other), one == other);
            prop_assert!(encode(&one).bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
