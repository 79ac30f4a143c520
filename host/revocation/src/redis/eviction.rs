//! Check of Redis' eviction policy: a store that drops entries when its memory is full silently
//! un-revokes tokens.

use super::{ask::Ask, error::StoreError};

/// The behaviour of the store when its memory is full.
#[derive(Debug, PartialEq, Eq)]
enum Eviction {
    /// It refuses writes, or has no limit.
    Keeps,
    /// It drops entries.
    Drops(String),
    /// It cannot be determined.
    Unknown,
}

/// Whether the store drops entries when its memory is full. Logs an error if so.
pub(super) async fn check(store: &impl Ask) -> Result<bool, StoreError> {
    let eviction = match store.ask::<(String,)>(redis::pipe().cmd("INFO").arg("memory")).await {
        Ok((info,)) => read(&info),
        // Some users have no permission for `INFO`. That must not prevent a start.
        Err(StoreError::Refused(_)) => Eviction::Unknown,
        Err(error) => return Err(error),
    };
    match &eviction {
        Eviction::Keeps => {}
        Eviction::Drops(policy) => tracing::error!(
            policy,
            "Redis drops entries when its memory is full, and with them revocations; set \
             `maxmemory-policy noeviction`"
        ),
        Eviction::Unknown => tracing::warn!(
            "cannot tell whether Redis drops entries when its memory is full; allow the user \
             `+info`, or see to it that `maxmemory-policy` is `noeviction`"
        ),
    }
    Ok(matches!(eviction, Eviction::Drops(_)))
}

fn read(info: &str) -> Eviction {
    let field = |name: &str| {
        info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    };
    match (field("maxmemory"), field("maxmemory_policy")) {
        (Some("0"), _) | (_, Some("noeviction")) => Eviction::Keeps,
        (_, Some(policy)) => Eviction::Drops(policy.to_owned()),
        (_, None) => Eviction::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_store_that_drops_entries_is_a_danger() {
        let read_lines = |limit: &str, policy: &str| {
            read(&format!("# Memory\r\nmaxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n"))
        };
        assert_eq!(read_lines("0", "allkeys-lru"), Eviction::Keeps);
        assert_eq!(read_lines("1000000", "noeviction"), Eviction::Keeps);
        for policy in ["allkeys-lru", "volatile-ttl"] {
            assert_eq!(read_lines("1000000", policy), Eviction::Drops(policy.to_owned()));
        }
        assert_eq!(read("# Memory\r\n"), Eviction::Unknown);
    }
}
