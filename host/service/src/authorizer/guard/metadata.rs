//! Bounds of dynamic metadata, so that Envoy can read it.
//!
//! Envoy's protobuf parser stops at 100 nested messages, and each level of an object takes three of
//! them. It then reads nothing of the answer, be it an allow or a deny.

use serde_json::Value;

/// Objects and lists inside each other.
const MAX_DEPTH: usize = 16;
/// Keys and values of all kinds.
const MAX_VALUES: usize = 1_000;
/// All keys and texts together.
const MAX_BYTES: usize = 60_000;

/// The metadata is more than may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "metadata of more than {MAX_DEPTH} levels, {MAX_VALUES} values or {MAX_BYTES} bytes of text"
)]
pub(in crate::authorizer) struct TooMuch;

/// Checks the metadata of a decision.
///
/// # Errors
/// When it is deeper, wider or longer than the limits.
pub(super) fn check(entries: &[(String, Value)]) -> Result<(), TooMuch> {
    let mut left = Left { values: MAX_VALUES, bytes: MAX_BYTES };
    entries.iter().try_for_each(|(key, value)| left.take(key, value, MAX_DEPTH))
}

/// What may still come.
struct Left {
    values: usize,
    bytes: usize,
}

impl Left {
    fn take(&mut self, key: &str, value: &Value, depth: usize) -> Result<(), TooMuch> {
        let text = if let Value::String(text) = value { text.len() } else { 0 };
        self.values = self.values.checked_sub(1).ok_or(TooMuch)?;
        self.bytes = self.bytes.checked_sub(key.len() + text).ok_or(TooMuch)?;
        let inside = || depth.checked_sub(1).ok_or(TooMuch);
        match value {
            Value::Object(fields) => {
                let depth = inside()?;
                fields.iter().try_for_each(|(key, value)| self.take(key, value, depth))
            }
            Value::Array(items) => {
                let depth = inside()?;
                items.iter().try_for_each(|value| self.take("", value, depth))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(depth: usize, wrap: fn(Value) -> Value) -> Vec<(String, Value)> {
        vec![("a".to_owned(), (0..depth).fold(json!(1), |inner, _| wrap(inner)))]
    }

    #[test]
    fn depth_is_bounded_for_objects_and_lists() {
        for wrap in [|inner| json!({"a": inner}), |inner| json!([inner])] as [fn(Value) -> Value; 2]
        {
            assert_eq!(check(&nested(0, wrap)), Ok(()));
            assert_eq!(check(&nested(MAX_DEPTH, wrap)), Ok(()));
            assert_eq!(check(&nested(MAX_DEPTH + 1, wrap)), Err(TooMuch));
            assert_eq!(check(&nested(120, wrap)), Err(TooMuch));
        }
    }

    #[test]
    fn number_and_size_are_bounded_wherever_they_are() {
        let many = |count: usize| vec![("a".to_owned(), json!(vec![1; count]))];
        assert_eq!(check(&many(MAX_VALUES - 1)), Ok(()));
        assert_eq!(check(&many(MAX_VALUES)), Err(TooMuch));
        let entries = |count: usize| -> Vec<_> {
            (0..count).map(|number| (number.to_string(), Value::Null)).collect()
        };
        assert_eq!(check(&entries(MAX_VALUES)), Ok(()));
        assert_eq!(check(&entries(MAX_VALUES + 1)), Err(TooMuch));
        let text = |length: usize| "x".repeat(length);
        assert_eq!(check(&[("a".to_owned(), text(MAX_BYTES - 1).into())]), Ok(()));
        assert_eq!(check(&[("a".to_owned(), text(MAX_BYTES).into())]), Err(TooMuch));
        assert_eq!(check(&[(text(MAX_BYTES + 1), Value::Null)]), Err(TooMuch));
        let key = json!({text(MAX_BYTES): 1});
        assert_eq!(check(&[("a".to_owned(), key)]), Err(TooMuch));
    }
}
