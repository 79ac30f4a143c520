//! Claims of a verified token: the registered ones, strictly typed, and all others in compact form.

use std::{fmt, sync::Arc, time::Duration};

use portcullis_types::{
    json::{JsonObject, JsonRef, TextPlace},
    timestamp::Timestamp,
    token_id::TokenId,
};
use serde_json::Number;

use super::verify_error::VerifyError;

/// The first moment of the year 10000. Seconds do not get there; milliseconds that were written for
/// seconds do, and would make a token valid forever.
const YEAR_10000: Timestamp = Timestamp::from_secs(253_402_300_800);

/// A token whose signature and claims were verified.
///
/// It can only be obtained from [`Verifier::verify`](super::Verifier::verify). `Debug` shows none of
/// its claims. Many of these are remembered, so it keeps its claims in compact form, and where the
/// texts stand that every request needs.
pub struct VerifiedToken {
    issuer_name: Arc<str>,
    claims: JsonObject,
    issuer: Option<TextPlace>,
    subject: Option<TextPlace>,
    jti: Option<TextPlace>,
    session_id: Option<TextPlace>,
    scopes: Scopes,
    token_id: Option<TokenId>,
    issued_at: Option<Timestamp>,
    not_before: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    /// By its age; `None` if that does not matter.
    too_old_at: Option<Timestamp>,
    leeway: Duration,
}

/// The scopes of a token.
enum Scopes {
    /// One text, separated by spaces (RFC 8693 section 4.2), among the claims.
    Text(TextPlace),
    /// A list, joined by spaces.
    Joined(Box<str>),
    None,
}

impl VerifiedToken {
    /// Reads the registered claims (RFC 7519 section 4.1). One of a wrong type is never taken for
    /// one that is absent; one that is null is, as serializers write those that are not set.
    pub(super) fn read(
        claims: JsonObject,
        issuer_name: &Arc<str>,
        leeway: Duration,
    ) -> Result<Self, VerifyError> {
        let token_id = name(&claims, "jti")?
            .map(TokenId::new)
            .transpose()
            .map_err(|_| VerifyError::MalformedClaim("jti"))?;
        name(&claims, "sub")?;
        name(&claims, "sid")?;
        Ok(Self {
            issuer_name: Arc::clone(issuer_name),
            issuer: claims.place_of("iss"),
            subject: claims.place_of("sub"),
            jti: claims.place_of("jti"),
            session_id: claims.place_of("sid"),
            scopes: Scopes::read(&claims)?,
            token_id,
            issued_at: time(&claims, "iat")?,
            not_before: time(&claims, "nbf")?,
            expires_at: time(&claims, "exp")?,
            too_old_at: None,
            leeway,
            claims,
        })
    }

    /// The same token, which is good for at most `max_age` after it was issued.
    pub(super) fn with_max_age(mut self, max_age: Option<Duration>) -> Result<Self, VerifyError> {
        if let Some(max_age) = max_age {
            let issued_at =
                self.issued_at.ok_or_else(|| VerifyError::MissingClaim("iat".into()))?;
            self.too_old_at = Some(issued_at.plus(max_age).plus(self.leeway));
        }
        Ok(self)
    }

    /// Whether it was issued for no longer than `max_lifetime`.
    pub(super) fn check_lifetime(&self, max_lifetime: Duration) -> Result<(), VerifyError> {
        let claim = |time: Option<Timestamp>, name: &str| {
            time.ok_or_else(|| VerifyError::MissingClaim(name.into()))
        };
        let issued_at = claim(self.issued_at, "iat")?;
        let expires_at = claim(self.expires_at, "exp")?;
        if expires_at > issued_at.plus(max_lifetime) {
            return Err(VerifyError::LivesTooLong);
        }
        Ok(())
    }

    /// Whether the token is good at `now`, with the issuer's leeway at both ends. Its `iat` may be as
    /// far ahead as the leeway, or as `skew` if that is more: a cut-off, which goes by `iat`, is made
    /// for clocks that are no more ahead.
    pub(super) fn check_times(&self, now: Timestamp, skew: Duration) -> Result<(), VerifyError> {
        if self.expires_at.is_some_and(|exp| now >= exp.plus(self.leeway)) {
            return Err(VerifyError::Expired);
        }
        if self.too_old_at.is_some_and(|end| now >= end) {
            return Err(VerifyError::TooOld);
        }
        if self.not_before.is_some_and(|nbf| now.plus(self.leeway) < nbf) {
            return Err(VerifyError::NotYetValid);
        }
        let latest = now.plus(self.leeway.max(skew));
        if self.issued_at.is_some_and(|issued_at| latest < issued_at) {
            return Err(VerifyError::IssuedInFuture);
        }
        Ok(())
    }

    /// Whether it is over, and stays so.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|exp| now >= exp.plus(self.leeway))
            || self.too_old_at.is_some_and(|end| now >= end)
    }

    /// How much memory it occupies, as far as it is not shared.
    pub(super) fn bytes(&self) -> usize {
        let scopes = match &self.scopes {
            Scopes::Joined(text) => text.len(),
            Scopes::Text(_) | Scopes::None => 0,
        };
        size_of::<Self>() + self.claims.heap_bytes() + scopes
    }

    /// The name under which the configuration knows the issuer.
    #[must_use]
    pub fn issuer_name(&self) -> &str {
        &self.issuer_name
    }

    /// `iss`: what the issuer calls itself.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.text_at(self.issuer)
    }

    /// `sub`: the subject of the token. Never blank.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.text_at(self.subject)
    }

    /// `jti`: the id under which publishers revoke the token. Never blank.
    #[must_use]
    pub fn jti(&self) -> Option<&str> {
        self.text_at(self.jti)
    }

    /// The identity derived from `jti`, under which the token can be revoked.
    #[must_use]
    pub fn token_id(&self) -> Option<&TokenId> {
        self.token_id.as_ref()
    }

    /// `sid`: the session that the token belongs to (`OpenID` Connect). Never blank.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.text_at(self.session_id)
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

    /// The scopes in `scope` (RFC 8693 section 4.2) or, without that, in `scp`, separated by spaces.
    #[must_use]
    pub fn scopes(&self) -> &str {
        match &self.scopes {
            Scopes::Text(place) => self.claims.text_at(*place).unwrap_or_default(),
            Scopes::Joined(text) => text,
            Scopes::None => "",
        }
    }

    /// All claims.
    #[must_use]
    pub fn claims(&self) -> &JsonObject {
        &self.claims
    }

    fn text_at(&self, place: Option<TextPlace>) -> Option<&str> {
        self.claims.text_at(place?)
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

// === impl Scopes ===

impl Scopes {
    fn read(claims: &JsonObject) -> Result<Self, VerifyError> {
        for name in ["scope", "scp"] {
            let Some(listed) = texts(claims, name)? else { continue };
            return Ok(match claims.place_of(name) {
                Some(place) => Self::Text(place),
                None => Self::Joined(listed.join(" ").into()),
            });
        }
        Ok(Self::None)
    }
}

/// A claim, unless it is absent or null.
pub(super) fn present<'c>(claims: &'c JsonObject, name: &str) -> Option<JsonRef<'c>> {
    claims.get(name).filter(|value| !value.is_null())
}

/// A claim that, where it is present, is a text with something in it.
pub(super) fn text<'c>(
    claims: &'c JsonObject,
    name: &'static str,
) -> Result<Option<&'c str>, VerifyError> {
    match present(claims, name) {
        None => Ok(None),
        Some(JsonRef::Text(text)) if !text.trim().is_empty() => Ok(Some(text)),
        Some(_) => Err(VerifyError::MalformedClaim(name)),
    }
}

/// Like [`text`], for a claim that identifies a person or a thing. Blanks at its ends would be
/// trimmed on the way to the upstream, which would see another identity.
pub(super) fn name<'c>(
    claims: &'c JsonObject,
    claim: &'static str,
) -> Result<Option<&'c str>, VerifyError> {
    match text(claims, claim)? {
        Some(name) if name.trim() != name => Err(VerifyError::MalformedClaim(claim)),
        name => Ok(name),
    }
}

/// A claim that, where it is present, is a text or a list of texts.
pub(super) fn texts<'c>(
    claims: &'c JsonObject,
    name: &'static str,
) -> Result<Option<Vec<&'c str>>, VerifyError> {
    let list = match present(claims, name) {
        None => return Ok(None),
        Some(JsonRef::Text(text)) => Some(vec![text]),
        Some(JsonRef::List(items)) => items.texts(),
        Some(_) => None,
    };
    list.map(Some).ok_or(VerifyError::MalformedClaim(name))
}

/// Whether `aud` names one of `ours` (RFC 7519 section 4.1.3). Its type is checked even where its value
/// does not matter, because `ours` is empty.
pub(super) fn check_audience(claims: &JsonObject, ours: &[String]) -> Result<(), VerifyError> {
    let audiences = texts(claims, "aud")?;
    if ours.is_empty() {
        return Ok(());
    }
    let audiences = audiences.ok_or_else(|| VerifyError::MissingClaim("aud".into()))?;
    let is_ours = |audience: &&str| ours.iter().any(|ours| ours == audience);
    if audiences.iter().any(is_ours) { Ok(()) } else { Err(VerifyError::WrongAudience) }
}

pub(super) fn time(
    claims: &JsonObject,
    name: &'static str,
) -> Result<Option<Timestamp>, VerifyError> {
    let moment = match present(claims, name) {
        None => return Ok(None),
        Some(JsonRef::Number(number)) => numeric_date(&number),
        Some(_) => None,
    };
    moment.map(Some).ok_or(VerifyError::MalformedClaim(name))
}

/// A `NumericDate` (RFC 7519 section 2): seconds since 1970, fractions allowed. What is negative or
/// too large to be meant as seconds is refused, not clamped.
pub(super) fn numeric_date(number: &Number) -> Option<Timestamp> {
    let since_epoch = match number.as_u64() {
        Some(secs) => Duration::from_secs(secs),
        None => Duration::try_from_secs_f64(number.as_f64()?).ok()?,
    };
    let moment = i64::try_from(since_epoch.as_millis()).ok().map(Timestamp::from_millis)?;
    (moment < YEAR_10000).then_some(moment)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(claims: Value) -> Result<VerifiedToken, VerifyError> {
        let Value::Object(claims) = claims else { unreachable!("claims are an object") };
        let claims = JsonObject::from_map(&claims).unwrap();
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
        assert_eq!(token.jti(), Some("t1"));
        assert_eq!(token.scopes(), "read  write");
    }

    #[test]
    fn scopes_are_a_text_or_a_list_in_scope_or_scp() {
        for (claims, expected) in [
            (json!({"scope": "a b"}), "a b"),
            (json!({"scope": ["a", "b"]}), "a b"),
            (json!({"scp": ["a"]}), "a"),
            (json!({"scp": "a b"}), "a b"),
            (json!({"scope": "", "scp": "b"}), ""),
            (json!({"scope": null, "scp": "b"}), "b"),
            (json!({}), ""),
        ] {
            assert_eq!(read(claims.clone()).unwrap().scopes(), expected, "{claims}");
        }
        for claims in [json!({"scope": 1}), json!({"scope": ["a", 1]}), json!({"scp": {"a": 1}})] {
            assert_eq!(read(claims).unwrap_err().code(), "malformed_claim");
        }
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
            let checked = token.check_times(Timestamp::from_millis(millis), Duration::ZERO);
            assert_eq!(checked, expected, "{millis}");
        }
    }

    #[test]
    fn a_token_may_be_issued_as_far_ahead_as_clocks_may_differ() {
        let token = read(json!({"iat": 100})).unwrap();
        for (skew, millis, expected) in [
            (0, 94_999, Err(VerifyError::IssuedInFuture)),
            (0, 95_000, Ok(())),
            (7, 92_999, Err(VerifyError::IssuedInFuture)),
            (7, 93_000, Ok(())),
        ] {
            let now = Timestamp::from_millis(millis);
            let checked = token.check_times(now, Duration::from_secs(skew));
            assert_eq!(checked, expected, "{skew} {millis}");
        }
    }

    #[test]
    fn a_date_that_is_no_time_is_refused() {
        for date in [
            json!(-1),
            json!(-0.5),
            json!(1e300),
            json!(1e19),
            json!(u64::MAX),
            json!(1_700_000_000_000_i64),
            json!(253_402_300_800_i64),
        ] {
            let error = read(json!({ "exp": date })).unwrap_err();
            assert_eq!(error, VerifyError::MalformedClaim("exp"), "{date}");
        }
        let far = read(json!({"exp": 253_402_300_799_i64})).unwrap();
        assert_eq!(far.expires_at(), Some(Timestamp::from_secs(253_402_300_799)));
    }

    #[test]
    fn a_null_claim_is_an_absent_one() {
        let token = read(json!({
            "iss": null, "sub": null, "jti": null, "sid": null, "scope": null, "scp": null,
            "iat": null, "nbf": null, "exp": null,
        }))
        .unwrap();
        assert_eq!((token.issuer(), token.subject(), token.jti()), (None, None, None));
        assert_eq!((token.session_id(), token.token_id(), token.scopes()), (None, None, ""));
        assert_eq!((token.issued_at(), token.expires_at()), (None, None));
    }

    #[test]
    fn a_name_that_an_upstream_would_trim_is_refused() {
        for name in ["sub", "sid", "jti"] {
            for text in [" u1", "u1 ", "u1\t", "\tu1", "u1\n", "\u{a0}u1", "u1\u{2028}"] {
                let error = read(json!({ name: text })).unwrap_err();
                assert_eq!(error, VerifyError::MalformedClaim(name), "{text:?}");
            }
            read(json!({ name: "u 1" })).unwrap();
        }
    }

    #[test]
    fn debug_shows_no_claim() {
        let token = read(json!({"sub": "s3cret", "jti": "s3cret", "exp": 1})).unwrap();
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
