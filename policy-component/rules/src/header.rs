//! Owns header fields: what a rule asks of them, and the names and values that it may write.

use alloc::{boxed::Box, format, string::String, vec, vec::Vec};

use portcullis_policy::{Request, SettingsError};

use crate::{
    field::{Field, Object},
    inputs::Inputs,
};

/// Fields that describe the connection or the message rather than the request. Portcullis refuses a
/// decision that touches one.
const UNTOUCHABLE: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A header and what must be true of it.
#[derive(Debug)]
pub(crate) struct HeaderCondition {
    name: Box<str>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    OneOf(Vec<Box<str>>),
    Prefix(Box<str>),
    Present(bool),
}

impl HeaderCondition {
    /// Reads `{name: x-tenant, equals: acme}`.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let object = field.object(&["name", "equals", "one_of", "prefix", "present"])?;
        let name = read_name(&object.require("name", "the name of a header")?)?;
        let test = Test::read(&object)?;
        inputs.header(&name);
        Ok(Self { name: name.into(), test })
    }

    /// Whether the request's header is as it must be.
    pub(crate) fn holds(&self, request: &Request) -> bool {
        let value = request.header(&self.name);
        match &self.test {
            Test::OneOf(texts) => {
                value.is_some_and(|value| texts.iter().any(|text| **text == *value))
            }
            Test::Prefix(prefix) => value.is_some_and(|value| value.starts_with(&**prefix)),
            Test::Present(expected) => value.is_some() == *expected,
        }
    }
}

impl Test {
    fn read(object: &Object<'_>) -> Result<Self, SettingsError> {
        let (key, field) = object.only(&["equals", "one_of", "prefix", "present"])?;
        Ok(match key {
            "equals" => Self::OneOf(vec![field.text()?.into()]),
            "one_of" => Self::OneOf(field.list(|item| Ok(item.text()?.into()))?),
            "prefix" => Self::Prefix(field.text()?.into()),
            _ => Self::Present(field.boolean()?),
        })
    }
}

/// Reads the name of a header, in whatever case it is written.
pub(crate) fn read_name(field: &Field<'_>) -> Result<String, SettingsError> {
    let name = field.text()?;
    if !is_token(name) {
        return Err(field.refuse("is not the name of a header; write for example `x-user-id`"));
    }
    Ok(name.to_ascii_lowercase())
}

/// Checks the name of a header that a rule writes; `field` is where it stands.
pub(crate) fn writable(field: &Field<'_>, name: &str) -> Result<String, SettingsError> {
    let lower = name.to_ascii_lowercase();
    if !is_token(name) {
        return Err(field.refuse("is not the name of a header; write for example `x-user-id`"));
    }
    if UNTOUCHABLE.contains(&&*lower) {
        return Err(field.refuse(format!("a policy must not touch `{lower}`; remove this line")));
    }
    Ok(lower)
}

/// Whether `text` is a token of RFC 9110 section 5.6.2, as names of headers and methods are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
