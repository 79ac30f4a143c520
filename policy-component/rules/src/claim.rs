//! Claims: where a rule finds one, and what it asks of it.
//!
//! A claim that is `null` counts as absent. An anonymous request has no claims.

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use portcullis_policy::{Identity, SettingsError, Value};
use serde_json::{Number, Value as Json};

use crate::{claim_path, field::Field, inputs::Inputs};

/// Where to find a claim. The claims that every policy gets are not asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClaimRef {
    Subject,
    Issuer,
    TokenId,
    /// Position in the manifest.
    At(usize),
}

/// A claim that the caller has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Claim<'a> {
    Text(&'a str),
    Other(&'a Value),
}

/// A claim and what must be true of it.
#[derive(Debug)]
pub(crate) struct ClaimCondition {
    claim: ClaimRef,
    test: ClaimTest,
}

#[derive(Debug)]
enum ClaimTest {
    OneOf(Vec<Scalar>),
    Contains(Scalar),
    Present(bool),
}

/// A value to compare with.
#[derive(Debug)]
enum Scalar {
    Text(Box<str>),
    Boolean(bool),
    Integer(i128),
}

/// What the verification of tokens makes sure of.
#[derive(Debug, Clone, Copy)]
enum ClaimKind {
    /// A text that is not empty and has no blanks at its ends.
    Name,
    /// A text.
    Text,
    /// A number, of seconds.
    Time,
    /// Nothing.
    Any,
}

// === impl ClaimKind ===

impl ClaimKind {
    fn of(path: &[String]) -> Self {
        match path {
            [name] => match name.as_str() {
                "sub" | "jti" | "sid" => Self::Name,
                "iss" => Self::Text,
                "exp" | "nbf" | "iat" => Self::Time,
                _ => Self::Any,
            },
            _ => Self::Any,
        }
    }

    /// Reads a value that a claim of this kind can have.
    fn read(self, field: &Field<'_>) -> Result<Scalar, SettingsError> {
        let scalar = Scalar::read(field)?;
        match (self, &scalar) {
            (Self::Name | Self::Text, Scalar::Boolean(_) | Scalar::Integer(_)) => {
                Err(field.refuse("never holds, since this claim is a string; put it in quotes"))
            }
            (Self::Name, Scalar::Text(text)) if text.trim().is_empty() => {
                Err(field
                    .refuse("never holds, since this claim is never blank; test `present: false`"))
            }
            (Self::Name, Scalar::Text(text)) if text.trim() != &**text => Err(field.refuse(
                "never holds, since this claim has no blanks at its ends; remove the blank",
            )),
            (Self::Time, Scalar::Boolean(_) | Scalar::Text(_)) => Err(field.refuse(
                "never holds, since this claim is a time and so a number; times are checked when \
                 the token is verified, so remove this test",
            )),
            (Self::Time, Scalar::Integer(seconds)) if *seconds < 0 => Err(field.refuse(
                "never holds, since this claim is a time, which is not negative; remove this test",
            )),
            _ => Ok(scalar),
        }
    }
}

// === impl ClaimRef ===

impl ClaimRef {
    /// Reads `realm_access.roles` or `["https://example.com/roles"]` and asks for the claim.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let path = claim_path::read(field)?;
        Ok(match path.as_slice() {
            [name] if name == "sub" => Self::Subject,
            [name] if name == "iss" => Self::Issuer,
            [name] if name == "jti" => Self::TokenId,
            _ => Self::At(inputs.claim(path)),
        })
    }

    /// The claim, if the caller has it.
    pub(crate) fn find(self, identity: Option<&Identity>) -> Option<Claim<'_>> {
        let identity = identity?;
        match self {
            Self::Subject => identity.subject.as_deref().map(Claim::Text),
            Self::Issuer => identity.issuer.as_deref().map(Claim::Text),
            Self::TokenId => identity.token_id.as_deref().map(Claim::Text),
            Self::At(position) => match identity.claim(position)? {
                Value::Null => None,
                Value::Text(text) => Some(Claim::Text(text)),
                other => Some(Claim::Other(other)),
            },
        }
    }
}

// === impl Claim ===

impl<'a> Claim<'a> {
    /// The string, if it is one.
    pub(crate) const fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }

    /// Whether this is `text`, or the whole number that is written so.
    pub(crate) fn is_written(self, text: &str, equal: fn(&str, &str) -> bool) -> bool {
        match self {
            Self::Text(own) => equal(own, text),
            Self::Other(Value::Json(json)) => is_integer(json) && json == text,
            Self::Other(Value::Integer(integer)) => integer.to_string() == text,
            Self::Other(_) => false,
        }
    }

    /// Whether this is a list with the string `text` in it, or that string itself.
    pub(crate) fn contains_text(self, text: &str, equal: fn(&str, &str) -> bool) -> bool {
        match self {
            Self::Text(own) => equal(own, text),
            Self::Other(Value::Texts(texts)) => texts.iter().any(|own| equal(own, text)),
            Self::Other(_) => false,
        }
    }

    /// The whole number, if it is one. Those beyond 64 bits with a sign arrive as JSON text.
    fn integer(self) -> Option<i128> {
        match self {
            Self::Other(Value::Integer(integer)) => Some((*integer).into()),
            Self::Other(Value::Json(json)) if is_integer(json) => json.parse().ok(),
            Self::Text(_) | Self::Other(_) => None,
        }
    }

    fn equals(self, scalar: &Scalar) -> bool {
        match (self, scalar) {
            (Self::Text(own), Scalar::Text(text)) => own == &**text,
            (Self::Other(Value::Boolean(own)), Scalar::Boolean(boolean)) => own == boolean,
            (claim, Scalar::Integer(integer)) => claim.integer() == Some(*integer),
            _ => false,
        }
    }

    fn contains(self, scalar: &Scalar) -> bool {
        match (self, scalar) {
            (Self::Other(Value::Json(json)), _) if json.starts_with('[') => {
                list_contains(json, scalar)
            }
            (_, Scalar::Text(text)) => self.contains_text(text, str::eq),
            _ => self.equals(scalar),
        }
    }
}

/// Looks into a list that is not one of strings, which arrives as JSON text.
fn list_contains(json: &str, scalar: &Scalar) -> bool {
    serde_json::from_str::<Vec<Json>>(json)
        .is_ok_and(|items| items.iter().any(|item| scalar.is(item)))
}

/// Whether a JSON text is a whole number that is written out, and so exact.
pub(crate) fn is_integer(json: &str) -> bool {
    let digits = json.strip_prefix('-').unwrap_or(json);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

// === impl ClaimCondition ===

impl ClaimCondition {
    /// Reads `{claim: .., equals: ..}`.
    pub(crate) fn read(field: &Field<'_>, inputs: &mut Inputs) -> Result<Self, SettingsError> {
        let object = field.object(&["claim", "equals", "one_of", "contains", "present"])?;
        let name = object.require("claim", "the name of a claim")?;
        let kind = ClaimKind::of(&claim_path::read(&name)?);
        let claim = ClaimRef::read(&name, inputs)?;
        let (key, field) = object.only(&["equals", "one_of", "contains", "present"])?;
        let scalar = |field: &Field<'_>| kind.read(field);
        let test = match key {
            "equals" => ClaimTest::OneOf(vec![scalar(&field)?]),
            "one_of" => ClaimTest::OneOf(field.list(scalar)?),
            "contains" => ClaimTest::Contains(scalar(&field)?),
            _ => ClaimTest::Present(field.boolean()?),
        };
        Ok(Self { claim, test })
    }

    /// Whether the caller's claim is as it must be.
    pub(crate) fn holds(&self, identity: Option<&Identity>) -> bool {
        let claim = self.claim.find(identity);
        match &self.test {
            ClaimTest::OneOf(scalars) => {
                claim.is_some_and(|claim| scalars.iter().any(|scalar| claim.equals(scalar)))
            }
            ClaimTest::Contains(scalar) => claim.is_some_and(|claim| claim.contains(scalar)),
            ClaimTest::Present(expected) => claim.is_some() == *expected,
        }
    }
}

// === impl Scalar ===

impl Scalar {
    fn read(field: &Field<'_>) -> Result<Self, SettingsError> {
        match field.value() {
            Json::String(text) => Ok(Self::Text(text.to_owned().into())),
            Json::Bool(boolean) => Ok(Self::Boolean(*boolean)),
            Json::Number(number) => whole(number).map(Self::Integer).ok_or_else(|| {
                field.refuse("must be a whole number; fractions do not compare reliably")
            }),
            _ => Err(field.refuse("must be a string, a whole number, `true` or `false`")),
        }
    }

    fn is(&self, json: &Json) -> bool {
        match self {
            Self::Text(text) => json.as_str() == Some(text),
            Self::Boolean(boolean) => json.as_bool() == Some(*boolean),
            Self::Integer(integer) => json.as_number().and_then(whole) == Some(*integer),
        }
    }
}

/// A whole number that JSON text holds exactly.
fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_looks_at_whole_elements() {
        let admin = Scalar::Text("admin".into());
        let roles = Value::Texts(vec!["admin".into(), "user".into()]);
        assert!(Claim::Other(&roles).contains(&admin));
        assert!(Claim::Text("admin").contains(&admin), "a list of one may come as its element");
        assert!(!Claim::Text("not-admin").contains(&admin));
        let mixed = Value::Json("[1,\"admin\",{\"a\":2}]".into());
        assert!(Claim::Other(&mixed).contains(&admin));
        assert!(Claim::Other(&mixed).contains(&Scalar::Integer(1)));
        assert!(!Claim::Other(&mixed).contains(&Scalar::Integer(2)));
        let object = Value::Json("{\"admin\":true}".into());
        assert!(!Claim::Other(&object).contains(&admin));
        let large = Value::Json("18446744073709551615".into());
        assert!(Claim::Other(&large).contains(&Scalar::Integer(u64::MAX.into())));
        assert!(!Claim::Other(&large).contains(&admin));
    }

    #[test]
    fn a_number_that_was_rounded_equals_none() {
        let exact = Value::Json("18446744073709551615".into());
        let rounded = Value::Number(18_446_744_073_709_551_616.0);
        let most = Scalar::Integer(u64::MAX.into());
        assert!(Claim::Other(&exact).equals(&most));
        assert!(!Claim::Other(&rounded).equals(&most));
        assert!(Claim::Other(&exact).is_written("18446744073709551615", str::eq));
        assert!(!Claim::Other(&rounded).is_written("18446744073709551616", str::eq));
        assert!(!Claim::Other(&Value::Number(7.0)).is_written("7", str::eq));
        assert!(!Claim::Other(&Value::Json("[7]".into())).is_written("[7]", str::eq));
    }

    #[test]
    fn a_number_is_not_the_string_that_looks_like_it() {
        assert!(!Claim::Text("1").equals(&Scalar::Integer(1)));
        assert!(!Claim::Other(&Value::Integer(1)).equals(&Scalar::Text("1".into())));
        assert!(!Claim::Other(&Value::Boolean(true)).equals(&Scalar::Text("true".into())));
    }
}
