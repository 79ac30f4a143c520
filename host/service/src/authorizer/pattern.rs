//! String patterns of route matches, which are Istio's: exact, `prefix*`, `*suffix`, `*`; and how two
//! patterns relate.

use std::{borrow::Cow, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A pattern as in Istio's `AuthorizationPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// The whole text.
    Exact(String),
    /// `text*`
    Prefix(String),
    /// `*text`
    Suffix(String),
    /// `*`: anything that is not empty.
    Present,
}

/// A text is not a pattern.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a pattern; write the whole text, `prefix*`, `*suffix` or `*`")]
pub struct ParsePatternError(String);

impl Pattern {
    /// Whether `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Present => !text.is_empty(),
        }
    }

    /// Whether every text that matches `other` matches this pattern too.
    pub(super) fn includes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, _) => true,
            (_, Self::Exact(text)) => self.matches(text),
            (Self::Prefix(short), Self::Prefix(long)) => long.starts_with(short),
            (Self::Suffix(short), Self::Suffix(long)) => long.ends_with(short),
            _ => false,
        }
    }

    /// Whether no text matches both.
    pub(super) fn is_disjoint_from(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(text), pattern) | (pattern, Self::Exact(text)) => !pattern.matches(text),
            (Self::Prefix(a), Self::Prefix(b)) => !a.starts_with(b) && !b.starts_with(a),
            (Self::Suffix(a), Self::Suffix(b)) => !a.ends_with(b) && !b.ends_with(a),
            _ => false,
        }
    }

    /// The text of the pattern without its star; none if it is only a star.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) => Some(text),
            Self::Present => None,
        }
    }

    /// The same form of pattern with another text.
    pub(super) fn with_text(&self, text: String) -> Self {
        match self {
            Self::Exact(_) => Self::Exact(text),
            Self::Prefix(_) => Self::Prefix(text),
            Self::Suffix(_) => Self::Suffix(text),
            Self::Present => Self::Present,
        }
    }
}

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => return Ok(Self::Present),
            (Some(suffix), None) => Self::Suffix(suffix.to_owned()),
            (None, Some(prefix)) => Self::Prefix(prefix.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
            (Some(_), Some(_)) => return Err(ParsePatternError(text.to_owned())),
        };
        match &pattern {
            Self::Exact(rest) | Self::Prefix(rest) | Self::Suffix(rest)
                if rest.is_empty() || rest.contains('*') =>
            {
                Err(ParsePatternError(text.to_owned()))
            }
            _ => Ok(pattern),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Present => f.write_str("*"),
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "The whole text, `prefix*`, `*suffix`, or `*` for whatever is not empty.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_istio_documents_them() {
        for (pattern, text, matches) in [
            ("/api/health", "/api/health", true),
            ("/api/health", "/api/healthz", false),
            ("/api/*", "/api/", true),
            ("/api/*", "/api/v1/users", true),
            ("/api/*", "/api", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*", "anything", true),
            ("*", "", false),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(text), matches, "{pattern} {text}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn a_star_in_the_middle_is_refused() {
        for pattern in ["", "a*b", "*a*", "**"] {
            assert!(pattern.parse::<Pattern>().is_err(), "{pattern}");
        }
    }
}
