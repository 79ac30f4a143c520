//! Owns what can go wrong with PostgreSQL, and what to do about it.

use std::error::Error as _;

use tokio_postgres::{Error, error::SqlState};

use super::Names;

/// Why the table is not being watched.
#[derive(Debug)]
pub(super) enum Fault {
    /// No connection in time.
    Unreachable,
    /// Nothing is heard any more.
    Silent,
    /// The table does not come.
    Stuck,
    /// The server closed the connection without a word.
    Closed,
    /// Nobody is left to tell.
    Stopping,
    /// What the client says.
    Client(Error),
}

// === impl Fault ===

impl Fault {
    /// A few words for the status.
    pub(super) fn why(&self) -> &'static str {
        let Self::Client(error) = self else {
            return match self {
                Self::Unreachable => "PostgreSQL cannot be reached",
                Self::Silent | Self::Stuck => "PostgreSQL does not answer",
                _ => "PostgreSQL closed the connection",
            };
        };
        match error.code() {
            Some(code) if is_refusal(code) => "PostgreSQL refuses the login",
            Some(code) if is_about_the_table(code) => "the table cannot be read",
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => "the table is locked",
            Some(_) => "PostgreSQL reports an error",
            None => "the connection to PostgreSQL failed",
        }
    }

    /// What happened, which key is to blame and how to mend it.
    pub(super) fn explain(&self, names: &Names) -> String {
        let Self::Client(error) = self else {
            return match self {
                Self::Stuck => format!(
                    "{}: no rows for too long; see pg_locks for who holds the table",
                    names.table
                ),
                _ => format!("{}; see its log", self.why()),
            };
        };
        let said = chain(error);
        let Some(code) = error.code() else {
            return match said {
                said if said.contains("TLS") || said.contains("certificate") => format!(
                    "{said}; name the host in `blacklist.postgres.url` as its certificate does, and \
                     who signed that in `blacklist.postgres.ca_file`"
                ),
                said => format!("{said}; see `blacklist.postgres.url` and the server's log"),
            };
        };
        match code {
            code if *code == SqlState::UNDEFINED_TABLE
                || *code == SqlState::INVALID_SCHEMA_NAME =>
            {
                format!(
                    "`blacklist.postgres.table`: {said}; create {} or name another one: upper and \
                     lower case differ, and a schema outside the search path is part of the name",
                    names.table
                )
            }
            code if *code == SqlState::UNDEFINED_COLUMN => format!(
                "`blacklist.postgres.column`: {said}; name the column of {} that holds token ids",
                names.table
            ),
            code if *code == SqlState::INSUFFICIENT_PRIVILEGE => format!(
                "`blacklist.postgres.table`: {said}; GRANT SELECT ON {} (and USAGE ON its SCHEMA) \
                 to the user",
                names.table
            ),
            code if *code == SqlState::LOCK_NOT_AVAILABLE => format!(
                "{} is locked by another session; see pg_locks for who holds it",
                names.table
            ),
            code if *code == SqlState::INVALID_CATALOG_NAME => {
                format!("`blacklist.postgres.url`: {said}")
            }
            code if is_refusal(code) => format!(
                "{said}; see `blacklist.postgres.url` and `blacklist.postgres.password_file`"
            ),
            code => format!("{said} ({})", code.code()),
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

fn is_about_the_table(code: &SqlState) -> bool {
    *code == SqlState::UNDEFINED_TABLE
        || *code == SqlState::INVALID_SCHEMA_NAME
        || *code == SqlState::UNDEFINED_COLUMN
        || *code == SqlState::INSUFFICIENT_PRIVILEGE
}

/// What an error says, and what its causes say. What PostgreSQL says of a table holds no rows of it.
pub(super) fn chain(error: &Error) -> String {
    if let Some(error) = error.as_db_error() {
        return error.message().to_owned();
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
