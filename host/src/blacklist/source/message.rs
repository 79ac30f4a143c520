//! Messages of the broker: events, probes, and everything else.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::removals::{Removal, Target};
use crate::{
    blacklist::{Event, ParseEventError, event},
    telemetry::Received,
};

/// What a message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// Something is revoked. Its publisher may wait for a receipt.
    Revocation(Event, Option<String>),
    /// Something is no longer revoked, if the store agrees.
    Removal(Removal),
    /// A probe of a replica; if it is ours, its number.
    Probe(Option<u64>),
    /// Nothing that we know.
    Malformed(ParseEventError),
}

// === impl Parsed ===

impl Parsed {
    /// Reads a message. `replica` is how we sign our probes.
    pub(super) fn read(message: &[u8], replica: &str) -> Self {
        let fields = match event::fields(message) {
            Ok(fields) => fields,
            Err(error) => return Self::Malformed(error),
        };
        let text = |name| fields.get(name).and_then(Value::as_str);
        if text("type") == Some("probe") {
            let ours = text("from") == Some(replica);
            return Self::Probe(fields.get("n").and_then(Value::as_u64).filter(|_| ours));
        }
        let receipt = text("receipt").map(str::to_owned);
        let target = match Event::from_fields(&fields) {
            Ok(Event::Remove { token_id }) => {
                Target::Token(token_id, text("jti").unwrap_or_default().to_owned())
            }
            Ok(Event::Lift { cutoff }) => Target::Cutoff(cutoff),
            Ok(event) => return Self::Revocation(event, receipt),
            Err(error) => return Self::Malformed(error),
        };
        Self::Removal(Removal::new(target, receipt))
    }
}

/// As what an event is counted.
pub(super) const fn kind(event: &Event) -> Received {
    match event {
        Event::Add { .. } => Received::Add,
        Event::Remove { .. } => Received::Remove,
        Event::CutOff { .. } => Received::CutOff,
        Event::Lift { .. } => Received::Lift,
    }
}

/// A probe as [`Parsed::read`] reads it.
pub(super) fn probe(replica: &str, number: u64) -> Vec<u8> {
    json!({ "type": "probe", "from": replica, "n": number }).to_string().into_bytes()
}

/// A number that two different messages hardly ever share.
pub(super) fn digest(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::token_id::TokenId;

    fn read(message: &Value) -> Parsed {
        Parsed::read(message.to_string().as_bytes(), "me")
    }

    fn add() -> Event {
        Event::Add { token_id: TokenId::new("j").unwrap(), expires_at: None }
    }

    #[test]
    fn an_event_may_carry_a_receipt_and_is_the_same_event_without() {
        assert_eq!(read(&json!({"jti": "j"})), Parsed::Revocation(add(), None));
        let receipt = Some("r".to_owned());
        assert_eq!(read(&json!({"jti": "j", "receipt": "r"})), Parsed::Revocation(add(), receipt));
        for unusable in [json!(1), json!(null), json!(["r"]), json!({})] {
            let message = json!({"jti": "j", "receipt": unusable});
            assert_eq!(read(&message), Parsed::Revocation(add(), None));
        }
    }

    #[test]
    fn only_our_own_probes_have_a_number() {
        assert_eq!(Parsed::read(&probe("me", 7), "me"), Parsed::Probe(Some(7)));
        for message in [
            json!({"type": "probe", "from": "you", "n": 7}),
            json!({"type": "probe", "from": "me", "n": "7"}),
            json!({"type": "probe", "from": "me", "n": -7}),
            json!({"type": "probe"}),
        ] {
            assert_eq!(read(&message), Parsed::Probe(None), "{message}");
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        let unknown = Parsed::Malformed(ParseEventError::UnknownType);
        assert_eq!(read(&json!({"type": "probes", "from": "me", "n": 7})), unknown);
        let garbage = Parsed::read(b"\xff\x00", "me");
        assert_eq!(garbage, Parsed::Malformed(ParseEventError::NotAnObject));
    }

    proptest! {
        #[test]
        fn no_message_panics(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Parsed::read(&message, "me");
        }

        #[test]
        fn a_probe_is_read_back_by_whoever_sent_it(name in "\\PC+", number: u64) {
            prop_assert_eq!(Parsed::read(&probe(&name, number), &name), Parsed::Probe(Some(number)));
        }

        #[test]
        fn whatever_else_a_message_holds_the_event_is_the_same(
            key in "[a-z]{1,8}",
            value in ".*",
        ) {
            let known = ["type", "jti", "exp", "expiry", "expire_at", "expires_at", "receipt"];
            prop_assume!(!known.contains(&key.as_str()));
            prop_assert_eq!(read(&json!({"jti": "j", key: value})), Parsed::Revocation(add(), None));
        }
    }
}
