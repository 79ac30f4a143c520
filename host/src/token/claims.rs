//! Owns what a verified token says: its registered claims, strictly typed, and all others.

use std::{fmt, sync::Arc, time::Duration};

use serde_json::{Map, Number, Value};

use super::verify_error::VerifyError;
use crate::{timestamp::Timestamp, token_id::TokenId};

/// A token whose signature and claims were verified.
///
/// It can only be obtained from [`Verifier::verify`](super::Verifier::verify). `Debug` shows none of
/// its claims.
pub struct VerifiedToken {
    issuer_name: Arc<str>,
    claims: Map<String, Value>,
    token_id: Option<TokenId>,
    issued_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    leeway: Duration,
    scopes: Vec<String>,
}

impl VerifiedToken {
    /// Reads the registered claims (RFC 7519 section 4.1). One of a wrong type is never taken for
    /// one that is absent.
    pub(super) fn read(
        claims: Map<String, Value>,
        issuer_name: &Arc<str>,
        leeway: Duration,
    ) -> Result<Self, VerifyError> {
        for name in ["sub", "sid"] {
            text(&claims, name)?;
        }
        let token_id = text(&claims, "jti")?
            .map(TokenId::new)
            .transpose()
            .map_err(|_| VerifyError::MalformedClaim("jti"))?;
        Ok(Self {
            issuer_name: Arc::clone(issuer_name),
            token_id,
            issued_at: time(&claims, "iat")?,
            not_before: time(&claims, "nbf")?,
            expires_at: time(&claims, "exp")?,
            leeway,
            scopes: scopes(&claims)?,
            claims,
        })
    }

    /// Whether the token is good at `now`, with the issuer's leeway at both ends.
    pub(super) fn check_times(&self, now: Timestamp) -> Result<(), VerifyError> {
        if self.expires_at.is_some_and(|exp| now >= exp.plus(self.leeway)) {
            return Err(VerifyError::Expired);
        }
        if self.not_before.is_some_and(|nbf| now.plus(self.leeway) < nbf) {
            return Err(VerifyError::NotYetValid);
        }
        Ok(())
    }

    /// The name under which the configuration knows the issuer.
    #[must_use]
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// `iss`: what the issuer calls itself.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.string("iss")
    }

    /// `sub`: whom the token is about. Never blank.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.string("sub")
    }

    /// The identity derived from `jti`, under which the token can be revoked.
    #[must_use]
    pub fn token_id(&self) -> Option<&TokenId> {
        self.token_id.as_ref()
    }

    /// `sid`: the session that the token belongs to (`OpenID` Connect). Never blank.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.string("sid")
    }

    /// `iat`: when the token was issued.
    #[must_use]
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    /// `exp`: when the token expires. It is accepted for [`VerifiedToken::leeway`] longer.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The issuer's leeway.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        self.leeway
    }

    /// The scopes in `scope` (RFC 8693 section 4.2) or, without that, in `scp`.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// The claim at `path`: the name of a claim, then the names inside it. Names are taken as they
    /// are, so that a claim may be called `https://example.com/roles`.
    #[must_use]
    pub fn claim(&self, path: &[impl AsRef<str>]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        let claim = self.claims.get(first.as_ref())?;
        rest.iter().try_fold(claim, |value, name| value.as_object()?.get(name.as_ref()))
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    fn string(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }
}

impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken")
            .field("issuer_name", &self.issuer_name)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// A claim that, where it is present, is a text with something in it.
pub(super) fn text<'c>(
    claims: &'c Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'c str>, VerifyError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
        Some(_) => Err(VerifyError::MalformedClaim(name)),
    }
}

/// A claim that, where it is present, is a text or a list of texts.
pub(super) fn texts<'c>(
    claims: &'c Map<String, Value>,
    name: &'static str,
) -> Result<Option<Vec<&'c str>>, VerifyError> {
    let list = match claims.get(name) {
        None => return Ok(None),
        Some(Value::String(text)) => Some(vec![text.as_str()]),
        Some(Value::Array(list)) => list.iter().map(Value::as_str).collect(),
        Some(_) => None,
    };
    list.map(Some).ok_or(VerifyError::MalformedClaim(name))
}

pub(super) fn time(
    claims: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<Timestamp>, VerifyError> {
    let moment = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => numeric_date(number),
        Some(_) => None,
    };
    moment.map(Some).ok_or(VerifyError::MalformedClaim(name))
}

/// A `NumericDate` (RFC 7519 section 2): seconds since 1970, fractions allowed. What is negative or
/// too large to be a time is none, instead of being bent into one.
fn numeric_date(number: &Number) -> Option<Timestamp> {
    let since_epoch = match number.as_u64() {
        Some(secs) => Duration::from_secs(secs),
        None => Duration::try_from_secs_f64(number.as_f64()?).ok()?,
    };
    i64::try_from(since_epoch.as_millis()).ok().map(Timestamp::from_millis)
}

fn scopes(claims: &Map<String, Value>) -> Result<Vec<String>, VerifyError> {
    let listed = match texts(claims, "scope")? {
        Some(scope) => scope,
        None => texts(claims, "scp")?.unwrap_or_default(),
    };
    let words = listed.into_iter().flat_map(|scope| scope.split(' '));
    Ok(words.filter(|word| !word.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(claims: Value) -> Result<VerifiedToken, VerifyError> {
        let Value::Object(claims) = claims else { unreachable!("claims are an object") };
        VerifiedToken::read(claims, &"main".into(), Duration::from_secs(5))
    }

    #[test]
    fn registered_claims_are_read_with_their_types() {
        let token = read(json!({
            "iss": "https://id", "sub": "u1", "jti": "t1", "sid": "s1",
            "iat": 10, "nbf": 11.5, "exp": 20.25, "scope": "read  write",
        }))
        .unwrap();
        assert_eq!((token.issuer_name(), token.issuer()), ("main", Some("https://id")));
        assert_eq!((token.subject(), token.session_id()), (Some("u1"), Some("s1")));
        assert_eq!(token.token_id(), TokenId::new("t1").ok().as_ref());
        assert_eq!(token.issued_at(), Some(Timestamp::from_secs(10)));
        assert_eq!(token.expires_at(), Some(Timestamp::from_millis(20_250)));
        assert_eq!(token.scopes(), ["read", "write"]);
    }

    #[test]
    fn scopes_are_a_text_or_a_list_in_scope_or_scp() {
        for (claims, expected) in [
            (json!({"scope": "a b"}), vec!["a", "b"]),
            (json!({"scope": ["a", "b"]}), vec!["a", "b"]),
            (json!({"scp": ["a"]}), vec!["a"]),
            (json!({"scp": "a b"}), vec!["a", "b"]),
            (json!({"scope": "", "scp": "b"}), vec![]),
            (json!({}), vec![]),
        ] {
            assert_eq!(read(claims.clone()).unwrap().scopes(), expected, "{claims}");
        }
        for claims in [json!({"scope": 1}), json!({"scope": ["a", 1]}), json!({"scp": {"a": 1}})] {
            assert_eq!(read(claims).unwrap_err().code(), "malformed_claim");
        }
    }

    #[test]
    fn a_claim_is_found_by_its_path() {
        let token = read(json!({
            "realm_access": {"roles": ["admin"]}, "https://x/y": 1, "a.b": 2, "sub": "u1",
        }))
        .unwrap();
        assert_eq!(token.claim(&["realm_access", "roles"]), Some(&json!(["admin"])));
        assert_eq!(token.claim(&["https://x/y"]), Some(&json!(1)));
        assert_eq!(token.claim(&["a.b"]), Some(&json!(2)));
        for path in [&["a", "b"][..], &["sub", "x"], &["realm_access", "roles", "0"], &["nope"]] {
            assert_eq!(token.claim(path), None, "{path:?}");
        }
        assert_eq!(token.claim(&[] as &[&str]), None);
    }

    #[test]
    fn leeway_applies_at_both_ends_to_the_millisecond() {
        let token = read(json!({"nbf": 100, "exp": 200})).unwrap();
        for (millis, expected) in [
            (94_999, Err(VerifyError::NotYetValid)),
            (95_000, Ok(())),
            (204_999, Ok(())),
            (205_000, Err(VerifyError::Expired)),
        ] {
            assert_eq!(token.check_times(Timestamp::from_millis(millis)), expected, "{millis}");
        }
    }

    #[test]
    fn a_date_that_is_no_time_is_refused() {
        for date in [json!(-1), json!(-0.5), json!(1e300), json!(1e19), json!(u64::MAX)] {
            let error = read(json!({ "exp": date })).unwrap_err();
            assert_eq!(error, VerifyError::MalformedClaim("exp"), "{date}");
        }
        let far = read(json!({"exp": 253_402_300_799_i64})).unwrap();
        assert_eq!(far.expires_at(), Some(Timestamp::from_secs(253_402_300_799)));
    }

    #[test]
    fn debug_shows_no_claim() {
        let token = read(json!({"sub": "s3cret", "jti": "s3cret", "exp": 1})).unwrap();
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
