//! Errors of Redis, for people: never with a key, a value or a password. The server's own text is
//! omitted, because it quotes what it was sent.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// A command failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no connection to it.
    #[error("cannot connect to Redis at {address}: {cause}")]
    Connect {
        /// Where it should be.
        address: String,
        /// What went wrong.
        cause: String,
    },
    /// The sentinels do not lead to a primary.
    #[error("no sentinel leads to the primary `{master_name}`: {cause}")]
    NoPrimary {
        /// The name of the primary that was looked up.
        master_name: String,
        /// What went wrong last.
        cause: String,
    },
    /// It took too long.
    #[error("Redis did not answer within {0:?}")]
    Timeout(Duration),
    /// The connection broke.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// It refused the command.
    #[error("Redis refused: {0}")]
    Refused(String),
    /// The primary changed since the operation began.
    #[error("the primary changed meanwhile")]
    Moved,
    /// The feed has ended.
    #[error("the blacklist feed has ended")]
    Closed,
}

// === impl StoreError ===

impl StoreError {
    /// The error of a command that was sent.
    pub(super) fn of(error: &RedisError) -> Self {
        if error.is_io_error() {
            return Self::Broken(describe(error));
        }
        Self::Refused(describe(error))
    }

    /// The error for an answer that does not match its command.
    pub(super) fn nonsense() -> Self {
        Self::Broken("an answer does not fit its question".to_owned())
    }

    /// Whether a retry on another connection may succeed.
    pub(super) const fn is_of_the_connection(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Closed)
    }
}

/// A simple rule that works for every role. `docs/permissions.md` lists the least permissions for
/// each role.
const NO_RIGHTS: &str = "the user may not do this; allow it `+@connection +@read +@write \
     +@scripting +info +role +time +wait` on the keys that begin with `key_prefix` (without the colon \
     at its end), with `outbox` and with `portcullis:`";

/// Whether the connection on which `error` came cannot be used any more.
pub(super) fn is_fatal(error: &RedisError) -> bool {
    use ServerErrorKind::{BusyLoading, MasterDown, ReadOnly};
    error.is_io_error()
        || matches!(
            error.kind(),
            ErrorKind::Parse
                | ErrorKind::AuthenticationFailed
                | ErrorKind::Server(BusyLoading | MasterDown | ReadOnly)
        )
}

/// What is wrong, and the fix.
pub(super) fn describe(error: &RedisError) -> String {
    use ServerErrorKind::{BusyLoading, MasterDown, NoPerm, ReadOnly};
    let words = match error.kind() {
        // The text of the operating system or of the TLS library.
        ErrorKind::Io => return error.to_string(),
        ErrorKind::AuthenticationFailed => {
            "wrong user or password; check `username` and `password_file`"
        }
        ErrorKind::Parse => {
            "the answer is not in its protocol; check host and port, and whether \
                             it needs TLS (`rediss://`)"
        }
        ErrorKind::Server(NoPerm) => NO_RIGHTS,
        ErrorKind::Server(_) if is_about_rights_of_a_script(error) => NO_RIGHTS,
        ErrorKind::Server(BusyLoading) => "it is still loading its data",
        ErrorKind::Server(MasterDown) => "it is a replica that has lost its primary",
        ErrorKind::Server(ReadOnly) => "it is a replica; give the address of the primary",
        _ => "",
    };
    match (error.code(), words) {
        (Some(code), "") => code.to_owned(),
        (Some(code), words) => format!("{words} ({code})"),
        (None, "") => error.category().to_owned(),
        (None, words) => words.to_owned(),
    }
}

/// A missing permission of a command in a script is reported as an error of the script, by older
/// servers without an error code of its own.
fn is_about_rights_of_a_script(error: &RedisError) -> bool {
    error.detail().is_some_and(|words| {
        words.contains("The user executing the script") || words.contains("ACL failure in script")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    #[test]
    fn the_servers_own_words_are_not_shown() {
        for line in [
            "ERR unknown command 'EVAL', with args beginning with: 'blacklist:hush'",
            "NOPERM this user has no permissions to access one of the keys 'hush'",
            "WRONGTYPE hush",
            "READONLY hush",
            "CUSTOM hush",
        ] {
            let shown = StoreError::of(&server_error(line)).to_string();
            assert!(!shown.contains("hush"), "{shown}");
            assert!(shown.starts_with("Redis refused: "), "{shown}");
        }
    }

    #[test]
    fn missing_permissions_are_reported_with_the_fix_in_a_script_too() {
        for line in [
            "NOPERM User hush has no permissions to run the 'time' command",
            "NOPERM ACL failure in script: User hush has no permissions to run the 'time' command",
            "ERR ACL failure in script: User hush has no permissions to run the 'time' command",
            "ERR The user executing the script can't run this command or subcommand script: hush",
            "ERR Error running script (call to f_hush): @user_script:1: @user_script: 1: The user \
             executing the script can't access at least one of the keys",
        ] {
            let shown = StoreError::of(&server_error(line)).to_string();
            assert!(shown.contains("allow it") && shown.contains("+time"), "{line}: {shown}");
            assert!(!shown.contains("hush"), "{shown}");
        }
        let other = StoreError::of(&server_error("ERR syntax error")).to_string();
        assert!(!other.contains("allow it"), "{other}");
    }

    #[test]
    fn a_server_that_is_no_primary_is_left_for_another() {
        for line in ["READONLY no", "LOADING yes", "MASTERDOWN yes"] {
            assert!(is_fatal(&server_error(line)), "{line}");
        }
        for line in ["ERR no", "WRONGTYPE no", "NOPERM no", "OOM no"] {
            assert!(!is_fatal(&server_error(line)), "{line}");
        }
    }
}
