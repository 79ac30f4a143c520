//! Owns the names of tables, columns and channels: how they are written in the configuration, and
//! that they reach the server as names and never as anything else.

use std::fmt;

/// A name of one part, or a table with its schema, quoted as SQL wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::blacklist) struct Name(String);

/// A text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::blacklist) enum NameError {
    /// Nothing, or nothing between two dots.
    #[error(
        "a name is missing; write `name`, or `schema.table` for a table outside the search path"
    )]
    Empty,
    /// More than the server keeps of a name.
    #[error("a name has at most 63 bytes; PostgreSQL would cut off the rest")]
    TooLong,
    /// More parts than such a name has.
    #[error(
        "too many parts; if the dots belong to the name, write it in double quotes, such as \
         '\"a.name\"'"
    )]
    TooManyParts,
    /// A quote in the wrong place, or only one.
    #[error(
        "double quotes go around a whole part, such as '\"a.schema\".table'; a quote within it is \
         written twice"
    )]
    Quotes,
    /// No name of this world has one.
    #[error("a name has no control characters, and no blanks at its ends")]
    Characters,
}

/// `NAMEDATALEN` less the zero at its end.
const LONGEST: usize = 63;

// === impl Name ===

impl Name {
    /// A name of one part. Upper and lower case differ, as they do in the server's catalogue.
    pub(in crate::blacklist) fn of_one_part(text: &str) -> Result<Self, NameError> {
        Self::new(text, 1)
    }

    /// A table, with or without its schema.
    pub(in crate::blacklist) fn of_table(text: &str) -> Result<Self, NameError> {
        Self::new(text, 2)
    }

    /// As SQL.
    pub(super) fn as_sql(&self) -> &str {
        &self.0
    }

    fn new(text: &str, most: usize) -> Result<Self, NameError> {
        let parts = parts(text)?;
        if parts.len() > most {
            return Err(NameError::TooManyParts);
        }
        for part in &parts {
            if part.is_empty() {
                return Err(NameError::Empty);
            }
            if part.len() > LONGEST {
                return Err(NameError::TooLong);
            }
            if part.trim() != part || part.contains(char::is_control) {
                return Err(NameError::Characters);
            }
        }
        let quoted: Vec<_> =
            parts.iter().map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
        Ok(Self(quoted.join(".")))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands between the dots, without the quotes around it.
fn parts(text: &str) -> Result<Vec<String>, NameError> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_part(quoted)?
        } else {
            let (part, after) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
            if part.contains('"') {
                return Err(NameError::Quotes);
            }
            (part.to_owned(), after)
        };
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(parts),
            None => return Err(NameError::Quotes),
        }
    }
}

/// The part after an opening quote, and what follows its closing quote.
fn quoted_part(quoted: &str) -> Result<(String, &str), NameError> {
    let mut part = String::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_once('"').ok_or(NameError::Quotes)?;
        part.push_str(before);
        match after.strip_prefix('"') {
            Some(next) => {
                part.push('"');
                rest = next;
            }
            None => return Ok((part, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted_part_by_part() {
        for (text, sql) in [
            ("revoked_tokens", r#""revoked_tokens""#),
            ("auth.RevokedTokens", r#""auth"."RevokedTokens""#),
            (r#""a.schema".t"#, r#""a.schema"."t""#),
            (r#""say ""no""""#, r#""say ""no""""#),
            ("select", r#""select""#),
            ("t; DROP TABLE t --", r#""t; DROP TABLE t --""#),
            ("\u{d1a0}\u{d070}", "\"\u{d1a0}\u{d070}\""),
        ] {
            assert_eq!(Name::of_table(text).unwrap().as_sql(), sql);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        use NameError as E;
        let long = "a".repeat(64);
        for (text, error) in [
            ("", E::Empty),
            (".t", E::Empty),
            ("s.", E::Empty),
            (r#""""#, E::Empty),
            ("a.b.c", E::TooManyParts),
            (long.as_str(), E::TooLong),
            (r#"t"; DROP TABLE t --"#, E::Quotes),
            (r#""t"; DROP TABLE t --"#, E::Quotes),
            (r#""t"#, E::Quotes),
            (" t", E::Characters),
            ("t\u{0}", E::Characters),
            ("t\nu", E::Characters),
        ] {
            assert_eq!(Name::of_table(text), Err(error), "{text:?}");
        }
        assert_eq!(Name::of_one_part("t.c"), Err(E::TooManyParts));
    }

    /// Reads SQL as the server does: the identifiers, if there is nothing but those and dots.
    fn identifiers(sql: &str) -> Option<Vec<String>> {
        let mut identifiers = Vec::new();
        let mut characters = sql.chars().peekable();
        loop {
            if characters.next()? != '"' {
                return None;
            }
            let mut identifier = String::new();
            loop {
                match characters.next()? {
                    '"' if characters.peek() == Some(&'"') => {
                        characters.next();
                        identifier.push('"');
                    }
                    '"' => break,
                    other => identifier.push(other),
                }
            }
            identifiers.push(identifier);
            match characters.next() {
                None => return Some(identifiers),
                Some('.') => {}
                Some(_) => return None,
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_reaches_the_server_as_names(
            text in r#"(\PC|["."; -]){0,20}"#,
        ) {
            if let Ok(name) = Name::of_table(&text) {
                let identifiers = identifiers(name.as_sql());
                prop_assert!(identifiers.is_some_and(|all| all.len() <= 2), "{name}");
            }
        }

        #[test]
        fn every_name_can_be_written(part in r#"[^\pC ]([^\pC]{0,8}[^\pC\pZ])?"#) {
            let text = format!("s.\"{}\"", part.replace('"', "\"\""));
            let name = Name::of_table(&text);
            prop_assume!(name != Err(NameError::Characters));
            let expected = Some(vec!["s".to_owned(), part]);
            prop_assert_eq!(identifiers(name.unwrap().as_sql()), expected);
        }
    }
}
