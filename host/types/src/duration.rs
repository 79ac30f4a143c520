//! Durations as they are written in the configuration: `250ms`, `5s`, `1m`, `2h`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

/// A duration that is written as a whole number with a unit: `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(Duration);

/// A text is not a duration.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is not a duration; write a whole number and a unit, such as 250ms, 5s, 1m, 2h or 7d"
)]
pub struct ParseDurationError(String);

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl HumanDuration {
    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The duration itself.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for HumanDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseDurationError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| error())?;
        let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
        number.checked_mul(*millis).map(Self::from_millis).ok_or_else(error)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let whole = UNITS.iter().find(|(_, unit)| millis >= *unit && millis.is_multiple_of(*unit));
        let (name, unit) = whole.unwrap_or(&("ms", 1));
        write!(f, "{}{name}", millis / unit)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = HumanDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number with a unit, such as 250ms, 5s or 7d,")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<HumanDuration, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "description": "A whole number and a unit: `250ms`, `5s`, `1m`, `2h`, `7d`.",
        })
    }
}

/// Reads a duration that must not be zero, for `deserialize_with`.
///
/// # Errors
/// When it is not a duration, or zero.
pub fn longer_than_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<HumanDuration, D::Error> {
    let duration = HumanDuration::deserialize(deserializer)?;
    if duration.get().is_zero() {
        return Err(serde::de::Error::custom("must be longer than zero, such as 1s"));
    }
    Ok(duration)
}

/// The same for an optional duration.
///
/// # Errors
/// When it is not a duration, or zero.
pub fn longer_than_zero_if_any<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<HumanDuration>, D::Error> {
    let duration = Option::<HumanDuration>::deserialize(deserializer)?;
    if duration.is_some_and(|duration| duration.get().is_zero()) {
        return Err(serde::de::Error::custom("must be longer than zero, such as 1h"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_needs_a_number_and_a_unit() {
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "5sec", "99999999999999999999s"] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text}");
        }
        assert_eq!("5s".parse::<HumanDuration>().unwrap().get(), Duration::from_secs(5));
    }

    #[test]
    fn a_duration_of_zero_is_refused_where_it_makes_no_sense() {
        #[derive(Debug, Deserialize)]
        struct Section {
            #[serde(deserialize_with = "longer_than_zero")]
            interval: HumanDuration,
        }
        let read = |text: &str| serde_json::from_str::<Section>(text);
        assert_eq!(read(r#"{"interval": "1ms"}"#).unwrap().interval.get().as_millis(), 1);
        for zero in ["0ms", "0s", "0d"] {
            let error = read(&format!(r#"{{"interval": "{zero}"}}"#)).unwrap_err().to_string();
            assert!(error.contains("longer than zero, such as 1s"), "{zero}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_back(millis in 0..10_000_000_000_u64) {
            let duration = HumanDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
        }
    }
}
