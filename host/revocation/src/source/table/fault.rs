//! Errors of PostgreSQL, and the fix for each.

use std::error::Error as _;

use tokio_postgres::{Error, error::SqlState};

use crate::config::sql_name::SqlNames;

/// Why the table cannot be followed.
#[derive(Debug)]
pub(super) enum Fault {
    /// No connection in time.
    Unreachable,
    /// The server does not answer any more.
    Silent,
    /// The rows of the table do not arrive.
    Stuck,
    /// The server closed the connection without an error.
    Closed,
    /// The feed has ended.
    Stopping,
    /// An error of the client library.
    Client(Error),
}

// === impl Fault ===

impl Fault {
    /// The cause in a few words, for the status.
    pub(super) fn why(&self) -> &'static str {
        let error = match self {
            Self::Client(error) => error,
            Self::Unreachable => return "PostgreSQL cannot be reached",
            Self::Silent | Self::Stuck => return "PostgreSQL does not answer",
            Self::Closed | Self::Stopping => return "PostgreSQL closed the connection",
        };
        match error.code() {
            Some(code) if is_refusal(code) => "PostgreSQL refuses the login",
            Some(
                &(SqlState::UNDEFINED_TABLE
                | SqlState::INVALID_SCHEMA_NAME
                | SqlState::UNDEFINED_COLUMN
                | SqlState::INSUFFICIENT_PRIVILEGE),
            ) => "the table cannot be read",
            Some(&SqlState::LOCK_NOT_AVAILABLE) => "the table is locked",
            Some(_) => "PostgreSQL reports an error",
            None => "the connection to PostgreSQL failed",
        }
    }

    /// What happened, the configuration key at fault, and the fix.
    pub(super) fn explain(&self, names: &SqlNames) -> String {
        let error = match self {
            Self::Client(error) => error,
            Self::Stuck => {
                return format!(
                    "{}: no rows for too long; see pg_locks for the session that locks the table",
                    names.table
                );
            }
            _ => return format!("{}; see its log", self.why()),
        };
        let text = chain(error);
        let Some(code) = error.code() else {
            return match text {
                text if text.contains("TLS") || text.contains("certificate") => format!(
                    "{text}; name the host in `blacklist.postgres.url` as its certificate does, and \
                     its certificate authority in `blacklist.postgres.ca_file`"
                ),
                text => format!("{text}; see `blacklist.postgres.url` and the server's log"),
            };
        };
        match *code {
            SqlState::UNDEFINED_TABLE | SqlState::INVALID_SCHEMA_NAME => format!(
                "`blacklist.postgres.table`: {text}; create {} or name another one: upper and \
                 lower case differ, and a schema outside the search path is named by \
                 `blacklist.postgres.schema`",
                names.table
            ),
            SqlState::UNDEFINED_COLUMN => format!(
                "`blacklist.postgres.column`: {text}; name the column of {} that holds token ids",
                names.table
            ),
            SqlState::INSUFFICIENT_PRIVILEGE => format!(
                "`blacklist.postgres.table`: {text}; GRANT SELECT ON {} (and USAGE ON its SCHEMA) \
                 to the user",
                names.table
            ),
            SqlState::LOCK_NOT_AVAILABLE => format!(
                "{} is locked by another session; see pg_locks for the session that holds the lock",
                names.table
            ),
            SqlState::INVALID_CATALOG_NAME => format!("`blacklist.postgres.url`: {text}"),
            _ if is_refusal(code) => format!(
                "{text}; see `blacklist.postgres.url` and `blacklist.postgres.password_file`"
            ),
            _ => format!("{text} ({})", code.code()),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        if error.is_closed() { Self::Closed } else { Self::Client(error) }
    }
}

fn is_refusal(code: &SqlState) -> bool {
    *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
}

/// The text of an error and its cause. Messages of PostgreSQL about a table contain no rows of it.
pub(super) fn chain(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
