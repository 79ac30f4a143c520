//! Typed settings, read from a value, with errors that name the key and the remedy. They never show
//! what is written there: it may be a password at the wrong place.
//!
//! serde's own messages quote values. So the errors here keep the kind of a mistake, and forget the
//! value.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        self, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapAccessDeserializer, MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::yaml::shown_name;

/// A value does not fit.
#[derive(Debug)]
pub struct TypedError {
    /// The keys down to the mistake; `None` for one that is not to be shown.
    path: Vec<Step>,
    mistake: Mistake,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What is wrong with a value, without the value.
#[derive(Debug)]
enum Mistake {
    Type {
        found: &'static str,
        expected: String,
    },
    Value {
        expected: String,
    },
    Variant {
        known: &'static [&'static str],
    },
    Unknown {
        name: String,
        known: &'static [&'static str],
    },
    Missing(&'static str),
    Twice(&'static str),
    /// In words of the type, which may quote the value.
    Other(String),
}

/// A value that is being read.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Value);

const BOOLEAN: &str = "a boolean";
const NUMBER: &str = "a number";

/// Values shorter than this may be quoted by a message: no secret is as short.
const SHORT: usize = 4;

/// Reads settings out of a value.
///
/// # Errors
/// When a key is unknown, missing, or has a wrong value.
pub fn read<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, TypedError> {
    serde_path_to_error::deserialize(Node(value)).map_err(|error| {
        let path = steps(error.path());
        let mistake = match error.into_inner() {
            Mistake::Other(message) => Mistake::Other(without(message, at(value, &path))),
            mistake => mistake,
        };
        TypedError { path, mistake }
    })
}

fn steps(path: &Path) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    path.iter().filter_map(step).collect()
}

/// The value at the end of a path.
fn at<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    })
}

/// The message with every quotation of the value left out, or of what is in it.
fn without(message: String, value: Option<&Value>) -> String {
    let hide = |message: String, text: &str| {
        let escaped = text.escape_debug().to_string();
        [text, text.trim(), &escaped]
            .into_iter()
            .filter(|text| text.chars().count() >= SHORT)
            .fold(message, |message, text| message.replace(text, "…"))
    };
    match value {
        Some(Value::String(text)) => hide(message, text),
        Some(Value::Number(number)) => hide(message, &number.to_string()),
        Some(Value::Array(items)) => {
            items.iter().fold(message, |message, item| without(message, Some(item)))
        }
        Some(Value::Object(fields)) => {
            fields.values().fold(message, |message, field| without(message, Some(field)))
        }
        _ => message,
    }
}

// === impl TypedError ===

impl TypedError {
    /// The key, such as `routes[2].match.paths`.
    pub fn key(&self) -> String {
        let mut shown = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    let dot = if shown.is_empty() { "" } else { "." };
                    shown.extend([dot, shown_name(key).unwrap_or("…")]);
                }
                Step::Index(index) => shown.extend(["[", &index.to_string(), "]"]),
            }
        }
        if shown.is_empty() { ".".to_owned() } else { shown }
    }

    /// The keys down to the mistake, as variables name them.
    pub(super) fn keys(&self) -> Vec<String> {
        let key = |step: &Step| match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => index.to_string(),
        };
        self.path.iter().map(key).collect()
    }

    /// Whether there is something else where text is needed.
    pub(super) fn needs_text(&self) -> bool {
        matches!(&self.mistake, Mistake::Type { expected, .. } if is_text(expected))
    }

    /// Whether there is text where something else is needed.
    pub(super) fn found_text(&self) -> bool {
        matches!(&self.mistake, Mistake::Type { found: "text", .. })
    }

    /// What is wrong, and the remedy.
    pub fn message(&self) -> String {
        self.mistake.to_string()
    }
}

fn is_text(expected: &str) -> bool {
    matches!(expected, "a string" | "string" | "path string")
}

/// What serde calls a type, in words of the configuration.
fn in_words(expected: &str) -> &str {
    match expected {
        "socket address" => "an IP address and a port, such as 127.0.0.1:9191,",
        "a sequence" => "a list",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "a map" => "a section with keys",
        text if is_text(text) => "text",
        other if other.starts_with("struct ") => "a section with keys",
        other if other.starts_with("enum ") => "one of a few words",
        other => other,
    }
}

// === impl Mistake ===

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type { found: found @ (BOOLEAN | NUMBER), expected } if is_text(expected) => {
                write!(f, "it is {found} in YAML, and text is needed; put it in quotes")
            }
            Self::Type { found, expected } => {
                write!(f, "it is {found}, and {} is needed", in_words(expected))
            }
            Self::Value { expected } => {
                write!(f, "it cannot have this value; {} is needed", in_words(expected))
            }
            Self::Variant { known } => {
                f.write_str("it is none of the words that are known here: ")?;
                list(f, known)
            }
            Self::Unknown { name, known } => {
                match shown_name(name) {
                    Some(name) => write!(f, "unknown key `{name}`; ")?,
                    None => f.write_str("unknown key; ")?,
                }
                f.write_str("there are ")?;
                list(f, known)
            }
            Self::Missing(name) => write!(f, "the key `{name}` is missing; add it"),
            Self::Twice(name) => write!(f, "the key `{name}` occurs twice; remove one"),
            Self::Other(message) if *message == socket_address_error() => {
                f.write_str("write an IP address and a port, such as 127.0.0.1:9191")
            }
            Self::Other(message) => f.write_str(message),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, names: &[&str]) -> fmt::Result {
    if names.is_empty() {
        return f.write_str("none");
    }
    names.iter().enumerate().try_for_each(|(place, name)| {
        let comma = if place == 0 { "" } else { ", " };
        write!(f, "{comma}`{name}`")
    })
}

/// What the standard library says to a name in place of an address.
fn socket_address_error() -> String {
    "".parse::<std::net::SocketAddr>().err().map(|error| error.to_string()).unwrap_or_default()
}

impl std::error::Error for Mistake {}

impl de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match unexpected {
            Unexpected::Bool(_) => BOOLEAN,
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => NUMBER,
            Unexpected::Unit | Unexpected::Option => "empty",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a section with keys",
            _ => "text",
        };
        Self::Type { found, expected: expected.to_string() }
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value { expected: expected.to_string() }
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::Value { expected: expected.to_string() }
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::Variant { known }
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::Unknown { name: name.to_owned(), known }
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self::Twice(name)
    }
}

// === impl Node ===

impl<'de> IntoDeserializer<'de, Mistake> for Node<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(boolean) => visitor.visit_bool(*boolean),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.iter().map(Node));
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Value::Object(fields) => visitor.visit_map(entries(fields)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self.0 {
            Value::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Value::Object(fields) => {
                visitor.visit_enum(MapAccessDeserializer::new(entries(fields)))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

fn entries(
    fields: &serde_json::Map<String, Value>,
) -> MapDeserializer<'_, impl Iterator<Item = (&str, Node<'_>)>, Mistake> {
    MapDeserializer::new(fields.iter().map(|(key, value)| (key.as_str(), Node(value))))
}

#[cfg(test)]
mod tests;
