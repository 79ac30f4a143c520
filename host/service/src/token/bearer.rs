//! Parser of the `Authorization` header: exactly one bearer token, or none.
//!
//! The servers behind Portcullis read the same header. What two readers could understand
//! differently is therefore refused, never repaired.

/// The `Authorization` header does not give exactly one bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// There is no `Authorization` header, or an empty one.
    #[error("the request has no Authorization header")]
    Missing,
    /// There are several `Authorization` headers.
    #[error("the request has several Authorization headers; send one")]
    Several,
    /// The scheme is not `Bearer`.
    #[error("the Authorization header does not begin with `Bearer `")]
    WrongScheme,
    /// What follows the scheme is not one token.
    #[error("the Authorization header must hold one token after `Bearer `, and nothing else")]
    NotOneToken,
}

/// Takes the bearer token from the values of the `Authorization` headers (RFC 6750 section 2.1).
///
/// The scheme may be in any case; one space and one token follow, and nothing else does.
///
/// # Errors
/// [`BearerError::Missing`] if the client sent no credentials at all; anything else means that it
/// sent some, but not a bearer token.
pub fn bearer<'v>(mut values: impl Iterator<Item = &'v str>) -> Result<&'v str, BearerError> {
    const SCHEME: &str = "bearer";
    let value = values.next().ok_or(BearerError::Missing)?;
    if values.next().is_some() {
        return Err(BearerError::Several);
    }
    if value.is_empty() {
        return Err(BearerError::Missing);
    }
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(BearerError::WrongScheme);
    }
    if !is_token68(token) {
        return Err(BearerError::NotOneToken);
    }
    Ok(token)
}

/// The scheme of credentials that are one value of another scheme than `Bearer`, such as `Basic dTpw`.
/// Whatever a reader could take for a bearer token has none.
pub(super) fn other_scheme<'v>(mut values: impl Iterator<Item = &'v str>) -> Option<&'v str> {
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, credentials) = value.split_once(' ')?;
    (is_other_scheme(scheme) && is_token68(credentials)).then_some(scheme)
}

/// Whether `text` is the name of an authorization scheme other than `Bearer`.
#[must_use]
pub fn is_other_scheme(text: &str) -> bool {
    let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_scheme_byte) && !text.eq_ignore_ascii_case("bearer")
}

/// Whether `text` is a `token68` (RFC 9110 section 11.2). Spaces and commas are not part of it.
fn is_token68(text: &str) -> bool {
    let token = text.trim_end_matches('=');
    let is_token_byte = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' | b'+' | b'/' => true,
        byte => byte.is_ascii_alphanumeric(),
    };
    // Without a way out on the way, many bytes are looked at in one go.
    !token.is_empty() && token.bytes().fold(true, |all, byte| all & is_token_byte(byte))
}

// === impl BearerError ===

impl BearerError {
    /// The stable code for logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Several => "several_authorization_headers",
            Self::WrongScheme => "not_a_bearer_token",
            Self::NotOneToken => "malformed_bearer_token",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&'static str]) -> Result<&'static str, BearerError> {
        bearer(values.iter().copied())
    }

    #[test]
    fn the_scheme_may_be_in_any_case() {
        for value in ["Bearer a.b-c_d", "bearer a.b-c_d", "BEARER a.b-c_d", "bEaReR a.b-c_d"] {
            assert_eq!(read(&[value]), Ok("a.b-c_d"), "{value}");
        }
        assert_eq!(read(&["Bearer abc=="]), Ok("abc=="));
    }

    #[test]
    fn no_header_and_an_empty_header_are_no_credentials() {
        assert_eq!(read(&[]), Err(BearerError::Missing));
        assert_eq!(read(&[""]), Err(BearerError::Missing));
    }

    #[test]
    fn several_headers_are_refused_even_if_they_agree() {
        for values in [&["Bearer a", "Bearer b"], &["Bearer a", "Bearer a"], &["Bearer a", ""]] {
            assert_eq!(read(values), Err(BearerError::Several), "{values:?}");
        }
        assert_eq!(read(&["", ""]), Err(BearerError::Several));
    }

    #[test]
    fn other_schemes_and_raw_tokens_are_refused() {
        for value in ["a.b.c", "Basic dTpw", "Bearera.b.c", "Bearer\ta.b.c", " Bearer a", "Token a"]
        {
            assert_eq!(read(&[value]), Err(BearerError::WrongScheme), "{value}");
        }
    }

    #[test]
    fn what_follows_the_scheme_is_one_token_and_nothing_else() {
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer  a",
            "Bearer a ",
            "Bearer a b",
            "Bearer a,b",
            "Bearer a, Bearer b",
            "Bearer a\n",
            "Bearer a\r\nx-user-id: root",
            "Bearer a\0",
            "Bearer =",
            "Bearer a=b",
            "Bearer \"a\"",
            "Bearer Bearer a",
            "Bearer caf\u{e9}",
        ] {
            assert_eq!(read(&[value]), Err(BearerError::NotOneToken), "{value:?}");
        }
    }

    #[test]
    fn other_schemes_are_told_from_what_may_be_a_bearer_token() {
        let scheme = |values: &[&'static str]| other_scheme(values.iter().copied());
        for (value, expected) in [
            ("Basic dTpw", Some("Basic")),
            ("negotiate YII=", Some("negotiate")),
            ("Bearer a.b.c", None),
            ("bearer a.b.c", None),
            ("a.b.c", None),
            ("Bearer\ta.b.c", None),
            (" Bearer a", None),
            ("Basic", None),
            ("Basic ", None),
            ("Basic  dTpw", None),
            ("Basic dTpw, Bearer a", None),
            ("Basic dTpw,Bearer a", None),
            ("Digest username=\"u\"", None),
            ("Bearer, Basic dTpw", None),
        ] {
            assert_eq!(scheme(&[value]), expected, "{value:?}");
        }
        assert_eq!(scheme(&[]), None);
        assert_eq!(scheme(&["Basic dTpw", "Bearer a"]), None);
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_was_the_whole_header(value in "(?i:bearer)? ?\\PC{0,40}") {
            if let Ok(token) = bearer(std::iter::once(value.as_str())) {
                prop_assert_eq!(value.len(), "bearer ".len() + token.len());
                prop_assert!(!token.contains([' ', ',']));
            }
        }
    }
}
