//! Messages of the broker: events, probes, and malformed ones.

use std::hash::{DefaultHasher, Hash, Hasher};

use portcullis_types::json::{JsonObject, JsonRef};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::event::{self, Event, ParseEventError, Unrevocation, UnrevocationTarget};

/// A reading of the unslewed clock, in milliseconds.
pub(super) type Millis = i64;

/// A parsed message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A revocation. Its publisher may wait for a receipt.
    Revocation(Event, Option<String>),
    /// An un-revocation, which the store has yet to confirm.
    Unrevocation(Unrevocation),
    /// A probe of a replica.
    Probe(StreamProbe),
    /// Neither an event nor a probe.
    Malformed(ParseEventError),
}

/// A probe. Those of older versions have only a sender and a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamProbe {
    /// The replica that sent it.
    pub(super) from: String,
    pub(super) number: u64,
    /// When it was sent, by the unslewed clock of the sender.
    pub(super) at: Option<Millis>,
    /// Whether the sender is the leader, which sends the next one.
    pub(super) leads: bool,
    /// The probes of others that the sender has seen lately.
    pub(super) saw: Vec<Saw>,
}

/// A probe that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saw {
    /// The replica that sent it.
    pub(super) from: String,
    #[serde(rename = "n")]
    pub(super) number: u64,
    /// When it was seen, by the unslewed clock of the replica that saw it.
    pub(super) at: Millis,
}

// === impl Parsed ===

impl Parsed {
    /// Reads a message.
    pub(super) fn read(message: &[u8]) -> Self {
        let fields = match event::fields(message) {
            Ok(fields) => fields,
            Err(error) => return Self::Malformed(error),
        };
        let text = |name| fields.get(name)?.as_str();
        if text("type") == Some("probe") {
            return Self::Probe(StreamProbe::read(&fields));
        }
        let receipt = text("receipt").map(str::to_owned);
        let target = match Event::from_fields(&fields, None) {
            Ok(Event::Unrevoke { token_id }) => {
                UnrevocationTarget::Token(token_id, text("jti").unwrap_or_default().to_owned())
            }
            Ok(Event::LiftCutoff { cutoff }) => UnrevocationTarget::Cutoff(cutoff),
            Ok(event) => return Self::Revocation(event, receipt),
            Err(error) => return Self::Malformed(error),
        };
        Self::Unrevocation(Unrevocation::new(target, receipt))
    }
}

// === impl StreamProbe ===

impl StreamProbe {
    /// A field that is missing or of another type counts as absent.
    fn read(fields: &JsonObject) -> Self {
        let number = |name| match fields.get(name) {
            Some(JsonRef::Number(number)) => Some(number),
            _ => None,
        };
        let saw = fields.get("saw").map(|saw| saw.to_value()).unwrap_or_default();
        Self {
            from: fields.get("from").and_then(|from| from.as_str()).unwrap_or_default().to_owned(),
            number: number("n").and_then(|number| number.as_u64()).unwrap_or_default(),
            at: number("at").and_then(|number| number.as_i64()),
            leads: fields.get("leads") == Some(JsonRef::Bool(true)),
            saw: serde_json::from_value(saw).unwrap_or_default(),
        }
    }

    /// The message, as [`Parsed::read`] reads it.
    pub(super) fn write(&self) -> Vec<u8> {
        let Self { from, number, at, leads, saw } = self;
        let mut fields = json!({ "type": "probe", "from": from, "n": number, "at": at });
        if *leads {
            fields["leads"] = true.into();
        }
        if !saw.is_empty() {
            fields["saw"] = json!(saw);
        }
        fields.to_string().into_bytes()
    }
}

/// A hash of the message, to tell messages apart.
pub(super) fn digest(message: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use portcullis_types::token_id::TokenId;
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn read(message: &Value) -> Parsed {
        Parsed::read(message.to_string().as_bytes())
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
    fn what_a_probe_does_not_say_is_absent() {
        let bare = |from: &str, number| StreamProbe {
            from: from.to_owned(),
            number,
            at: None,
            leads: false,
            saw: vec![],
        };
        let cases = [
            (json!({"type": "probe", "from": "you", "n": 7}), bare("you", 7)),
            (json!({"type": "probe", "from": "me", "n": "7", "at": "1"}), bare("me", 0)),
            (json!({"type": "probe", "from": 5, "n": -7, "leads": 1}), bare("", 0)),
            (json!({"type": "probe", "from": "me", "n": 1, "saw": [{"from": "a"}]}), bare("me", 1)),
            (json!({"type": "probe"}), bare("", 0)),
        ];
        for (message, probe) in cases {
            assert_eq!(read(&message), Parsed::Probe(probe), "{message}");
        }
    }

    #[test]
    fn everything_else_is_malformed() {
        let unknown = Parsed::Malformed(ParseEventError::UnknownType);
        assert_eq!(read(&json!({"type": "probes", "from": "me", "n": 7})), unknown);
        let garbage = Parsed::read(b"\xff\x00");
        assert_eq!(garbage, Parsed::Malformed(ParseEventError::NotAnObject));
    }

    proptest! {
        #[test]
        fn no_message_panics(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Parsed::read(&message);
        }

        #[test]
        fn a_probe_is_read_back_as_it_was_written(
            from in "\\PC+",
            number: u64,
            at: Millis,
            leads: bool,
            saw in prop::collection::vec(("\\PC*", any::<u64>(), any::<Millis>()), 0..4),
        ) {
            let saw = saw.into_iter().map(|(from, number, at)| Saw { from, number, at }).collect();
            let probe = StreamProbe { from, number, at: Some(at), leads, saw };
            prop_assert_eq!(Parsed::read(&probe.write()), Parsed::Probe(probe));
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
