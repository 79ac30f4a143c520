//! YAML reader, with errors that say where and why, and never show what is written there.
//!
//! The parser's own messages show the lines around a mistake, and so the passwords in them.

use std::{borrow::Cow, fmt};

use serde_json::Value;
use serde_saphyr::{Error, ExternalMessageSource, granit_parser::ErrorKind};

/// A text is not YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// Line and column, from 1.
    place: Option<(u64, u64)>,
    reason: Cow<'static, str>,
}

/// Longer names than this are clipped.
const MAX_NAME: usize = 64;

/// Reads a YAML document.
///
/// # Errors
/// When it is not one.
pub fn read(text: &str) -> Result<Value, YamlError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|place| (place.line(), place.column()));
        YamlError { place: place.filter(|(line, _)| *line > 0), reason: reason(&error) }
    })
}

/// A name that may be shown: one that looks like a name, and not like a secret at the wrong place.
pub(super) fn shown_name(name: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (!name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_plain)).then_some(name)
}

fn reason(error: &Error) -> Cow<'static, str> {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => reason(error),
        Error::ExternalMessage { source, .. } => match &**source {
            ExternalMessageSource::Parser(error) => syntax(error.kind()),
            _ => MALFORMED.into(),
        },
        Error::DuplicateMappingKey { key, .. } => match key.as_deref().and_then(shown_name) {
            Some(key) => format!("the key `{key}` occurs twice; remove one").into(),
            None => "a key occurs twice; remove one".into(),
        },
        Error::Eof { .. } => "it ends too early".into(),
        Error::MultipleDocuments { .. } => "there is a second document; remove it".into(),
        Error::UnknownAnchor { .. } => UNKNOWN_ANCHOR.into(),
        Error::UnsupportedTag { .. } => {
            "there is a tag that means nothing here; put text that begins with `!` in quotes".into()
        }
        Error::NonFiniteFloat { .. } => "a number is too large, or none; put text in quotes".into(),
        Error::Budget { .. } => "the document is too large or too deep".into(),
        _ => MALFORMED.into(),
    }
}

const MALFORMED: &str = "it is malformed; look at indentation, colons, brackets and quotes";
const UNKNOWN_ANCHOR: &str =
    "an alias names no anchor; put text that begins with `*` or `&` in quotes";

/// The parser's message, unless it repeats what was given.
fn syntax(kind: &ErrorKind) -> Cow<'static, str> {
    match kind {
        ErrorKind::Custom(_) | ErrorKind::InputDecoding { .. } | ErrorKind::InputIo { .. } => {
            MALFORMED.into()
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            "a value cannot begin with this character; put the value in quotes".into()
        }
        ErrorKind::UnknownAnchor => UNKNOWN_ANCHOR.into(),
        kind => kind.to_string().into(),
    }
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for YamlError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_line_and_column_and_shows_nothing_of_the_text() {
        for (text, place, word) in [
            ("a: 1\nurl: \"redis://u:hunter2@h\n", "line ", ""),
            ("a: [hunter2\n", "line ", ""),
            ("url: redis://u:hunter2@h\n b: 1\n", "line ", ""),
            ("a: hunter2\n\tb: 1", "line ", ""),
            ("a: @hunter2", "line 1, column 4", "quotes"),
            ("a: *hunter2", "line 1, column 4", "quotes"),
            ("hunter2/: 1\nhunter2/: 2", "line 2", "occurs twice"),
            ("a: 1\na: hunter2", "line 2", "`a` occurs twice"),
            ("a: hunter2\n---\nb: 1", "", "second document"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(word), "{text:?}: {error}");
            assert!(!error.contains("hunter2"), "{text:?}: {error}");
        }
    }
}
