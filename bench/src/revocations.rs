//! Content of the blacklist: any number of token ids, the same in every run.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};

/// The first id of tokens that must be allowed, far behind the revoked ones.
pub(crate) const FIRST_VALID: u64 = 1 << 40;

/// The `n`-th token id, in the form of a random UUID. Ids below the size of the blacklist are
/// revoked.
pub(crate) fn token_id(n: u64) -> String {
    let (high, low) = (scramble(2 * n), scramble(2 * n + 1));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        (low >> 48) & 0x3fff | 0x8000,
        low & 0xffff_ffff_ffff,
    )
}

/// The events that revoke the ids `from..to`, one JSON object on each line.
pub(crate) fn events(now: Timestamp, from: u64, to: u64) -> String {
    let mut lines = String::new();
    for n in from..to {
        // Logins are spread over time, and so are the expiries of their tokens.
        let expires_at =
            now + SignedDuration::from_secs(i64::try_from(3600 + n % 3600).unwrap_or(3600));
        let jti = token_id(n);
        // Writing to a string cannot fail.
        let _ = writeln!(lines, r#"{{"type":"add","jti":"{jti}","expires_at":"{expires_at:.0}"}}"#);
    }
    lines
}

/// The `SplitMix64` generator, which yields every number once.
fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn token_ids_look_like_uuids_and_do_not_repeat() {
        let ids: HashSet<_> = (0..1000).map(token_id).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert_eq!(id.len(), 36);
            assert_eq!(id.as_bytes()[14], b'4');
        }
    }

    #[test]
    fn an_event_is_a_line_of_json_with_an_expiry_in_whole_seconds() {
        let lines = events("2030-01-01T00:00:00Z".parse().unwrap(), 0, 2);
        assert_eq!(lines.lines().count(), 2);
        let event: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(event["type"], "add");
        assert_eq!(event["jti"], token_id(0));
        assert_eq!(event["expires_at"], "2030-01-01T01:00:00Z");
    }
}
