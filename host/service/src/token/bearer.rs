//! Parser of credentials such as the `Authorization` header: exactly one bearer token, or none.
//!
//! The servers behind Portcullis read the same request. What two readers could understand
//! differently is therefore refused, never repaired.

/// The request does not give exactly one bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// There are no credentials, or empty ones.
    #[error("the request has no token")]
    Missing,
    /// There are several `Authorization` headers.
    #[error("the request has several Authorization headers; send one")]
    SeveralHeaders,
    /// There are several other headers of the name, or different tokens in two places.
    #[error("the request has several tokens; send one")]
    SeveralTokens,
    /// The scheme is another one, such as `Basic` in place of `Bearer`.
    #[error("the header does not begin with the scheme of tokens and a blank")]
    WrongScheme,
    /// There is not one token, but something else or more.
    #[error("there must be one token, and nothing else")]
    NotOneToken,
    /// A server may find another cookie of that name.
    #[error("the cookie of the token can be read in two ways")]
    AmbiguousCookie,
    /// A server may find another parameter of that name.
    #[error("the query parameter of the token can be read in two ways")]
    AmbiguousQuery,
}

/// Takes the token from the values of a header, a cookie or a parameter. With a `scheme`, each begins
/// with it (RFC 6750 section 2.1).
///
/// The scheme may be in any case; one space and one token follow, and nothing else does.
///
/// # Errors
/// [`BearerError::Missing`] if there are no credentials at all; anything else means that there are some,
/// but not a bearer token.
pub(super) fn token<'v>(
    mut values: impl Iterator<Item = &'v str>,
    scheme: Option<&str>,
) -> Result<&'v str, BearerError> {
    let value = values.next().ok_or(BearerError::Missing)?;
    if values.next().is_some() {
        return Err(BearerError::SeveralTokens);
    }
    if value.is_empty() {
        return Err(BearerError::Missing);
    }
    let token = match scheme {
        None => value,
        Some(expected) => {
            let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
            if !scheme.eq_ignore_ascii_case(expected) {
                return Err(BearerError::WrongScheme);
            }
            token
        }
    };
    if is_token68(token) { Ok(token) } else { Err(BearerError::NotOneToken) }
}

/// The scheme of credentials that are one value of another scheme than `expected`, such as
/// `Basic dTpw`. Whatever a reader could take for a bearer token has none.
pub(super) fn other_scheme<'v>(
    mut values: impl Iterator<Item = &'v str>,
    expected: &str,
) -> Option<&'v str> {
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, credentials) = value.split_once(' ')?;
    let is_other = is_scheme(scheme) && !scheme.eq_ignore_ascii_case(expected);
    (is_other && is_token68(credentials)).then_some(scheme)
}

/// Whether `text` is the name of an authorization scheme other than `Bearer`.
#[must_use]
pub fn is_other_scheme(text: &str) -> bool {
    is_scheme(text) && !text.eq_ignore_ascii_case("bearer")
}

/// Whether `text` is the name of an authorization scheme.
pub(super) fn is_scheme(text: &str) -> bool {
    let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_scheme_byte)
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
            Self::SeveralHeaders => "several_authorization_headers",
            Self::SeveralTokens => "several_tokens",
            Self::WrongScheme => "not_a_bearer_token",
            Self::NotOneToken => "malformed_bearer_token",
            Self::AmbiguousCookie => "ambiguous_cookie",
            Self::AmbiguousQuery => "ambiguous_query",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(values: &[&'static str]) -> Result<&'static str, BearerError> {
        token(values.iter().copied(), Some("Bearer"))
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
            assert_eq!(read(values), Err(BearerError::SeveralTokens), "{values:?}");
        }
        assert_eq!(read(&["", ""]), Err(BearerError::SeveralTokens));
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
        let scheme = |values: &[&'static str]| other_scheme(values.iter().copied(), "Bearer");
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

    #[test]
    fn without_a_scheme_the_value_is_the_token() {
        let read = |value: &'static str| token(std::iter::once(value), None);
        assert_eq!(read("a.b.c"), Ok("a.b.c"));
        assert_eq!(read(""), Err(BearerError::Missing));
        for value in ["Bearer a.b.c", " a", "a ", "\"a\"", "a,b", "a;b"] {
            assert_eq!(read(value), Err(BearerError::NotOneToken), "{value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_was_the_whole_header(value in "(?i:bearer)? ?\\PC{0,40}") {
            if let Ok(token) = token(std::iter::once(value.as_str()), Some("Bearer")) {
                prop_assert_eq!(value.len(), "bearer ".len() + token.len());
                prop_assert!(!token.contains([' ', ',']));
            }
        }
    }
}
