//! Names of tables, columns and channels in PostgreSQL, quoted so that they reach the server as
//! names and never as anything else.

use std::fmt;

/// The names that occur in statements.
#[derive(Debug)]
pub(crate) struct SqlNames {
    /// The table of revoked tokens, with its schema if that is configured.
    pub(crate) table: Name,
    /// The column that holds their ids.
    pub(crate) column: Name,
    /// The channel of notifications about changes.
    pub(crate) channel: Name,
}

/// A quoted name, or two with a dot between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

/// A text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error("a name is missing")]
    Empty,
    #[error("a name has at most 63 bytes; PostgreSQL would cut off the rest")]
    TooLong,
    #[error("a name has no control characters, and no blanks at its ends")]
    Characters,
}

/// `NAMEDATALEN` minus the terminating zero.
const LONGEST: usize = 63;

// === impl Name ===

impl Name {
    /// Quotes a name as it is: dots and quotes belong to it. Upper and lower case differ, as they
    /// do in the server's catalogue.
    pub(crate) fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > LONGEST {
            return Err(NameError::TooLong);
        }
        if text.trim() != text || text.contains(char::is_control) {
            return Err(NameError::Characters);
        }
        Ok(Self(format!("\"{}\"", text.replace('"', "\"\""))))
    }

    /// This name within a schema.
    pub(crate) fn within(self, schema: &Self) -> Self {
        Self(format!("{schema}.{self}"))
    }

    /// As SQL.
    pub(crate) fn as_sql(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_quoted() {
        for (text, sql) in [
            ("revoked_tokens", r#""revoked_tokens""#),
            ("RevokedTokens", r#""RevokedTokens""#),
            ("a.name", r#""a.name""#),
            (r#"say "no""#, r#""say ""no""""#),
            ("select", r#""select""#),
            ("t; DROP TABLE t --", r#""t; DROP TABLE t --""#),
            (r#"t"; DROP TABLE t --"#, r#""t""; DROP TABLE t --""#),
            ("\u{d1a0}\u{d070}", "\"\u{d1a0}\u{d070}\""),
        ] {
            assert_eq!(Name::new(text).unwrap().as_sql(), sql);
        }
        let table = Name::new("t").unwrap().within(&Name::new("a.schema").unwrap());
        assert_eq!(table.as_sql(), r#""a.schema"."t""#);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        use NameError as E;
        let long = "a".repeat(64);
        for (text, error) in [
            ("", E::Empty),
            (long.as_str(), E::TooLong),
            (" t", E::Characters),
            ("t\u{0}", E::Characters),
            ("t\nu", E::Characters),
        ] {
            assert_eq!(Name::new(text), Err(error), "{text:?}");
        }
    }

    /// Reads SQL as the server does: the one identifier, if there is nothing else.
    fn identifier(sql: &str) -> Option<String> {
        let mut characters = sql.strip_prefix('"')?.chars();
        let mut identifier = String::new();
        loop {
            match characters.next()? {
                '"' => match characters.next() {
                    Some('"') => identifier.push('"'),
                    Some(_) => return None,
                    None => return Some(identifier),
                },
                other => identifier.push(other),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_reaches_the_server_as_it_is(text in r#"(\PC|["."; -]){0,20}"#) {
            if let Ok(name) = Name::new(&text) {
                prop_assert_eq!(identifier(name.as_sql()), Some(text));
            }
        }
    }
}
