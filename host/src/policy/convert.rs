//! Owns the translation between plain types and the generated ones: lifting what the manifest names
//! into a request, and reading the decision back.
//!
//! It copies no string on the way in. It judges nothing on the way out; that is the guard's office.

use serde_json::{Map, Value};

use super::{
    bindings::exports::portcullis::policy::evaluator as wit,
    input::{Identity, Input},
    manifest::Manifest,
};
use crate::decision::{Allow, Deny, Header, Verdict};

/// A policy's verdict with its reason.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
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
    let headers: Vec<_> = manifest
        .headers
        .iter()
        .flat_map(|name| input.headers.all(name).map(move |value| header(name, value)))
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
            Lifted::new(input.metadata.get(namespace).and_then(|value| follow(value, path)))
        })
        .collect();
    let metadata: Vec<_> = metadata.iter().map(Lifted::lower).collect();
    let claims: Vec<_> = manifest
        .claims
        .iter()
        .map(|path| Lifted::new(input.identity.and_then(|who| claim(who.claims, path))))
        .collect();
    let claims: Vec<_> = claims.iter().map(Lifted::lower).collect();
    let scopes: Vec<&str> =
        input.identity.iter().flat_map(|who| who.scopes).map(String::as_str).collect();
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

fn header<'a>(name: &'a str, value: &'a str) -> wit::HeaderParam<'a> {
    wit::HeaderParam { name, value }
}

fn identity<'a>(
    who: &Identity<'a>,
    scopes: &'a [&'a str],
    claims: &'a [Option<wit::ValueParam<'a>>],
) -> wit::Identity<'a> {
    let text = |name: &str| who.claims.get(name).and_then(Value::as_str);
    wit::Identity {
        subject: text("sub"),
        issuer: text("iss"),
        token_id: text("jti"),
        scopes,
        expires_at: who.expires_at,
        claims,
    }
}

fn claim<'a>(claims: &'a Map<String, Value>, path: &[String]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    follow(claims.get(first)?, rest)
}

fn follow<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// A JSON value with whatever has to be made for it before it can be borrowed.
enum Lifted<'a> {
    Absent,
    Plain(&'a Value),
    Texts(Vec<&'a str>),
    Json(String),
}

impl<'a> Lifted<'a> {
    fn new(value: Option<&'a Value>) -> Self {
        match value {
            None => Self::Absent,
            Some(Value::Array(items)) => match items.iter().map(Value::as_str).collect() {
                Some(texts) => Self::Texts(texts),
                None => Self::Json(Value::to_string(&Value::Array(items.clone()))),
            },
            Some(object @ Value::Object(_)) => Self::Json(object.to_string()),
            Some(plain) => Self::Plain(plain),
        }
    }

    fn lower(&self) -> Option<wit::ValueParam<'_>> {
        Some(match self {
            Self::Absent => return None,
            Self::Texts(texts) => wit::ValueParam::Texts(texts),
            Self::Json(text) => wit::ValueParam::Json(text),
            Self::Plain(Value::Bool(value)) => wit::ValueParam::Boolean(*value),
            Self::Plain(Value::String(text)) => wit::ValueParam::Text(text),
            Self::Plain(Value::Number(number)) => match number.as_i64() {
                Some(integer) => wit::ValueParam::Integer(integer),
                None => wit::ValueParam::Number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Self::Plain(_) => wit::ValueParam::Null,
        })
    }
}

/// Reads a decision.
pub(super) fn answer(decision: wit::Decision) -> Answer {
    match decision {
        wit::Decision::Allow(allowed) => {
            Answer { verdict: Verdict::Allow(allow(allowed)), reason: None }
        }
        wit::Decision::Deny(denied) => {
            let reason = Some(denied.reason.clone()).filter(|reason| !reason.is_empty());
            Answer { verdict: Verdict::Deny(deny(denied)), reason }
        }
    }
}

fn allow(allowed: wit::Allowed) -> Allow {
    Allow {
        set_request_headers: headers(allowed.set_request_headers),
        remove_request_headers: allowed.remove_request_headers,
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
