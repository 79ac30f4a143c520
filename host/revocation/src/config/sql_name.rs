//! Names of tables, columns and channels in PostgreSQL, quoted so that they reach the server as
//! names and never as anything else.

use std::fmt;

use super::ConfigError;

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

/// `NAMEDATALEN` minus the terminating zero.
const LONGEST: usize = 63;

// === impl Name ===

impl Name {
    /// Quotes the name under `key` as it is: dots and quotes belong to it. Upper and lower case
    /// differ, as they do in the server's catalogue.
    pub(super) fn new(key: &'static str, text: &str) -> Result<Self, ConfigError> {
        let error = |message| Err(ConfigError::new(key, message));
        if text.is_empty() {
            return error("a name is missing");
        }
        if text.len() > LONGEST {
            return error("a name has at most 63 bytes; PostgreSQL would cut off the rest");
        }
        if text.trim() != text || text.contains(char::is_control) {
            return error("a name has no control characters, and no blanks at its ends");
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

    fn name(text: &str) -> Result<Name, ConfigError> {
        Name::new("key", text)
    }

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
            assert_eq!(name(text).unwrap().as_sql(), sql);
        }
        let table = name("t").unwrap().within(&name("a.schema").unwrap());
        assert_eq!(table.as_sql(), r#""a.schema"."t""#);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(64);
        for (text, message) in [
            ("", "a name is missing"),
            (long.as_str(), "a name has at most 63 bytes"),
            (" t", "a name has no control characters"),
            ("t\u{0}", "a name has no control characters"),
            ("t\nu", "a name has no control characters"),
        ] {
            let error = name(text).unwrap_err();
            assert!(error.message().starts_with(message), "{text:?}: {error}");
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
            if let Ok(name) = name(&text) {
                prop_assert_eq!(identifier(name.as_sql()), Some(text));
            }
        }
    }
}
