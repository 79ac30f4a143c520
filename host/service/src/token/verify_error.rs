//! Reasons why a token is not accepted, and how a log names their subject.
//!
//! A stable code comes first. The subject that follows is a name of the configuration or of a
//! specification, or what the token says of itself in its `kid`, `iss` and `typ`: clients write
//! those, so they are clipped, escaped, and left out where they could hold a token.

use std::{fmt, sync::Arc};

/// A token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The token is larger than `tokens.max_bytes`.
    #[error("the token is longer than {0} bytes; raise `tokens.max_bytes` if it is an honest one")]
    TooLarge(usize),
    /// The token is not a signed JWT in compact form (RFC 7519 section 3, RFC 7515 section 7.1).
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The token's header asks for something that must be understood and is not.
    #[error("`{0}` in the token's header is not supported")]
    UnsupportedHeader(&'static str),
    /// The token's `alg` is `none`, or not among the supported ones.
    #[error("the token's algorithm is not supported")]
    UnsupportedAlgorithm,
    /// The token's `iss` is not that of an issuer that the route accepts.
    #[error("the token's issuer is not one that is accepted here")]
    UnknownIssuer(Shown),
    /// The issuer has no key for this token.
    #[error("the token's issuer has no such key")]
    UnknownKey(Shown),
    /// So many keys could have signed the token that not all of them are tried.
    #[error(
        "more than {0} keys of the issuer could have signed the token; give each its own `kid`"
    )]
    TooManyKeys(usize),
    /// The key for this token verifies another algorithm than the token's `alg`.
    #[error("the token's algorithm is not the one that is configured for its key")]
    WrongAlgorithm,
    /// The signature does not match.
    #[error("the token's signature does not match")]
    BadSignature,
    /// `exp` is over, and so is the leeway.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is further ahead than the leeway.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// `iat` is further ahead than the leeway and the skew of clocks.
    #[error("the token's claim `iat` is further ahead than clocks may differ")]
    IssuedInFuture,
    /// It was issued longer ago than `max_age` allows.
    #[error("the token is older than `max_age`")]
    TooOld,
    /// From `iat` to `exp` it is longer than `max_lifetime` allows.
    #[error("the token was issued for longer than `max_lifetime`")]
    LivesTooLong,
    /// It was issued to another client than those that are configured; the claim says so.
    #[error("the token was issued to another client, by its claim `{0}`")]
    WrongParty(&'static str),
    /// `aud` names no configured audience.
    #[error("the token is meant for another audience")]
    WrongAudience,
    /// A claim that the configuration requires is missing or null.
    #[error("the token lacks the claim `{0}`")]
    MissingClaim(Arc<str>),
    /// A claim has a type or a value that it must not have.
    #[error("the token's claim `{0}` has a wrong type or value")]
    MalformedClaim(&'static str),
    /// A scope that the configuration requires is missing.
    #[error("the token lacks the scope `{0}`")]
    MissingScope(Arc<str>),
    /// The header's `typ` is not that of an access token of this issuer.
    #[error("the token's `typ` is not among the issuer's `header_types`")]
    WrongHeaderType(Shown),
    /// A claim says that the token was issued for another use, such as refreshing or logging out.
    #[error("the token is of another type than those that are accepted, by its claim `{0}`")]
    WrongTokenType(Arc<str>),
    /// The token may be used only by the holder of a key, which a bearer does not prove, or which is not
    /// checked in the way that the token asks for.
    #[error(
        "the token is bound to a key by its claim `cnf`, and was sent as a bearer token or is bound in a \
         way that is not checked"
    )]
    SenderConstrained,
    /// The token must be bound to a key, or was sent as one that is, and is not.
    #[error("the token is not bound to a key by its claim `cnf`")]
    NotSenderConstrained,
}

/// A text that a client wrote, in the form in which a log may show it. `Debug` does not.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Shown(String);

// === impl VerifyError ===

impl VerifyError {
    /// The stable code for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too_large",
            Self::Malformed(_) => "malformed",
            Self::UnsupportedHeader(_) => "unsupported_header",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::UnknownIssuer(_) => "unknown_issuer",
            Self::UnknownKey(_) | Self::TooManyKeys(_) => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::TooOld => "too_old",
            Self::LivesTooLong => "lives_too_long",
            Self::WrongParty(_) => "wrong_party",
            Self::WrongAudience => "wrong_audience",
            Self::MissingClaim(_) => "missing_claim",
            Self::MalformedClaim(_) => "malformed_claim",
            Self::MissingScope(_) => "missing_scope",
            Self::WrongHeaderType(_) => "wrong_header_type",
            Self::WrongTokenType(_) => "wrong_token_type",
            Self::SenderConstrained => "sender_constrained",
            Self::NotSenderConstrained => "not_sender_constrained",
        }
    }

    /// Whether the token may be one of a key that is not known yet: issuers publish keys without an id,
    /// too, or several under one.
    #[must_use]
    pub const fn may_lack_key(&self) -> bool {
        matches!(self, Self::UnknownKey(_) | Self::BadSignature | Self::WrongAlgorithm)
    }

    /// The code and its subject, for the decision log: `missing_claim: jti`.
    #[must_use]
    pub fn detail(&self) -> String {
        let code = self.code();
        match self {
            Self::UnknownIssuer(shown) | Self::UnknownKey(shown) | Self::WrongHeaderType(shown) => {
                format!("{code}: {shown}")
            }
            Self::MissingClaim(name) | Self::MissingScope(name) | Self::WrongTokenType(name) => {
                format!("{code}: {name}")
            }
            Self::Malformed(what) => format!("{code}: {what}"),
            Self::MalformedClaim(name) | Self::UnsupportedHeader(name) | Self::WrongParty(name) => {
                format!("{code}: {name}")
            }
            Self::TooLarge(limit) => format!("{code}: more than {limit} bytes"),
            Self::TooManyKeys(limit) => format!("{code}: more than {limit} keys could be meant"),
            Self::SenderConstrained | Self::NotSenderConstrained => format!("{code}: cnf"),
            Self::IssuedInFuture | Self::TooOld => format!("{code}: iat"),
            Self::LivesTooLong => format!("{code}: exp"),
            Self::UnsupportedAlgorithm
            | Self::WrongAlgorithm
            | Self::BadSignature
            | Self::Expired
            | Self::NotYetValid
            | Self::WrongAudience => code.to_owned(),
        }
    }
}

// === impl Shown ===

impl Shown {
    /// How much of a text is shown.
    const MAX_CHARS: usize = 64;

    /// Takes what a client wrote.
    pub(super) fn new(text: &str) -> Self {
        if could_hold_token(text) {
            return Self("(left out, as it could be a token)".to_owned());
        }
        let mut shown: String =
            text.chars().take(Self::MAX_CHARS).flat_map(char::escape_default).collect();
        // One character may become ten.
        let is_clipped = shown.len() > Self::MAX_CHARS || text.len() > Self::MAX_CHARS;
        if is_clipped {
            shown.truncate(Self::MAX_CHARS);
            shown.push_str("...");
        }
        Self(shown)
    }

    /// Takes what a client may have written, `absent` standing for nothing.
    pub(super) fn or_absent(text: Option<&str>) -> Self {
        text.map_or_else(|| Self("(absent)".to_owned()), Self::new)
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(..)")
    }
}

/// Whether a token in compact form, or the beginning of one, could be in the text. Ids of keys are
/// often hashes, so base64url alone is not taken for a token.
fn could_hold_token(text: &str) -> bool {
    const SHORTEST: usize = 40;
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let words = text.split(|c: char| !is_part(c));
    words.filter(|word| word.len() > SHORTEST).any(|word| {
        // What every header in base64url begins with: `{"`.
        word.matches('.').count() >= 2 || word.contains("eyJ")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_comes_first_and_the_subject_follows() {
        for (error, detail) in [
            (VerifyError::MissingClaim("jti".into()), "missing_claim: jti"),
            (VerifyError::MalformedClaim("nbf"), "malformed_claim: nbf"),
            (VerifyError::UnknownKey(Shown::new("k2")), "unknown_key: k2"),
            (VerifyError::UnknownKey(Shown::or_absent(None)), "unknown_key: (absent)"),
            (VerifyError::UnknownIssuer(Shown::new("https://id")), "unknown_issuer: https://id"),
            (VerifyError::MissingScope("write".into()), "missing_scope: write"),
            (VerifyError::Expired, "expired"),
            (VerifyError::IssuedInFuture, "issued_in_future: iat"),
        ] {
            assert_eq!(error.detail(), detail);
            assert!(detail.starts_with(error.code()));
        }
    }

    #[test]
    fn what_a_client_wrote_is_clipped_and_escaped() {
        assert_eq!(Shown::new("a\nb\u{202e}\"").to_string(), "a\\nb\\u{202e}\\\"");
        let long = Shown::new(&"k".repeat(1000)).to_string();
        assert_eq!(long, format!("{}...", "k".repeat(64)));
        // A thumbprint, as many issuers use for key ids.
        let hash = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(Shown::new(hash).to_string(), hash);
        let issuer = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI";
        assert!(Shown::new(issuer).to_string().starts_with("https://cognito-idp.eu-central-1"));
    }

    #[test]
    fn what_could_be_a_token_is_left_out() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1MSIsImp0aSI6InQxIn0.c2lnbmF0dXJl";
        for text in [
            token.to_owned(),
            format!("Bearer {token}"),
            format!("https://id/?token={token}"),
            token.split_once('.').unwrap().1.to_owned(),
            token.rsplit_once('.').unwrap().0.to_owned(),
        ] {
            let shown = Shown::new(&text).to_string();
            assert_eq!(shown, "(left out, as it could be a token)", "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_short_printable_ascii(text in "\\PC{0,100}|.{0,100}") {
            let shown = Shown::new(&text).to_string();
            prop_assert!(shown.len() <= 67, "{}", shown);
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", shown);
        }
    }
}
