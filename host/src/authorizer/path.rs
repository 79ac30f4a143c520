//! Owns the one canonical form of a path, and refusing paths that have none.
//!
//! Servers disagree on what `//`, `..`, `%2f` or `;` mean. A path that could be one thing here and
//! another upstream is refused, unless configuration says that upstream reads it as we do.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How paths are read.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PathConfig {
    /// Ambiguities to let through. List one only if every upstream reads it as described.
    pub tolerate: Vec<Tolerance>,
}

/// An ambiguity that configuration can let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// `%2F` is part of a segment, not a separator; the canonical path has it as `%2F`.
    EncodedSlash,
    /// `%25` followed by two hexadecimal digits is a percent sign and two digits.
    DoubleEncoding,
    /// `.` and `..` are resolved, RFC 3986 section 5.2.4.
    DotSegments,
    /// `;` is an ordinary character, not the start of path parameters.
    Semicolon,
    /// `\` is an ordinary character, not a separator.
    Backslash,
}

/// A path in canonical form, and the query that followed it.
#[derive(Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// Percent-decoded once, without empty segments.
    pub path: Cow<'a, str>,
    /// As sent, without the question mark.
    pub query: Option<&'a str>,
}

/// A path can be read in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    /// Absolute form, `*`, or empty.
    #[error("does not begin with a slash")]
    NotAbsolute,
    /// A fragment never reaches a server.
    #[error("has a fragment")]
    Fragment,
    /// `%` without two hexadecimal digits.
    #[error("has an incomplete percent escape")]
    BadEscape,
    /// A control character, plain or encoded.
    #[error("has a control character")]
    Control,
    /// Decodes to something that is not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// See [`Tolerance::EncodedSlash`].
    #[error("has an encoded slash")]
    EncodedSlash,
    /// See [`Tolerance::DoubleEncoding`].
    #[error("is encoded twice")]
    DoubleEncoding,
    /// See [`Tolerance::DotSegments`].
    #[error("has a dot segment")]
    DotSegments,
    /// See [`Tolerance::Semicolon`].
    #[error("has a semicolon")]
    Semicolon,
    /// See [`Tolerance::Backslash`].
    #[error("has a backslash")]
    Backslash,
}

/// Brings `raw`, a path with query as sent, into canonical form.
///
/// Several slashes in a row count as one, as Envoy's `merge_slashes` has it.
///
/// # Errors
/// When the path is ambiguous in a way that `config` does not tolerate.
pub fn canonicalize<'a>(
    raw: &'a str,
    config: &PathConfig,
) -> Result<CanonicalPath<'a>, AmbiguousPath> {
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    if !path.starts_with('/') {
        return Err(AmbiguousPath::NotAbsolute);
    }
    if is_plain(path) {
        return Ok(CanonicalPath { path: Cow::Borrowed(path), query });
    }
    let path = join_segments(&decode(path, config)?, config)?;
    Ok(CanonicalPath { path: Cow::Owned(path), query })
}

/// Whether a path is canonical as it stands, which nearly all are.
fn is_plain(path: &str) -> bool {
    let mut previous = 0;
    path.bytes().all(|byte| {
        let after_slash = previous == b'/';
        previous = byte;
        match byte {
            b'/' | b'.' => !after_slash,
            b'%' | b';' | b'\\' | b'#' => false,
            byte => byte.is_ascii_graphic(),
        }
    })
}

fn decode(path: &str, config: &PathConfig) -> Result<String, AmbiguousPath> {
    let tolerates = |tolerance| config.tolerate.contains(&tolerance);
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = byte == b'%';
        let byte = if escaped { escape(&mut bytes)? } else { byte };
        match byte {
            b'#' if !escaped => return Err(AmbiguousPath::Fragment),
            0..=0x1f | 0x7f => return Err(AmbiguousPath::Control),
            b'/' if escaped && !tolerates(Tolerance::EncodedSlash) => {
                return Err(AmbiguousPath::EncodedSlash);
            }
            b'%' if is_escape(bytes.clone()) && !tolerates(Tolerance::DoubleEncoding) => {
                return Err(AmbiguousPath::DoubleEncoding);
            }
            b';' if !tolerates(Tolerance::Semicolon) => return Err(AmbiguousPath::Semicolon),
            b'\\' if !tolerates(Tolerance::Backslash) => return Err(AmbiguousPath::Backslash),
            // It must not turn into a separator here.
            b'/' if escaped => decoded.extend_from_slice(b"%2F"),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).map_err(|_| AmbiguousPath::NotUtf8)
}

fn escape(bytes: &mut impl Iterator<Item = u8>) -> Result<u8, AmbiguousPath> {
    let mut digit = || {
        let digit = char::from(bytes.next()?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    match (digit(), digit()) {
        (Some(high), Some(low)) => Ok(high << 4 | low),
        _ => Err(AmbiguousPath::BadEscape),
    }
}

/// Whether two hexadecimal digits follow, however they are spelled: `%25%32%65` decodes to `%2e` as
/// `%252e` does.
fn is_escape(mut rest: impl Iterator<Item = u8>) -> bool {
    (0..2).all(|_| {
        let byte = match rest.next() {
            Some(b'%') => escape(&mut rest).ok(),
            byte => byte,
        };
        byte.is_some_and(|byte| byte.is_ascii_hexdigit())
    })
}

fn join_segments(decoded: &str, config: &PathConfig) -> Result<String, AmbiguousPath> {
    let resolve = config.tolerate.contains(&Tolerance::DotSegments);
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/').filter(|segment| !segment.is_empty()) {
        match segment {
            "." | ".." if !resolve => return Err(AmbiguousPath::DotSegments),
            "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let is_directory = matches!(decoded.rsplit('/').next(), Some("" | "." | ".."));
    let mut path = String::with_capacity(decoded.len());
    for segment in &segments {
        path.push('/');
        path.push_str(segment);
    }
    if is_directory || segments.is_empty() {
        path.push('/');
    }
    Ok(path)
}

/// A host in the form in which routes and policies see it: lower case, without port.
pub fn canonical_host(authority: &str) -> Cow<'_, str> {
    let host = match authority.rsplit_once(':') {
        // The last colon of `[::1]` is part of the address.
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strict(raw: &str) -> Result<String, AmbiguousPath> {
        canonicalize(raw, &PathConfig::default()).map(|canonical| canonical.path.into_owned())
    }

    fn tolerating(tolerance: Tolerance, raw: &str) -> Result<String, AmbiguousPath> {
        let config = PathConfig { tolerate: vec![tolerance] };
        canonicalize(raw, &config).map(|canonical| canonical.path.into_owned())
    }

    #[test]
    fn slashes_in_a_row_are_one() {
        for (raw, path) in [
            ("//admin/dashboard", "/admin/dashboard"),
            ("//x/people?a=1", "/x/people"),
            ("/a//b///", "/a/b/"),
            ("//", "/"),
            ("/", "/"),
            ("/a/", "/a/"),
        ] {
            assert_eq!(strict(raw).as_deref(), Ok(path), "{raw}");
        }
    }

    #[test]
    fn escapes_are_decoded_once() {
        assert_eq!(strict("/%61dmin").as_deref(), Ok("/admin"));
        assert_eq!(strict("/caf%C3%A9").as_deref(), Ok("/café"));
        assert_eq!(strict("/100%25").as_deref(), Ok("/100%"));
        assert_eq!(strict("/a%3Fb?c").as_deref(), Ok("/a?b"));
        assert_eq!(strict("/a%23b").as_deref(), Ok("/a#b"));
    }

    #[test]
    fn ambiguous_paths_are_refused_with_the_cause() {
        use AmbiguousPath as Cause;
        for (raw, cause) in [
            ("", Cause::NotAbsolute),
            ("*", Cause::NotAbsolute),
            ("http://host/admin", Cause::NotAbsolute),
            ("/admin#x", Cause::Fragment),
            ("/%", Cause::BadEscape),
            ("/%2", Cause::BadEscape),
            ("/%zz", Cause::BadEscape),
            ("/%00", Cause::Control),
            ("/a%0d%0ab", Cause::Control),
            ("/a\tb", Cause::Control),
            ("/%ff", Cause::NotUtf8),
            ("/a%2fb", Cause::EncodedSlash),
            ("/a%2Fb", Cause::EncodedSlash),
            ("/%252e%252e/admin", Cause::DoubleEncoding),
            ("/%252fadmin", Cause::DoubleEncoding),
            ("/%25%32%65%25%32%65/admin", Cause::DoubleEncoding),
            ("/a%252%46b", Cause::DoubleEncoding),
            ("/a%25%32Fb", Cause::DoubleEncoding),
            ("/a/../admin", Cause::DotSegments),
            ("/%2e%2e/admin", Cause::DotSegments),
            ("/./admin", Cause::DotSegments),
            ("/admin/.", Cause::DotSegments),
            ("/admin;x=1", Cause::Semicolon),
            ("/admin%3bx", Cause::Semicolon),
            ("/a\\b", Cause::Backslash),
            ("/a%5cb", Cause::Backslash),
        ] {
            assert_eq!(strict(raw), Err(cause), "{raw}");
        }
    }

    #[test]
    fn a_tolerated_ambiguity_is_read_as_documented() {
        assert_eq!(tolerating(Tolerance::EncodedSlash, "/a%2fb").as_deref(), Ok("/a%2Fb"));
        assert_eq!(tolerating(Tolerance::DoubleEncoding, "/a%2525").as_deref(), Ok("/a%25"));
        assert_eq!(tolerating(Tolerance::DotSegments, "/a/../../b/.").as_deref(), Ok("/b/"));
        assert_eq!(tolerating(Tolerance::Semicolon, "/a;b").as_deref(), Ok("/a;b"));
        assert_eq!(tolerating(Tolerance::Backslash, "/a\\b").as_deref(), Ok("/a\\b"));
    }

    #[test]
    fn a_nul_is_never_tolerated() {
        let config = PathConfig {
            tolerate: vec![
                Tolerance::EncodedSlash,
                Tolerance::DoubleEncoding,
                Tolerance::DotSegments,
                Tolerance::Semicolon,
                Tolerance::Backslash,
            ],
        };
        assert_eq!(canonicalize("/a%00", &config), Err(AmbiguousPath::Control));
    }

    #[test]
    fn hosts_lose_port_and_case() {
        for (authority, host) in [
            ("API.example.com:8443", "api.example.com"),
            ("api.example.com.", "api.example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(canonical_host(authority), host);
        }
    }

    proptest! {
        #[test]
        fn a_canonical_path_has_no_empty_and_no_dot_segment(raw in "/[a-z./%0-9A-F;?#\\\\ é]{0,24}") {
            if let Ok(path) = strict(&raw) {
                prop_assert!(path.starts_with('/'));
                prop_assert!(!path.contains("//"));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }

        /// Whoever decodes a canonical path once more finds nothing to decode.
        #[test]
        fn a_canonical_path_has_no_escape(raw in "/(%25|%32|%46|2|F|a|/){0,12}") {
            if let Ok(path) = strict(&raw) {
                let is_escape = |three: &[u8]| {
                    three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit)
                };
                prop_assert!(!path.as_bytes().windows(3).any(is_escape), "{}", path);
            }
        }

        /// Encoding every byte of a canonical path again leads back to it, or is refused.
        #[test]
        fn the_spelling_of_a_path_does_not_change_it(path in "(/[a-z.~@é]{1,6}){1,4}") {
            let encoded: String = path
                .bytes()
                .map(|byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") })
                .collect();
            let plain = strict(&path);
            prop_assert_eq!(strict(&encoded), plain.clone());
            prop_assert_eq!(strict(&format!("/{path}")), plain);
        }
    }
}
