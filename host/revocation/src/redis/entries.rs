//! Reading entries from Redis: the commands, and parsing the answers.
//!
//! An entry without a time to live is permanent. The value of a token id is not read: its existence
//! decides. A cut-off is in the value, as the event that made it.

use std::time::Duration;

use portcullis_types::{timestamp::Timestamp, token_id::TokenId};
use redis::{Pipeline, Value};

use super::{
    ask::Ask,
    error::StoreError,
    keys::{Keys, Kind},
};
use crate::{ambient, event::Event};

/// An entry to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) key: String,
    /// The id of the token; `None` for a cut-off.
    pub(super) token_id: Option<TokenId>,
}

// === impl Wanted ===

impl Wanted {
    /// The entry that a key of the store stands for, if it is a key of Portcullis.
    pub(super) fn from_key(keys: &Keys, key: Vec<u8>) -> Option<Self> {
        // A token id is text, so a key that is not UTF-8 belongs to no token.
        let key = String::from_utf8(key).ok()?;
        match keys.kind(&key)? {
            Kind::Token(jti) => Some(Self { token_id: Some(TokenId::new(jti).ok()?), key }),
            Kind::Cutoff => Some(Self { token_id: None, key }),
        }
    }

    pub(super) const fn is_cutoff(&self) -> bool {
        self.token_id.is_none()
    }
}

/// Reads all of `wanted`: for each of them its event, if the entry exists.
pub(super) async fn read(
    keys: &Keys,
    wanted: &[Wanted],
    from: &impl Ask,
) -> Result<Vec<Option<Event>>, StoreError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let answers = from.ask(&commands(wanted)).await?;
    events(keys, wanted, answers, ambient::now())
}

/// The commands that read all of `wanted`: the time to live of each, then the values of the
/// cut-offs.
fn commands(wanted: &[Wanted]) -> Pipeline {
    let mut commands = Pipeline::with_capacity(wanted.len() + 1);
    for entry in wanted {
        commands.cmd("PTTL").arg(&entry.key);
    }
    if wanted.iter().any(Wanted::is_cutoff) {
        // Unlike GET, it does not fail for a key that holds something else.
        let values = commands.cmd("MGET");
        for entry in wanted.iter().filter(|entry| entry.is_cutoff()) {
            values.arg(&entry.key);
        }
    }
    commands
}

/// Parses the answers to [`commands`]: for each of `wanted` its event, if the entry exists.
fn events(
    keys: &Keys,
    wanted: &[Wanted],
    answers: Vec<Value>,
    now: Timestamp,
) -> Result<Vec<Option<Event>>, StoreError> {
    let mut answers = answers.into_iter();
    let lifetimes: Vec<Value> = answers.by_ref().take(wanted.len()).collect();
    let mut values = match answers.next() {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    }
    .into_iter();
    let cutoffs = wanted.iter().filter(|entry| entry.is_cutoff()).count();
    if lifetimes.len() != wanted.len() || values.len() != cutoffs {
        return Err(StoreError::nonsense());
    }
    let mut events = Vec::with_capacity(wanted.len());
    for (entry, lifetime) in wanted.iter().zip(lifetimes) {
        let value = if entry.is_cutoff() { values.next() } else { None };
        let Value::Int(millis) = lifetime else { return Err(StoreError::nonsense()) };
        events.push(match (millis, entry.token_id) {
            (-2, _) => None,
            (_, Some(token_id)) => Some(Event::Add { token_id, expires_at: expiry(millis, now) }),
            (_, None) => value.and_then(|value| cutoff(keys, entry, &value, expiry(millis, now))),
        });
    }
    Ok(events)
}

/// The expiry of an entry that lasts for `millis` more.
fn expiry(millis: i64, now: Timestamp) -> Option<Timestamp> {
    u64::try_from(millis).ok().map(|millis| now.plus(Duration::from_millis(millis)))
}

/// The cut-off in a value; `lifetime` is its expiry if the value has none.
fn cutoff(
    keys: &Keys,
    entry: &Wanted,
    value: &Value,
    lifetime: Option<Timestamp>,
) -> Option<Event> {
    // The entry expired between the two commands.
    let Value::BulkString(json) = value else { return None };
    match Event::parse(json) {
        Ok(Event::CutOff { cutoff, issued_before, except, expires_at })
            if keys.cutoff(cutoff) == entry.key =>
        {
            let expires_at = expires_at.or(lifetime);
            Some(Event::CutOff { cutoff, issued_before, except, expires_at })
        }
        Ok(_) => {
            tracing::warn!("a cut-off in Redis does not match its key; skipped");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "malformed cut-off in Redis; skipped");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, event::Cutoff};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn keys() -> Keys {
        let config: Config = serde_saphyr::from_str("redis: { url: 'redis://store' }").unwrap();
        Keys::new(&config.redis.unwrap())
    }

    fn token(jti: &str) -> Wanted {
        Wanted::from_key(&keys(), keys().token(jti).into_bytes()).unwrap()
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn add(jti: &str, expires_at: Option<Timestamp>) -> Event {
        Event::Add { token_id: TokenId::new(jti).unwrap(), expires_at }
    }

    #[test]
    fn how_long_a_key_lasts_is_how_long_the_token_is_revoked() {
        let wanted = [token("a"), token("b"), token("c"), token("d")];
        let answers = [1_500, -1, -2, 0].map(Value::Int).to_vec();
        let expected = [
            Some(add("a", Some(Timestamp::from_millis(1_001_500)))),
            Some(add("b", None)),
            None,
            Some(add("d", Some(NOW))),
        ];
        assert_eq!(events(&keys(), &wanted, answers, NOW).unwrap(), expected);
    }

    #[test]
    fn a_cut_off_is_in_its_value() {
        let cutoff = Cutoff::subject(None, "alice").unwrap();
        let other = Cutoff::subject(None, "bob").unwrap();
        let wanted = [cutoff, cutoff, cutoff, cutoff, other]
            .map(|cutoff| Wanted::from_key(&keys(), keys().cutoff(cutoff).into_bytes()).unwrap());
        let json = r#"{"type":"cutoff","sub":"alice","issued_before":10"#;
        let mut answers = [5_000, 5_000, -1, 5_000, 5_000].map(Value::Int).to_vec();
        answers.push(Value::Array(vec![
            text(&format!("{json},\"exp\":1999999999}}")),
            text(&format!("{json}}}")),
            text(&format!("{json}}}")),
            Value::Nil,
            text(&format!("{json}}}")),
        ]));
        let event = |expires_at: Option<i64>| {
            let issued_before = Timestamp::from_secs(10);
            let expires_at = expires_at.map(Timestamp::from_secs);
            Some(Event::CutOff { cutoff, issued_before, except: None, expires_at })
        };
        let expected = [event(Some(1_999_999_999)), event(Some(1_005)), event(None), None, None];
        assert_eq!(events(&keys(), &wanted, answers, NOW).unwrap(), expected);
    }

    #[test]
    fn answers_that_do_not_fit_are_an_error_and_never_an_empty_store() {
        let cutoff = Wanted { key: "k".to_owned(), token_id: None };
        let token = token("a");
        let one = std::slice::from_ref(&token);
        assert!(events(&keys(), one, vec![], NOW).is_err());
        assert!(events(&keys(), one, vec![Value::Nil], NOW).is_err());
        assert!(events(&keys(), one, vec![text("5")], NOW).is_err());
        let none = Value::Array(vec![]);
        assert!(events(&keys(), &[cutoff], vec![Value::Int(5), none], NOW).is_err());
    }

    #[test]
    fn other_keys_are_not_entries() {
        for key in [&b"blacklist"[..], b"blacklist:", b"blacklist: ", b"blacklist:\xff", b"x"] {
            assert_eq!(Wanted::from_key(&keys(), key.to_vec()), None);
        }
    }
}
