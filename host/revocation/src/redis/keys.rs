//! Names of the keys that Portcullis uses in Redis.

use crate::{
    config::{INDEX_PREFIX, RedisConfig, Snapshot},
    event::Cutoff,
};

/// The names that the configuration determines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The prefix of a token id.
    token_prefix: String,
    /// The prefix of the digest of a cut-off.
    cutoff_prefix: String,
    /// Their common prefix, for one scan that finds them all.
    stem: String,
    /// The index of all these, if there is one (a sorted set).
    pub(super) index: Option<String>,
    /// The list in which publishers leave events for the relay.
    pub(crate) outbox: String,
    /// The list of entries that cannot be relayed.
    pub(crate) dead_letters: String,
    /// The list of events whose type the relay does not know.
    pub(crate) unknown: String,
    /// The list with which publishers of Portcullis wake the relay.
    pub(crate) wake_up: String,
}

/// What a key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// A revoked token, by its id.
    Token(&'a str),
    /// A cut-off.
    Cutoff,
}

/// The ready replicas, by the time of the last heartbeat of each (a sorted set).
pub(crate) const REPLICAS: &str = "portcullis:replicas";

/// The awaited receipts, by the time at which each was requested (a sorted set).
pub(crate) const RECEIPTS: &str = "portcullis:receipts";

/// The lock of the leading relay.
pub(crate) const RELAY_LOCK: &str = "portcullis:relay:lock";

/// How many characters the digest of a cut-off has.
const DIGEST_LENGTH: usize = 32;

// === impl Keys ===

impl Keys {
    pub(super) fn new(config: &RedisConfig) -> Self {
        let stem = config.key_prefix.trim_end_matches(':').to_owned();
        Self {
            token_prefix: config.key_prefix.clone(),
            cutoff_prefix: format!("{stem}.cutoff:"),
            index: (config.snapshot == Snapshot::Index).then(|| format!("{INDEX_PREFIX}{stem}")),
            stem,
            outbox: config.outbox.clone(),
            dead_letters: format!("{}:dlq", config.outbox),
            unknown: format!("{}:unknown", config.outbox),
            wake_up: format!("{}:wake", config.outbox),
        }
    }

    /// The key of a revoked token.
    pub(crate) fn token(&self, jti: &str) -> String {
        format!("{}{jti}", self.token_prefix)
    }

    /// The key of a cut-off.
    pub(crate) fn cutoff(&self, cutoff: Cutoff) -> String {
        format!("{}{:032x}", self.cutoff_prefix, u128::from_be_bytes(cutoff.digest()))
    }

    /// The pattern that finds all tokens and cut-offs, and perhaps others.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for character in self.stem.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        pattern
    }

    /// What a key stands for, if it is a key of Portcullis.
    pub(super) fn kind<'a>(&self, key: &'a str) -> Option<Kind<'a>> {
        if key.strip_prefix(&self.cutoff_prefix).is_some_and(is_digest) {
            return Some(Kind::Cutoff);
        }
        key.strip_prefix(&self.token_prefix).map(Kind::Token)
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The replicas that have applied the event with this receipt (a set).
pub(crate) fn receipt(receipt: &str) -> String {
    format!("portcullis:receipt:{receipt}")
}

/// The events of the operation that the event with this receipt completes (a list).
pub(super) fn events_of(receipt: &str) -> String {
    format!("portcullis:receipt:{receipt}:events")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn keys(more: &str) -> Keys {
        let yaml = format!("redis: {{ url: 'redis://store'{more} }}");
        Keys::new(&serde_saphyr::from_str::<Config>(&yaml).unwrap().redis.unwrap())
    }

    #[test]
    fn the_names_are_those_that_publishers_use() {
        let keys = keys("");
        assert_eq!(keys.token("j"), "blacklist:j");
        assert_eq!(
            [keys.outbox.as_str(), keys.dead_letters.as_str(), keys.unknown.as_str()],
            ["outbox:blacklist", "outbox:blacklist:dlq", "outbox:blacklist:unknown"]
        );
        let cutoff = keys.cutoff(Cutoff::subject(None, "alice").unwrap());
        let digest = cutoff.strip_prefix("blacklist.cutoff:").unwrap();
        assert!(is_digest(digest), "{cutoff}");
        assert_eq!(keys.cutoff(Cutoff::subject(None, "alice").unwrap()), cutoff);
        assert_eq!(receipt("r"), "portcullis:receipt:r");
    }

    #[test]
    fn there_is_an_index_where_it_is_asked_for() {
        assert_eq!(keys("").index, None);
        assert_eq!(keys(", snapshot: index").index.as_deref(), Some("portcullis:index:blacklist"));
    }

    #[test]
    fn what_is_written_is_recognised() {
        for prefix in ["blacklist:", "bl-", "a::", "we[i]rd*?\\^:"] {
            let keys = keys(&format!(", key_prefix: '{prefix}'"));
            for jti in ["j", ".cutoff:", "a:b", "\u{c720}"] {
                assert_eq!(keys.kind(&keys.token(jti)), Some(Kind::Token(jti)), "{prefix}");
            }
            let cutoff = keys.cutoff(Cutoff::issuer("i").unwrap());
            assert_eq!(keys.kind(&cutoff), Some(Kind::Cutoff), "{prefix}");
            assert_eq!(keys.kind("other"), None);
        }
    }

    #[test]
    fn the_pattern_means_its_characters_literally() {
        assert_eq!(keys("").pattern(), "blacklist*");
        assert_eq!(keys(", key_prefix: 'a*b?[c]:'").pattern(), "a\\*b\\?\\[c\\]*");
    }
}
