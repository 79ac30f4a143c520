//! Owns reading Envoy's `CheckRequest` into [`Attributes`].
//!
//! It judges nothing: a request without a method is passed on as one, for the authorizer to deny.

use envoy_types::pb::google::protobuf::{Struct, value::Kind};
use prost::Message;
use serde_json::{Map, Number, Value};

use super::wire;
use crate::{
    attributes::{Attributes, Body, Headers, HttpAttributes, Peer},
    decision::Reason,
};

/// Why a message could not be read, with a word for the log.
pub(super) type Refusal = (Reason, &'static str);

/// Reads a `CheckRequest`.
///
/// The decoder stops at 100 levels of nesting and at the end of a message whose size was checked
/// before, so neither deep nor wide metadata can exhaust the stack or the memory.
pub(super) fn attributes(message: &[u8]) -> Result<Attributes, Refusal> {
    let request = wire::CheckRequest::decode(message)
        .map_err(|_| (Reason::MalformedRequest, "undecodable message"))?;
    let context = request.attributes.ok_or((Reason::MalformedRequest, "no attributes"))?;
    let extensions = context.context_extensions.into_iter();
    Ok(Attributes {
        http: context.request.and_then(|request| request.http).map(http),
        source: context.source.map(peer).unwrap_or_default(),
        context_extensions: extensions.map(|pair| (pair.key, pair.value)).collect(),
        metadata: context.metadata_context.map(metadata).unwrap_or_default(),
    })
}

fn http(request: wire::HttpRequest) -> HttpAttributes {
    let headers = headers(request.headers, request.header_map);
    HttpAttributes {
        method: request.method,
        scheme: request.scheme,
        host: request.host,
        path: request.path,
        body: body(request.body, request.raw_body, &headers),
        headers,
    }
}

/// Envoy fills `headers`, or `header_map` if `encode_raw_headers` is set, never both. Should both
/// come, both count: a header that then appears twice is ambiguous, and that is for the authorizer
/// to notice.
fn headers(joined: Vec<wire::Pair>, raw: Option<wire::HeaderMap>) -> Headers {
    let joined = joined.into_iter().map(|pair| (pair.key, pair.value));
    let raw = raw.into_iter().flat_map(|map| map.headers).map(|field| {
        // Bytes that are no text become U+FFFD, which no token and no rule matches.
        let raw = || String::from_utf8_lossy(&field.raw_value).into_owned();
        (field.key, if field.raw_value.is_empty() { field.value } else { raw() })
    });
    joined.chain(raw).filter(|(name, _)| !name.starts_with(':')).collect()
}

/// The body, if Envoy was told to pass it: it then marks whether there is more.
fn body(text: String, raw: Vec<u8>, headers: &Headers) -> Option<Body> {
    let bytes = if raw.is_empty() { text.into_bytes() } else { raw };
    let partial = headers.first("x-envoy-auth-partial-body");
    if bytes.is_empty() && partial.is_none() {
        return None;
    }
    let announced = headers.first("content-length").and_then(|length| length.parse().ok());
    let truncated =
        partial == Some("true") || announced.is_some_and(|length: u64| length > bytes.len() as u64);
    Some(Body { bytes, truncated })
}

fn peer(peer: wire::Peer) -> Peer {
    let socket = peer.address.and_then(|address| address.socket_address).unwrap_or_default();
    Peer { address: socket.address, port: socket.port_value, principal: peer.principal }
}

fn metadata(metadata: wire::Metadata) -> Map<String, Value> {
    let namespaces = metadata.filter_metadata.into_iter();
    namespaces
        .map(|namespace| {
            (namespace.key, Value::Object(object(namespace.value.unwrap_or_default())))
        })
        .collect()
}

fn object(structure: Struct) -> Map<String, Value> {
    structure.fields.into_iter().map(|(name, field)| (name, value(field.kind))).collect()
}

fn value(kind: Option<Kind>) -> Value {
    match kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::NumberValue(value)) => number(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::StructValue(structure)) => Value::Object(object(structure)),
        Some(Kind::ListValue(list)) => {
            list.values.into_iter().map(|item| value(item.kind)).collect()
        }
    }
}

/// Protobuf's `Struct` has only floating-point numbers; whole ones are meant as whole ones.
fn number(value: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked against the exact range")]
    let whole = value as i64;
    #[expect(clippy::cast_precision_loss, reason = "compared, to find out whether it was exact")]
    let exact = whole as f64;
    if value.abs() < 9_007_199_254_740_992.0 && exact.total_cmp(&value).is_eq() {
        return Value::Number(whole.into());
    }
    // Infinity and not-a-number do not exist in JSON.
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests;
