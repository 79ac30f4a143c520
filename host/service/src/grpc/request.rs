//! Parser of Envoy's `CheckRequest`, into [`Attributes`].
//!
//! It judges nothing: a request without a method is passed on as one, for the authorizer to deny.
//! Fields are named by the comments beside their numbers, which a test holds against the generated
//! types. As everywhere in protobuf, of a field that comes twice the last one counts, and messages
//! that come twice are one.

use envoy_types::pb::google::protobuf::{Struct, value::Kind};
use portcullis_types::{
    attributes::{Attributes, Body, Headers, Peer},
    decision::Reason,
};
use prost::Message;
use serde_json::{Map, Number, Value};

use super::wire::{Fields, Undecodable};
use crate::authorizer::Refusal;

/// What has been read so far.
#[derive(Default)]
struct Draft<'a> {
    attributes: Attributes,
    body: &'a str,
    raw_body: &'a [u8],
}

/// Reads a `CheckRequest`.
///
/// Nesting is as deep as the messages named here, and inside of metadata the decoder stops at 100
/// levels; the size of the message was checked before. So neither deep nor wide metadata can exhaust
/// the stack or the memory.
pub(super) fn attributes(message: &[u8]) -> Result<Attributes, Refusal> {
    let undecodable = |Undecodable| (Reason::MalformedRequest, "undecodable message");
    let mut draft = None;
    for field in Fields::of(message) {
        if let (1, attributes) = field.map_err(undecodable)? {
            let draft = draft.get_or_insert_with(Draft::default);
            attributes.message().and_then(|fields| draft.read(fields)).map_err(undecodable)?;
        }
    }
    draft.map(Draft::finish).ok_or((Reason::MalformedRequest, "no attributes"))
}

// === impl Draft ===

impl<'a> Draft<'a> {
    /// `AttributeContext`
    fn read(&mut self, fields: Fields<'a>) -> Result<(), Undecodable> {
        for field in fields {
            match field? {
                // source
                (1, value) => peer(&mut self.attributes.source, value.message()?)?,
                // request
                (4, value) => self.read_request(value.message()?)?,
                // context_extensions
                (10, value) => {
                    let (key, value) = pair(value.message()?)?;
                    self.attributes.context_extensions.push((key.to_owned(), value.to_owned()));
                }
                // metadata_context
                (11, value) => metadata(&mut self.attributes.metadata, value.message()?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `AttributeContext.Request`
    fn read_request(&mut self, fields: Fields<'a>) -> Result<(), Undecodable> {
        for field in fields {
            // http
            if let (2, value) = field? {
                self.read_http(value.message()?)?;
            }
        }
        Ok(())
    }

    /// `AttributeContext.HttpRequest`
    ///
    /// Envoy fills `headers`, or `header_map` if `encode_raw_headers` is set, never both. Should
    /// both come, both count: a header that then appears twice is ambiguous, and that is for the
    /// authorizer to notice.
    fn read_http(&mut self, fields: Fields<'a>) -> Result<(), Undecodable> {
        let http = self.attributes.http.get_or_insert_default();
        http.headers.reserve(fields.len());
        for field in fields {
            match field? {
                (2, value) => value.text()?.clone_into(&mut http.method),
                // headers
                (3, value) => {
                    let (name, value) = pair(value.message()?)?;
                    push(&mut http.headers, name, value);
                }
                (4, value) => value.text()?.clone_into(&mut http.path),
                (5, value) => value.text()?.clone_into(&mut http.host),
                (6, value) => value.text()?.clone_into(&mut http.scheme),
                (11, value) => self.body = value.text()?,
                (12, value) => self.raw_body = value.bytes()?,
                (13, value) => header_map(&mut http.headers, value.message()?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn finish(self) -> Attributes {
        let Self { mut attributes, body: text, raw_body } = self;
        if let Some(http) = &mut attributes.http {
            let bytes = if raw_body.is_empty() { text.as_bytes() } else { raw_body };
            http.body = body(bytes, &http.headers);
        }
        attributes
    }
}

/// An entry of a `map<string, string>`
fn pair(fields: Fields<'_>) -> Result<(&str, &str), Undecodable> {
    let (mut key, mut text) = ("", "");
    for field in fields {
        match field? {
            (1, value) => key = value.text()?,
            (2, value) => text = value.text()?,
            _ => {}
        }
    }
    Ok((key, text))
}

/// `envoy.config.core.v3.HeaderMap`, a list of `HeaderValue`
fn header_map(headers: &mut Headers, fields: Fields<'_>) -> Result<(), Undecodable> {
    for field in fields {
        let (1, header) = field? else { continue };
        let (mut key, mut text, mut raw) = ("", "", [].as_slice());
        for field in header.message()? {
            match field? {
                (1, value) => key = value.text()?,
                (2, value) => text = value.text()?,
                // raw_value
                (3, value) => raw = value.bytes()?,
                _ => {}
            }
        }
        if raw.is_empty() {
            push(headers, key, text);
        } else {
            // Bytes that are no text become U+FFFD, which no token and no rule matches.
            push(headers, key, &String::from_utf8_lossy(raw));
        }
    }
    Ok(())
}

/// Pseudo headers have their own fields.
fn push(headers: &mut Headers, name: &str, value: &str) {
    if !name.starts_with(':') {
        headers.push(name, value);
    }
}

/// The body, if Envoy was told to pass it: it then marks whether there is more.
fn body(bytes: &[u8], headers: &Headers) -> Option<Body> {
    let partial = headers.first("x-envoy-auth-partial-body");
    if bytes.is_empty() && partial.is_none() {
        return None;
    }
    let announced = headers.first("content-length").and_then(|length| length.parse().ok());
    let truncated =
        partial == Some("true") || announced.is_some_and(|length: u64| length > bytes.len() as u64);
    Some(Body { bytes: bytes.to_vec(), truncated })
}

/// `AttributeContext.Peer`, and in it `Address` and `SocketAddress`; other kinds of address have no
/// IP address.
fn peer(peer: &mut Peer, fields: Fields<'_>) -> Result<(), Undecodable> {
    for field in fields {
        match field? {
            // address
            (1, value) => {
                for field in value.message()? {
                    // socket_address
                    if let (1, value) = field? {
                        socket_address(peer, value.message()?)?;
                    }
                }
            }
            (4, value) => value.text()?.clone_into(&mut peer.principal),
            // Not there unless Envoy is told to pass it.
            (5, value) => value.text()?.clone_into(&mut peer.certificate),
            _ => {}
        }
    }
    Ok(())
}

fn socket_address(peer: &mut Peer, fields: Fields<'_>) -> Result<(), Undecodable> {
    for field in fields {
        match field? {
            (2, value) => value.text()?.clone_into(&mut peer.address),
            // port_value
            (3, value) => peer.port = value.number()?,
            _ => {}
        }
    }
    Ok(())
}

/// `envoy.config.core.v3.Metadata`, of which `filter_metadata` is read, a `map<string, Struct>`
fn metadata(metadata: &mut Map<String, Value>, fields: Fields<'_>) -> Result<(), Undecodable> {
    for field in fields {
        let (1, entry) = field? else { continue };
        let (mut namespace, mut structure) = ("", Struct::default());
        for field in entry.message()? {
            match field? {
                (1, value) => namespace = value.text()?,
                (2, value) => structure.merge(value.bytes()?).map_err(|_| Undecodable)?,
                _ => {}
            }
        }
        metadata.insert(namespace.to_owned(), Value::Object(object(structure)));
    }
    Ok(())
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
