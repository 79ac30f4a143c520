//! Claim paths: where to find a claim in a token, as configuration writes it.

use std::{borrow::Cow, fmt, str::FromStr};

use portcullis_types::json::{JsonObject, JsonRef};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a claim, then the keys of the objects inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

/// A text or a list is not a claim path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseClaimPathError {
    /// A name is empty, or the path has no name.
    #[error(
        "`{0}` has an empty name; write `sub`, or `realm_access.roles` for `roles` inside the claim \
         `realm_access`"
    )]
    EmptyName(String),
    /// A name has blanks that no claim has.
    #[error("`{0}` has a name with a blank at its beginning or end, which no claim has; remove it")]
    Blank(String),
    /// A backslash before another character than a dot or a backslash.
    #[error("`{0}`: a backslash is only written before a dot or another backslash")]
    Escape(String),
    /// A name that looks like a URL is split at its dots.
    #[error(
        "`{0}` is split at its dots; write `\\.` for a dot that belongs to a name, or write a list \
         of names"
    )]
    SplitUrl(String),
}

impl ClaimPath {
    /// A path of these names, taken as they are.
    fn from_names(names: Vec<String>) -> Result<Self, ParseClaimPathError> {
        if names.is_empty() || names.iter().any(String::is_empty) {
            return Err(ParseClaimPathError::EmptyName(names.join(".")));
        }
        if names.iter().any(|name| name.trim() != name) {
            return Err(ParseClaimPathError::Blank(names.join(".")));
        }
        Ok(Self(names))
    }

    /// The value at the end of the path. Lists are not looked into.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a JsonObject) -> Option<JsonRef<'a>> {
        claims.find(self.0.iter().map(String::as_str))
    }
}

/// Whether a dot in a URL separates names although it looks like a part of the URL: everywhere but
/// behind the last slash of the URL's path.
fn splits_url(text: &str, dots: &[usize]) -> bool {
    let Some(scheme) = text.find("://") else { return false };
    let path = scheme + "://".len();
    let last_slash = text.rfind('/').filter(|slash| *slash >= path);
    dots.iter().any(|dot| last_slash.is_none_or(|slash| *dot < slash))
}

impl FromStr for ClaimPath {
    type Err = ParseClaimPathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names = vec![String::new()];
        let mut dots = Vec::new();
        let mut characters = text.char_indices();
        while let Some((place, character)) = characters.next() {
            let character = match character {
                '.' => {
                    dots.push(place);
                    names.push(String::new());
                    continue;
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('.' | '\\'))) => escaped,
                    _ => return Err(ParseClaimPathError::Escape(text.to_owned())),
                },
                character => character,
            };
            if let Some(name) = names.last_mut() {
                name.push(character);
            }
        }
        if splits_url(text, &dots) {
            return Err(ParseClaimPathError::SplitUrl(text.to_owned()));
        }
        Self::from_names(names).map_err(|error| match error {
            ParseClaimPathError::EmptyName(_) => ParseClaimPathError::EmptyName(text.to_owned()),
            error => error,
        })
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.0.iter().enumerate() {
            let dot = if place > 0 { "." } else { "" };
            write!(f, "{dot}{}", name.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "the name of a claim, or a list of names")]
        enum Written {
            Text(String),
            Names(Vec<String>),
        }
        let path = match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse(),
            Written::Names(names) => Self::from_names(names),
        };
        path.map_err(serde::de::Error::custom)
    }
}

impl Serialize for ClaimPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A list needs no escapes, and no name of it is mistaken for a URL that is split.
        self.0.serialize(serializer)
    }
}

impl JsonSchema for ClaimPath {
    fn schema_name() -> Cow<'static, str> {
        "ClaimPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where to find a claim: its name, or names separated by dots for a claim \
                inside an object, such as `realm_access.roles`. A dot that belongs to a name is \
                written `\\.`, a backslash `\\\\`. Or a list of names, taken as they are.",
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names(text: &str) -> Option<Vec<String>> {
        text.parse::<ClaimPath>().ok().map(|path| path.0)
    }

    #[test]
    fn dots_separate_names_unless_they_are_escaped() {
        for (text, expected) in [
            ("sub", Some(&["sub"] as &[&str])),
            ("realm_access.roles", Some(&["realm_access", "roles"])),
            (r"a\.b", Some(&["a.b"])),
            (r"a\.b.c", Some(&["a.b", "c"])),
            (r"a\\.b", Some(&["a\\", "b"])),
            (r"https://example\.com/roles", Some(&["https://example.com/roles"])),
            (r"https://example\.com/app.roles", Some(&["https://example.com/app", "roles"])),
            ("urn:roles", Some(&["urn:roles"])),
            ("https://localhost/roles", Some(&["https://localhost/roles"])),
            ("", None),
            (".", None),
            ("a..b", None),
            (".a", None),
            ("a.", None),
            (r"a\b", None),
            (r"a\", None),
            ("https://example.com/roles", None),
            ("https://example.com", None),
            (r"https://example\.com/v1.0/roles", None),
        ] {
            assert_eq!(names(text).as_deref().map(<[_]>::to_vec), expected.map(owned), "{text}");
        }
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_list_of_names_is_taken_as_it_is() {
        let path: ClaimPath = serde_json::from_value(json!(["https://a.b/c", "d\\e"])).unwrap();
        assert_eq!(path.0, ["https://a.b/c", "d\\e"]);
        for wrong in [json!([]), json!([""]), json!(["a", ""]), json!([["a"]]), json!(1)] {
            assert!(serde_json::from_value::<ClaimPath>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_claim_whose_name_has_dots_is_not_found_by_a_path() {
        let claims = json!({"a.b": "name", "a": {"b": "path"}, "l": [{"b": 1}], "x.y": "name"});
        let claims = JsonObject::parse(claims.to_string().as_bytes()).unwrap();
        let find = |text: &str| {
            let path: ClaimPath = text.parse().unwrap();
            path.find(&claims).map(|claim| claim.to_value())
        };
        assert_eq!(find("a.b"), Some(json!("path")));
        assert_eq!(find(r"a\.b"), Some(json!("name")));
        assert_eq!(find("x.y"), None);
        assert_eq!(find("l.0"), None);
        assert_eq!(find("l.b"), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same_path(
            names in prop::collection::vec("[a-z:/.\\\\]{1,6}", 1..4),
        ) {
            let path = ClaimPath::from_names(names).unwrap();
            let written = serde_json::to_value(&path).unwrap();
            prop_assert_eq!(&serde_json::from_value::<ClaimPath>(written).unwrap(), &path);
            match path.to_string().parse::<ClaimPath>() {
                Ok(again) => prop_assert_eq!(again, path),
                Err(error) => prop_assert!(matches!(error, ParseClaimPathError::SplitUrl(_))),
            }
        }
    }
}
