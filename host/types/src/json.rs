//! JSON object in compact, immutable form, in which no name occurs twice at any depth.
//!
//! One allocation holds all of it, about as large as its text, and names and texts are borrowed
//! from it. A lookup compares names and steps over values without reading them, so that nothing is
//! built for values that are not needed.

mod read;

use std::fmt;

use serde::de::{Deserializer as _, Error as _};
use serde_json::{Map, Number, Value};

/// A JSON object. `Debug` shows none of it: tokens and revocations are kept in this form.
///
/// A member is its name followed by its value. A text of up to 127 bytes is its length and its
/// bytes; every other value begins with one of the [`tag`]s.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonObject(Box<[u8]>);

/// A value inside a [`JsonObject`].
#[derive(Clone, PartialEq)]
pub enum JsonRef<'a> {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number, as `serde_json` reads it.
    Number(Number),
    /// A text.
    Text(&'a str),
    /// A list.
    List(JsonItems<'a>),
    /// An object.
    Object(JsonMembers<'a>),
}

/// The items of a list, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JsonItems<'a>(&'a [u8]);

/// The members of an object, in the order in which they were written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JsonMembers<'a>(&'a [u8]);

/// Where a text stands in a [`JsonObject`], so that it need not be looked up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPlace {
    start: u32,
    bytes: u32,
}

/// Bytes are not one JSON object with unique names. It shows nothing of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseJsonError {
    /// Not JSON, or another value than an object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// Two readers could each use a different one of two values.
    #[error("a name occurs twice in one of its objects")]
    DuplicateName,
}

/// What the first byte of a value means. Below [`tag::NULL`] it is the length of a text.
mod tag {
    pub(super) const NULL: u8 = 0x80;
    pub(super) const FALSE: u8 = 0x81;
    pub(super) const TRUE: u8 = 0x82;
    /// Eight bytes follow.
    pub(super) const SIGNED: u8 = 0x83;
    /// Eight bytes follow.
    pub(super) const UNSIGNED: u8 = 0x84;
    /// Four bytes follow: every time of this century.
    pub(super) const SMALL: u8 = 0x85;
    /// Eight bytes follow.
    pub(super) const FLOAT: u8 = 0x86;
    /// Four bytes with the length follow, and the content after them.
    pub(super) const TEXT: u8 = 0x87;
    pub(super) const LIST: u8 = 0x88;
    pub(super) const OBJECT: u8 = 0x89;
}

/// A value that was not read further than to its end.
#[derive(Clone, Copy)]
struct Raw<'a> {
    tag: u8,
    content: &'a [u8],
}

// === impl JsonObject ===

impl JsonObject {
    /// Reads an object. Nesting is limited as `serde_json` limits it.
    ///
    /// # Errors
    /// When the bytes are not one JSON object, or a name occurs twice in an object.
    pub fn parse(json: &[u8]) -> Result<Self, ParseJsonError> {
        let mut writer = read::Writer::default();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let read = deserializer
            .deserialize_map(read::MembersVisitor(&mut writer))
            .and_then(|()| deserializer.end());
        match read {
            Ok(()) => Ok(Self(writer.bytes.into_boxed_slice())),
            Err(_) if writer.has_duplicate => Err(ParseJsonError::DuplicateName),
            Err(_) => Err(ParseJsonError::NotAnObject),
        }
    }

    /// Converts a value from another format, such as YAML.
    ///
    /// # Errors
    /// When it cannot be written as JSON, or is nested too deeply to be read back.
    pub fn from_map(map: &Map<String, Value>) -> Result<Self, serde_json::Error> {
        Self::parse(&serde_json::to_vec(map)?).map_err(serde_json::Error::custom)
    }

    /// Its members.
    #[must_use]
    pub fn members(&self) -> JsonMembers<'_> {
        JsonMembers(&self.0)
    }

    /// The member of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<JsonRef<'_>> {
        self.members().get(name)
    }

    /// The value at `path`: the name of a member, then the names inside it. Names are taken as they
    /// are.
    #[must_use]
    pub fn find<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<JsonRef<'_>> {
        let mut path = path.into_iter();
        let mut found = find(&self.0, path.next()?)?;
        for name in path {
            found = (found.tag == tag::OBJECT).then(|| find(found.content, name)).flatten()?;
        }
        found.value()
    }

    /// Where the text of that name stands; `None` if there is no such member or it is not a text.
    #[must_use]
    pub fn place_of(&self, name: &str) -> Option<TextPlace> {
        let text = find(&self.0, name)?.text()?;
        // Both point into the same allocation.
        let start = (text.as_ptr() as usize).checked_sub(self.0.as_ptr() as usize)?;
        let place = |number| u32::try_from(number).ok();
        Some(TextPlace { start: place(start)?, bytes: place(text.len())? })
    }

    /// The text at a place that [`JsonObject::place_of`] found in this object.
    #[must_use]
    pub fn text_at(&self, place: TextPlace) -> Option<&str> {
        let start = usize::try_from(place.start).ok()?;
        let end = start.checked_add(usize::try_from(place.bytes).ok()?)?;
        std::str::from_utf8(self.0.get(start..end)?).ok()
    }

    /// The same in the form of `serde_json`.
    #[must_use]
    pub fn to_map(&self) -> Map<String, Value> {
        self.members().to_map()
    }

    /// How many bytes it occupies, itself left out.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for JsonObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonObject").finish_non_exhaustive()
    }
}

// === impl JsonRef ===

impl<'a> JsonRef<'a> {
    /// The text, if it is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is `null`.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The same in the form of `serde_json`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::from(*text),
            Self::List(items) => items.iter().map(|item| item.to_value()).collect(),
            Self::Object(members) => Value::Object(members.to_map()),
        }
    }
}

impl fmt::Debug for JsonRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        })
    }
}

impl fmt::Debug for JsonItems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonItems").finish_non_exhaustive()
    }
}

impl fmt::Debug for JsonMembers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonMembers").finish_non_exhaustive()
    }
}

// === impl JsonItems ===

impl<'a> JsonItems<'a> {
    /// The items, in order.
    pub fn iter(self) -> impl Iterator<Item = JsonRef<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (item, after) = split(rest)?;
            rest = after;
            item.value()
        })
    }

    /// The items, if all of them are texts.
    #[must_use]
    pub fn texts(self) -> Option<Vec<&'a str>> {
        self.iter().map(|item| item.as_str()).collect()
    }
}

// === impl JsonMembers ===

impl<'a> JsonMembers<'a> {
    /// The members by name, in the order in which they were written.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, JsonRef<'a>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (name, after) = split(rest)?;
            let (value, after) = split(after)?;
            rest = after;
            Some((name.text()?, value.value()?))
        })
    }

    /// The member of that name.
    #[must_use]
    pub fn get(self, name: &str) -> Option<JsonRef<'a>> {
        find(self.0, name)?.value()
    }

    fn to_map(self) -> Map<String, Value> {
        self.iter().map(|(name, value)| (name.to_owned(), value.to_value())).collect()
    }
}

/// The member of that name among `members`.
fn find<'a>(members: &'a [u8], name: &str) -> Option<Raw<'a>> {
    let mut rest = members;
    loop {
        let (member, after) = split(rest)?;
        let (value, after) = split(after)?;
        if member.content == name.as_bytes() {
            return Some(value);
        }
        rest = after;
    }
}

/// Splits the first value off.
fn split(bytes: &[u8]) -> Option<(Raw<'_>, &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (length, rest) = match tag {
        tag::NULL | tag::FALSE | tag::TRUE => (0, rest),
        tag::SIGNED | tag::UNSIGNED | tag::FLOAT => (8, rest),
        tag::SMALL => (4, rest),
        tag::TEXT | tag::LIST | tag::OBJECT => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::try_from(u32::from_le_bytes(*length)).ok()?, rest)
        }
        short => (usize::from(short), rest),
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((Raw { tag, content }, rest))
}

// === impl Raw ===

impl<'a> Raw<'a> {
    fn text(self) -> Option<&'a str> {
        (self.tag < tag::NULL || self.tag == tag::TEXT)
            .then(|| std::str::from_utf8(self.content).ok())
            .flatten()
    }

    fn value(self) -> Option<JsonRef<'a>> {
        let eight = || self.content.first_chunk::<8>().copied();
        Some(match self.tag {
            tag::NULL => JsonRef::Null,
            tag::FALSE => JsonRef::Bool(false),
            tag::TRUE => JsonRef::Bool(true),
            tag::SIGNED => JsonRef::Number(i64::from_le_bytes(eight()?).into()),
            tag::UNSIGNED => JsonRef::Number(u64::from_le_bytes(eight()?).into()),
            tag::SMALL => JsonRef::Number(u32::from_le_bytes(*self.content.first_chunk()?).into()),
            tag::FLOAT => JsonRef::Number(Number::from_f64(f64::from_le_bytes(eight()?))?),
            tag::LIST => JsonRef::List(JsonItems(self.content)),
            tag::OBJECT => JsonRef::Object(JsonMembers(self.content)),
            _ => JsonRef::Text(self.text()?),
        })
    }
}

#[cfg(test)]
mod tests;
