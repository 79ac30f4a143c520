//! Header fields: what a rule asks of them, and the names that it may write.

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

/// What Envoy's own headers begin with. Portcullis refuses a decision that sets or removes one in the
/// request.
const OF_ENVOY: &str = "x-envoy";
/// The same for those by which an answer controls Envoy.
const OF_THE_PROTOCOL: &str = "x-envoy-auth-";

/// The message that a header travels in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    Request,
    Response,
}

/// A header and what must be true of it.
#[derive(Debug)]
pub(crate) struct HeaderCondition {
    name: Box<str>,
    test: HeaderTest,
}

#[derive(Debug)]
enum HeaderTest {
    OneOf(Vec<Box<str>>),
    Prefix(Box<str>),
    Present(bool),
}

impl HeaderCondition {
    /// Reads `{name: x-tenant, equals: acme}`.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let object = field.object(&["name", "equals", "one_of", "prefix", "present"])?;
        let name = read_name(&object.require("name", "the name of a header")?)?;
        let test = HeaderTest::read(&object)?;
        inputs.header(&name);
        Ok(Self { name: name.into(), test })
    }

    /// Whether the request's header is as it must be.
    pub(crate) fn holds(&self, request: &Request) -> bool {
        let value = request.header(&self.name);
        match &self.test {
            HeaderTest::OneOf(texts) => {
                value.is_some_and(|value| texts.iter().any(|text| **text == *value))
            }
            HeaderTest::Prefix(prefix) => value.is_some_and(|value| value.starts_with(&**prefix)),
            HeaderTest::Present(expected) => value.is_some() == *expected,
        }
    }
}

impl HeaderTest {
    fn read(object: &Object<'_>) -> Result<Self, SettingsError> {
        let (key, field) = object.only(&["equals", "one_of", "prefix", "present"])?;
        Ok(match key {
            "equals" => Self::OneOf(vec![read_value(&field)?]),
            "one_of" => Self::OneOf(field.list(read_value)?),
            "prefix" => {
                let prefix = field.text()?;
                if prefix.starts_with([' ', '\t']) || prefix.chars().any(char::is_control) {
                    return Err(field.refuse("no header's value begins like this"));
                }
                Self::Prefix(prefix.into())
            }
            _ => Self::Present(field.boolean()?),
        })
    }
}

/// Reads a value that a header can have.
fn read_value(field: &Field<'_>) -> Result<Box<str>, SettingsError> {
    let value = field.text()?;
    if value.trim_matches([' ', '\t']) != value {
        return Err(field
            .refuse("begins or ends with a blank, which the value of no header does; remove it"));
    }
    if value.chars().any(char::is_control) {
        return Err(field.refuse("contains a control character, which no header value has"));
    }
    Ok(value.into())
}

/// Reads the name of a header of the request, in whatever case it is written.
pub(crate) fn read_name(field: &Field<'_>) -> Result<String, SettingsError> {
    let name = field.text()?;
    if !is_token(name) {
        return Err(field.refuse("is not the name of a header; write for example `x-user-id`"));
    }
    let name = name.to_ascii_lowercase();
    if name == "host" {
        return Err(field.refuse(
            "arrives as the host and not as a header; match `hosts`, or take `{request: host}`",
        ));
    }
    Ok(name)
}

/// Checks the name of a header that a rule writes into `message`; `field` is where it stands.
pub(crate) fn writable(
    field: &Field<'_>,
    name: &str,
    message: Message,
) -> Result<String, SettingsError> {
    let lower = name.to_ascii_lowercase();
    if !is_token(name) {
        return Err(field.refuse("is not the name of a header; write for example `x-user-id`"));
    }
    let of_envoy = match message {
        Message::Request => OF_ENVOY,
        Message::Response => OF_THE_PROTOCOL,
    };
    let begin = lower.get(..of_envoy.len());
    if UNTOUCHABLE.contains(&&*lower) || begin.is_some_and(|begin| is_alike(begin, of_envoy)) {
        return Err(field.refuse(format!("a policy must not touch `{lower}`; remove this line")));
    }
    Ok(lower)
}

/// Whether two names are one to servers that take `_` for `-`, as CGI and WSGI do.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.bytes().map(fold).eq(other.bytes().map(fold))
}

/// Whether two names in lower case are one to servers that fold every character that is neither a letter
/// nor a digit.
fn is_alike(one: &str, other: &str) -> bool {
    let fold = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
    one.bytes().map(fold).eq(other.bytes().map(fold))
}

/// Whether `text` is a token of RFC 9110 section 5.6.2, as names of headers and methods are.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
