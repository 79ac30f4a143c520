//! Owns where the value of a header comes from: the settings, a claim, or the request.
//!
//! A source without a value yields none, never an empty one.

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_policy::{Parts, Request, SettingsError, Value};
use serde_json::Value as Json;

use crate::{
    claim::{Claim, ClaimRef},
    field::Field,
    header,
    inputs::Inputs,
};

/// Where a value comes from.
#[derive(Debug)]
pub(crate) enum Source {
    Literal(Box<str>),
    Claim(ClaimRef),
    Header(Box<str>),
    Request(Attribute),
    /// The first that has a value.
    FirstOf(Vec<Source>),
    /// All together, if each has a value.
    Concat(Vec<Source>),
}

/// What a request always has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attribute {
    Route,
    Method,
    Scheme,
    Host,
    Path,
    SourceAddress,
    SourcePrincipal,
}

impl Source {
    /// Reads `text`, `{claim: sub}`, `{header: x}`, `{request: path}`, `{concat: [..]}` or a list of
    /// these, of which the first that has a value counts.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        match field.value() {
            Json::String(_) => return read_literal(field),
            Json::Array(_) => {
                return Ok(Self::FirstOf(field.list(|item| Self::read(item, inputs))?));
            }
            Json::Object(_) => {}
            _ => return Err(field.refuse("must be a string, or for example `{claim: sub}`")),
        }
        let kinds = &["value", "claim", "header", "request", "concat"];
        let (kind, field) = field.object(kinds)?.only(kinds)?;
        Ok(match kind {
            "value" => read_literal(&field)?,
            "claim" => Self::Claim(ClaimRef::read(&field, inputs)?),
            "header" => {
                let name = header::read_name(&field)?;
                inputs.header(&name);
                Self::Header(name.into())
            }
            "request" => Self::Request(Attribute::read(&field, inputs)?),
            _ => Self::Concat(field.list(|item| Self::read(item, inputs))?),
        })
    }

    /// The value for this request, if there is one.
    pub(crate) fn value(&self, request: &Request) -> Option<String> {
        let value = match self {
            Self::Literal(text) => text.clone().into_string(),
            Self::Claim(claim) => claim_value(claim.find(request.identity.as_ref())?)?,
            Self::Header(name) => request.header(name)?.to_owned(),
            Self::Request(attribute) => attribute.text(request)?.to_owned(),
            Self::FirstOf(sources) => sources.iter().find_map(|source| source.value(request))?,
            Self::Concat(sources) => {
                sources.iter().map(|source| source.value(request)).collect::<Option<String>>()?
            }
        };
        (!value.is_empty()).then_some(value)
    }
}

fn read_literal(field: &Field<'_>) -> Result<Source, SettingsError> {
    let text = field.text()?;
    if text.chars().any(char::is_control) {
        return Err(field.refuse("contains a control character, which no header value may have"));
    }
    Ok(Source::Literal(text.into()))
}

/// A claim as text. A list of strings becomes one with commas; where an element has a comma itself,
/// whoever reads the header would see more elements than there are, so then there is no value.
fn claim_value(claim: Claim<'_>) -> Option<String> {
    match claim {
        Claim::Text(text) => Some(text.to_owned()),
        Claim::Other(Value::Boolean(boolean)) => Some(boolean.to_string()),
        Claim::Other(Value::Integer(integer)) => Some(integer.to_string()),
        Claim::Other(Value::Number(number)) => Some(number.to_string()),
        Claim::Other(Value::Texts(texts)) => {
            (!texts.iter().any(|text| text.contains(','))).then(|| texts.join(","))
        }
        Claim::Other(Value::Json(json)) => Some(json.clone()),
        Claim::Other(Value::Text(_) | Value::Null) => None,
    }
}

// === impl Attribute ===

impl Attribute {
    fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let attribute = match field.text()? {
            "route" => Self::Route,
            "method" => Self::Method,
            "scheme" => Self::Scheme,
            "host" => Self::Host,
            "path" => Self::Path,
            "source_address" => Self::SourceAddress,
            "source_principal" => Self::SourcePrincipal,
            _ => {
                return Err(field.refuse(
                    "must be one of `route`, `method`, `scheme`, `host`, `path`, \
                     `source_address`, `source_principal`",
                ));
            }
        };
        if matches!(attribute, Self::SourceAddress | Self::SourcePrincipal) {
            inputs.part(Parts::SOURCE);
        }
        Ok(attribute)
    }

    fn text(self, request: &Request) -> Option<&str> {
        Some(match self {
            Self::Route => &request.route,
            Self::Method => &request.method,
            Self::Scheme => &request.scheme,
            Self::Host => &request.host,
            Self::Path => &request.path,
            Self::SourceAddress => &request.source.as_ref()?.address,
            Self::SourcePrincipal => &request.source.as_ref()?.principal,
        })
    }
}
