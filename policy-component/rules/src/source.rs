//! Header values: where one comes from, be it the settings, a claim or the request.
//!
//! A source without a value yields none, never an empty one. What the upstream would read as
//! something else than what is there is no value either: a list that would have more elements, a
//! number that was rounded, a text whose blanks at the ends are lost on the way.

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};

use portcullis_policy::{Parts, Request, SettingsError, Value};
use serde_json::Value as Json;

use crate::{
    claim::{self, Claim, ClaimRef},
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
    /// Reads the value of a header: `text`, `{claim: sub}`, `{header: x}`, `{request: path}`,
    /// `{concat: [..]}` or a list of these, of which the first that has a value counts.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let source = Self::read_part(field, inputs)?;
        if source.never_has_a_value() {
            return Err(field.refuse("begins or ends with a blank, which is lost on the way"));
        }
        Ok(source)
    }

    fn read_part(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        match field.value() {
            Json::String(_) => return read_literal(field),
            Json::Array(_) => return Self::read_first_of(field, inputs),
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
            _ => Self::Concat(field.list(|item| Self::read_part(item, inputs))?),
        })
    }

    fn read_first_of(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let mut sources: Vec<Self> = Vec::new();
        for item in field.items()? {
            if matches!(sources.last(), Some(Self::Literal(_))) {
                return Err(item.refuse(
                    "is never used, since the text before it always has a value; remove one of \
                     the two",
                ));
            }
            sources.push(Self::read_part(&item, inputs)?);
        }
        Ok(Self::FirstOf(sources))
    }

    /// Whether the text at one of its ends makes every value one that has a blank there.
    fn never_has_a_value(&self) -> bool {
        match self {
            Self::Literal(text) => has_blank_ends(text),
            Self::FirstOf(sources) => sources.iter().any(Self::never_has_a_value),
            Self::Concat(sources) => {
                let text = |source: Option<&Self>| match source {
                    Some(Self::Literal(text)) => Some(text.clone()),
                    _ => None,
                };
                text(sources.first()).is_some_and(|text| text.starts_with(char::is_whitespace))
                    || text(sources.last()).is_some_and(|text| text.ends_with(char::is_whitespace))
            }
            Self::Claim(_) | Self::Header(_) | Self::Request(_) => false,
        }
    }

    /// The value for this request, if there is one that the upstream would read as it is.
    pub(crate) fn value(&self, request: &Request) -> Option<String> {
        match self {
            Self::FirstOf(sources) => sources.iter().find_map(|source| source.value(request)),
            _ => self.text(request).filter(|text| !has_blank_ends(text)),
        }
    }

    /// The value, be it whole or a part of one.
    fn text(&self, request: &Request) -> Option<String> {
        let value = match self {
            Self::Literal(text) => text.clone().into_string(),
            Self::Claim(claim) => claim_value(claim.find(request.identity.as_ref())?)?,
            Self::Header(name) => request.header(name)?.to_owned(),
            Self::Request(attribute) => attribute.text(request)?.to_owned(),
            Self::FirstOf(sources) => sources.iter().find_map(|source| source.text(request))?,
            Self::Concat(sources) => {
                sources.iter().map(|source| source.text(request)).collect::<Option<String>>()?
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

/// Servers and proxies remove blanks at the ends of a value, and not all the same ones.
fn has_blank_ends(text: &str) -> bool {
    text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace)
}

/// A claim as text. A list of strings becomes one with commas; where a reader of the header would
/// see other elements than there are, there is no value.
fn claim_value(claim: Claim<'_>) -> Option<String> {
    let is_element =
        |text: &String| !(text.is_empty() || text.contains(',') || has_blank_ends(text));
    match claim {
        Claim::Text(text) => Some(text.to_owned()),
        Claim::Other(Value::Boolean(boolean)) => Some(boolean.to_string()),
        Claim::Other(Value::Integer(integer)) => Some(integer.to_string()),
        Claim::Other(Value::Texts(texts)) => texts.iter().all(is_element).then(|| texts.join(",")),
        // A whole number beyond the others; objects and lists of other things have no one form.
        Claim::Other(Value::Json(json)) => claim::is_integer(json).then(|| json.clone()),
        // A number that is no whole one was rounded when it was parsed.
        Claim::Other(Value::Number(_) | Value::Text(_) | Value::Null) => None,
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
