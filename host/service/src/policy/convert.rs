//! The translation between plain types and the generated ones: lifting what the manifest names into a
//! request, and reading the decision back.
//!
//! It copies no string on the way in. It judges nothing on the way out; the guard does.

use std::borrow::Cow;

use portcullis_types::{
    attributes::{HeaderView, NameLengths, fold_alike, likely_spellings},
    decision::{Allow, Deny, Header, Verdict},
    json::JsonRef,
};
use serde_json::{Number, Value};

use super::{
    bindings::exports::portcullis::policy::evaluator as wit,
    input::{Identity, Input},
    manifest::Manifest,
};

/// A policy's verdict with its reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PolicyAnswer {
    pub(super) verdict: Verdict,
    pub(super) reason: Option<String>,
}

/// Builds the request that `manifest` asks for and passes it to `call`.
pub(super) fn with_request<R>(
    manifest: &Manifest,
    input: &Input<'_>,
    call: impl FnOnce(wit::Request<'_>) -> R,
) -> R {
    let parts = &manifest.parts;
    let values: Vec<_> = manifest.headers.iter().map(|name| joined(input, name)).collect();
    let headers: Vec<_> = manifest
        .headers
        .iter()
        .zip(&values)
        .filter_map(|(name, value)| Some(wit::HeaderParam { name, value: value.as_deref()? }))
        .collect();
    let context: Vec<_> = if parts.context {
        input.context.iter().map(|(key, value)| wit::ContextEntry { key, value }).collect()
    } else {
        Vec::new()
    };
    let metadata: Vec<_> = manifest
        .metadata
        .iter()
        .map(|(namespace, path)| {
            Lifted::of_value(input.metadata.get(namespace).and_then(|value| follow(value, path)))
        })
        .collect();
    let metadata: Vec<_> = metadata.iter().map(Lifted::lower).collect();
    let claims: Vec<_> = manifest
        .claims
        .iter()
        .map(|path| {
            let path = path.iter().map(String::as_str);
            Lifted::of_claim(input.identity.and_then(|who| who.claims.find(path)))
        })
        .collect();
    let claims: Vec<_> = claims.iter().map(Lifted::lower).collect();
    let scopes = input.identity.map_or("", |who| who.scopes).split(' ');
    let scopes: Vec<&str> = scopes.filter(|scope| !scope.is_empty()).collect();
    call(wit::Request {
        route: input.route,
        method: input.method,
        scheme: input.scheme,
        host: input.host,
        path: input.path,
        raw_path: parts.raw_path.then_some(input.raw_path),
        query: input.query.filter(|_| parts.query),
        headers: &headers,
        context: &context,
        metadata: &metadata,
        identity: input.identity.map(|who| identity(&who, &scopes, &claims)),
        source: parts.source.then_some(wit::Peer {
            address: &input.source.address,
            port: input.source.port,
            principal: &input.source.principal,
        }),
        body: input
            .body
            .filter(|_| parts.body)
            .map(|body| wit::Body { bytes: &body.bytes, truncated: body.truncated }),
    })
}

/// The value of a header. Several values are joined as Envoy joins them, so that a policy that
/// compares with the first cannot be deceived by a second.
fn joined<'a>(input: &Input<'a>, name: &'a str) -> Option<Cow<'a, str>> {
    let mut values = input.headers.all(name);
    let first = values.next()?;
    Some(values.fold(Cow::Borrowed(first), |joined, value| format!("{joined},{value}").into()))
}

fn identity<'a>(
    who: &Identity<'a>,
    scopes: &'a [&'a str],
    claims: &'a [Option<wit::ValueParam<'a>>],
) -> wit::Identity<'a> {
    wit::Identity {
        subject: who.subject,
        issuer: who.issuer,
        token_id: who.token_id,
        scopes,
        expires_at: who.expires_at,
        claims,
    }
}

fn follow<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// A JSON value with whatever has to be made for it before it can be borrowed.
enum Lifted<'a> {
    Absent,
    Null,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
    Texts(Vec<&'a str>),
    Json(String),
}

impl<'a> Lifted<'a> {
    fn of_value(value: Option<&'a Value>) -> Self {
        match value {
            None => Self::Absent,
            Some(Value::Null) => Self::Null,
            Some(Value::Bool(value)) => Self::Boolean(*value),
            Some(Value::Number(number)) => Self::of_number(number),
            Some(Value::String(text)) => Self::Text(text),
            Some(value @ Value::Array(items)) => match items.iter().map(Value::as_str).collect() {
                Some(texts) => Self::Texts(texts),
                None => Self::Json(value.to_string()),
            },
            Some(value @ Value::Object(_)) => Self::Json(value.to_string()),
        }
    }

    fn of_claim(claim: Option<JsonRef<'a>>) -> Self {
        match claim {
            None => Self::Absent,
            Some(JsonRef::Null) => Self::Null,
            Some(JsonRef::Bool(value)) => Self::Boolean(value),
            Some(JsonRef::Number(number)) => Self::of_number(&number),
            Some(JsonRef::Text(text)) => Self::Text(text),
            Some(ref claim @ JsonRef::List(items)) => match items.texts() {
                Some(texts) => Self::Texts(texts),
                None => Self::Json(claim.to_value().to_string()),
            },
            Some(claim @ JsonRef::Object(_)) => Self::Json(claim.to_value().to_string()),
        }
    }

    fn of_number(number: &Number) -> Self {
        match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Self::Integer(integer),
            // A whole number that has all of its digits here would lose some as a float, and be equal
            // to its neighbours.
            (None, Some(float)) if !number.is_u64() => Self::Number(float),
            (None, _) => Self::Json(number.to_string()),
        }
    }

    fn lower(&self) -> Option<wit::ValueParam<'_>> {
        Some(match self {
            Self::Absent => return None,
            Self::Null => wit::ValueParam::Null,
            Self::Boolean(value) => wit::ValueParam::Boolean(*value),
            Self::Integer(integer) => wit::ValueParam::Integer(*integer),
            Self::Number(number) => wit::ValueParam::Number(*number),
            Self::Text(text) => wit::ValueParam::Text(text),
            Self::Texts(texts) => wit::ValueParam::Texts(texts),
            Self::Json(text) => wit::ValueParam::Json(text),
        })
    }
}

/// Reads a decision about `input`.
pub(super) fn answer(
    decision: wit::Decision,
    manifest: &Manifest,
    input: &Input<'_>,
) -> PolicyAnswer {
    match decision {
        wit::Decision::Allow(allowed) => {
            let other_spellings = other_spellings(manifest, input);
            let allow = Allow { other_spellings, ..allow(allowed) };
            PolicyAnswer { verdict: Verdict::Allow(allow), reason: None }
        }
        wit::Decision::Deny(denied) => {
            let reason = Some(denied.reason.clone()).filter(|reason| !reason.is_empty());
            PolicyAnswer { verdict: Verdict::Deny(deny(denied)), reason }
        }
    }
}

/// The names that a server may take for a header that the policy was shown: those in the request, and
/// the likely ones where the proxy does not show all. The policy has decided about the one, so the others
/// must not reach the upstream.
fn other_spellings(manifest: &Manifest, input: &Input<'_>) -> Vec<String> {
    let shown = || manifest.headers.iter().map(String::as_str);
    let names = input.headers.names_as_long_as(shown().collect::<NameLengths>());
    let is_another = |name: &str| {
        shown().any(|shown| fold_alike(shown, name)) && !shown().any(|shown| shown == name)
    };
    let mut others: Vec<_> = names.filter(|name| is_another(name)).map(str::to_owned).collect();
    if input.header_view == HeaderView::Listed {
        others.extend(likely_spellings(shown()).into_iter().filter(|name| is_another(name)));
    }
    others
}

fn allow(allowed: wit::Allowed) -> Allow {
    Allow {
        set_request_headers: headers(allowed.set_request_headers),
        remove_request_headers: allowed.remove_request_headers,
        other_spellings: Vec::new(),
        response_headers: headers(allowed.response_headers),
        set_query_parameters: allowed
            .set_query_parameters
            .into_iter()
            .map(|parameter| (parameter.key, parameter.value))
            .collect(),
        remove_query_parameters: allowed.remove_query_parameters,
        metadata: metadata(allowed.metadata),
    }
}

fn deny(denied: wit::Denied) -> Deny {
    Deny {
        status: denied.status,
        body: denied.body,
        headers: headers(denied.headers),
        metadata: metadata(denied.metadata),
    }
}

fn headers(headers: Vec<wit::HeaderResult>) -> Vec<Header> {
    headers.into_iter().map(|header| Header { name: header.name, value: header.value }).collect()
}

fn metadata(entries: Vec<wit::MetadataEntry>) -> Vec<(String, Value)> {
    entries.into_iter().map(|entry| (entry.key, value(entry.value))).collect()
}

fn value(value: wit::ValueResult) -> Value {
    match value {
        wit::ValueResult::Null => Value::Null,
        wit::ValueResult::Boolean(value) => value.into(),
        wit::ValueResult::Integer(value) => value.into(),
        wit::ValueResult::Number(value) => value.into(),
        wit::ValueResult::Text(text) => text.into(),
        wit::ValueResult::Texts(texts) => texts.into(),
        // Text that is not JSON after all is still a text.
        wit::ValueResult::Json(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}
