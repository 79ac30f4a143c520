//! Claim paths: `realm_access.roles`, or a list of names. `identity_headers` of a route have the
//! same syntax.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};

use portcullis_policy::SettingsError;
use serde_json::Value as Json;

use crate::field::Field;

/// Reads the names that lead to a claim, the outermost first.
pub(crate) fn read(field: &Field<'_>) -> Result<Vec<String>, SettingsError> {
    let names = match field.value() {
        Json::String(text) => split(field, text)?,
        Json::Array(names) => {
            let names: Option<Vec<_>> =
                names.iter().map(|name| name.as_str().map(ToOwned::to_owned)).collect();
            names.unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if names.is_empty() || names.iter().any(String::is_empty) {
        return Err(field.refuse(
            "must be the name of a claim: `sub`, `realm_access.roles` to look inside, or a list of \
             names",
        ));
    }
    if names.iter().any(|name| name.trim() != name) {
        return Err(field.refuse(
            "has a blank at the beginning or end of a name, which no claim has; remove the blank",
        ));
    }
    Ok(names)
}

/// Splits a text at its dots. `\.` is a dot in a name, `\\` a backslash.
fn split(field: &Field<'_>, text: &str) -> Result<Vec<String>, SettingsError> {
    let first_separator = first_separator(text);
    let mut names = Vec::new();
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, escaped @ ('.' | '\\'))) => name.push(escaped),
                _ => {
                    return Err(field.refuse(
                        "has a stray `\\`; `\\` is written only before a dot or another backslash",
                    ));
                }
            },
            '.' if position < first_separator => {
                let escaped = text.replace("\\.", ".").replace('.', "\\.");
                return Err(field.refuse(format!(
                    "has a dot, which separates names; write `{escaped}`, or a list of names"
                )));
            }
            '.' => names.push(core::mem::take(&mut name)),
            character => name.push(character),
        }
    }
    names.push(name);
    Ok(names)
}

/// Where the first dot may stand that separates names. In the name of a claim that is a URL, the dots
/// of the host and of the path belong to the name; a separator can only stand behind them.
fn first_separator(text: &str) -> usize {
    let Some(scheme) = text.find("://") else { return 0 };
    match text.rfind('/') {
        Some(last) if last > scheme + 2 => last,
        _ => text.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names(value: &Json) -> Result<Vec<String>, SettingsError> {
        read(&Field::root(value))
    }

    #[test]
    fn dots_separate_names_unless_they_are_escaped() {
        for (value, expected) in [
            (json!("sub"), vec!["sub"]),
            (json!("realm_access.roles"), vec!["realm_access", "roles"]),
            (json!(r"realm_access\.roles"), vec!["realm_access.roles"]),
            (json!(r"a\\.b"), vec![r"a\", "b"]),
            (json!(r"a\\\.b"), vec![r"a\.b"]),
            (json!(r"https://example\.com/roles"), vec!["https://example.com/roles"]),
            (json!(r"https://example\.com/app.roles"), vec!["https://example.com/app", "roles"]),
            (json!(r"https://example\.com"), vec!["https://example.com"]),
            (json!(["https://example.com/app", "roles"]), vec!["https://example.com/app", "roles"]),
            (json!([r"a\.b"]), vec![r"a\.b"]),
        ] {
            assert_eq!(names(&value).unwrap(), expected, "{value}");
        }
    }

    #[test]
    fn what_is_no_claim_path_is_refused() {
        for value in [
            json!(""),
            json!("a..b"),
            json!(".a"),
            json!("a."),
            json!(r"a\"),
            json!(r"a\b"),
            json!("https://example.com/roles"),
            json!("https://example.com"),
            json!(r"https://example\.com/v1.0/roles"),
            json!([]),
            json!([""]),
            json!(["a", 1]),
            json!(1),
            json!(null),
        ] {
            assert!(names(&value).is_err(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn every_list_of_names_can_be_written_as_text(
            list in prop::collection::vec("[a.\\\\é]{1,4}", 1..4),
        ) {
            let escaped: Vec<_> =
                list.iter().map(|name| name.replace('\\', r"\\").replace('.', r"\.")).collect();
            prop_assert_eq!(names(&json!(escaped.join("."))).unwrap(), list.clone());
            prop_assert_eq!(names(&json!(list.clone())).unwrap(), list);
        }
    }
}
