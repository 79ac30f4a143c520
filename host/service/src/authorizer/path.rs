//! Path canonicalization: the one canonical form of a path. Paths that have none are refused.
//!
//! Servers disagree on what `//`, `..`, `%2f` or `;` mean. A path that could be one thing here and
//! another upstream is refused, unless the configuration states that the upstream reads it in the
//! same way.
//!
//! The canonical form is percent-decoded once. What a tolerance keeps encoded is `%` and two upper-case
//! digits, and there a percent sign before two hexadecimal digits is `%25`. So two paths that differ in
//! a byte never have one canonical form.

mod case;
mod decode;
mod pattern;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, num::NonZeroU32};

pub(super) use pattern::compile;
use portcullis_types::decision::Reason;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// The smallest `paths.max_bytes`.
const LEAST_BYTES: u32 = 64;

/// How paths are read: those of requests, and the patterns of routes with them. Policies see the
/// canonical path.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PathConfig {
    /// Ambiguities to let through. List one only if every upstream reads it as described; where some do,
    /// list it in the `match.tolerate` of their routes.
    pub tolerate: Vec<Tolerance>,
    /// Whether upstreams read `/Admin` and `/admin` as one path. The canonical path is then in lower
    /// case, and patterns of routes are compared so; those of policies must be written in lower case.
    /// Letters beyond ASCII count too. A path with one that has no single lower case, such as `ß` or the
    /// Kelvin sign, is refused.
    pub ignore_case: bool,
    /// Whether a slash at the end makes another path.
    pub trailing_slash: TrailingSlash,
    /// The longest path of a request, in bytes as sent, without its query. A longer one is denied with
    /// `request_too_large`. At least 64.
    #[serde(deserialize_with = "enough_bytes")]
    pub max_bytes: NonZeroU32,
}

/// Whether a slash at the end makes another path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrailingSlash {
    /// No: the canonical path has none, except `/` itself, and a pattern of a route matches if it does
    /// with the slash or without it. `/admin` matches `/admin/`, and `/admin/*` matches `/admin`.
    #[default]
    Ignore,
    /// Yes: only if every upstream distinguishes `/admin/` from `/admin`.
    Distinct,
}

/// An ambiguity that configuration can let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// Several slashes in a row are one, as Envoy's `merge_slashes` has it; `..` after several is still
    /// refused.
    EmptySegments,
    /// `%2F` is part of a segment, not a separator; the canonical path has it as `%2F`.
    EncodedSlash,
    /// `%25` followed by two hexadecimal digits is a percent sign and two digits; the canonical path has
    /// that percent sign as `%25`.
    DoubleEncoding,
    /// `%` not followed by two hexadecimal digits is a percent sign.
    IncompleteEscape,
    /// `.` and `..`, also encoded, are resolved, RFC 3986 section 5.2.4.
    DotSegments,
    /// `;` is an ordinary character, not the start of path parameters.
    Semicolon,
    /// `\` is an ordinary character, not a separator.
    Backslash,
    /// Encoded bytes that are not UTF-8 are part of a segment; the canonical path has each as `%` and
    /// two upper-case digits.
    NotUtf8,
    /// Characters beyond ASCII that are not percent-encoded are the same as their encoded UTF-8.
    RawUtf8,
}

/// A path in canonical form, and the query that followed it.
#[derive(Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    /// Percent-decoded once, without empty segments.
    pub path: Cow<'a, str>,
    /// As sent, without the question mark.
    pub query: Option<&'a str>,
}

/// A path is not decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// See [`PathConfig::max_bytes`].
    #[error("is longer than paths.max_bytes")]
    TooLong,
    /// Absolute form, `*`, or empty.
    #[error("does not begin with a slash")]
    NotAbsolute,
    /// A fragment never reaches a server.
    #[error("has a fragment")]
    Fragment,
    /// A control character, plain or encoded.
    #[error("has a control character")]
    Control,
    /// A space would end the request line.
    #[error("has a space that is not percent-encoded")]
    Space,
    /// See [`PathConfig::ignore_case`].
    #[error("has a letter without a single lower case")]
    Case,
    /// It can be read in two ways, which can be tolerated.
    #[error("{}", .0.ambiguity())]
    Ambiguous(Tolerance),
}

/// Brings `raw`, a path with query as sent, into canonical form.
///
/// # Errors
/// When the path is too long, or ambiguous in a way that `config` does not tolerate.
pub fn canonicalize<'a>(raw: &'a str, config: &PathConfig) -> Result<CanonicalPath<'a>, PathError> {
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if path.len() > config.max_bytes() {
        return Err(PathError::TooLong);
    }
    let canonical = if is_plain(path, config.ignore_case) {
        Cow::Borrowed(without_slash(path, config))
    } else {
        let path = decode::join_segments(&decode::decode(path, config)?, config)?;
        let path = without_slash(&path, config);
        let folded = if config.ignore_case { case::fold(path) } else { Some(path.to_owned()) };
        Cow::Owned(folded.ok_or(PathError::Case)?)
    };
    Ok(CanonicalPath { path: canonical, query })
}

/// The canonical form of as many segments of `raw` as are not ambiguous, with a slash at the end.
pub(super) fn unambiguous_start(raw: &str, config: &PathConfig) -> String {
    let path = raw.split('?').next().unwrap_or_default();
    let config = PathConfig { trailing_slash: TrailingSlash::Distinct, ..config.clone() };
    let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
    let read = |slash: &usize| canonicalize(&path[..=*slash], &config);
    // What precedes an ambiguity has none.
    let count = slashes.partition_point(|slash| read(slash).is_ok());
    let start = slashes[..count].last().and_then(|slash| read(slash).ok());
    start.map_or_else(|| "/".to_owned(), |start| start.path.into_owned())
}

/// Whether a path is canonical as it stands but for the slash at its end, which nearly all are.
fn is_plain(path: &str, ignore_case: bool) -> bool {
    let mut previous = 0;
    path.bytes().all(|byte| {
        let after_slash = previous == b'/';
        previous = byte;
        match byte {
            b'/' | b'.' => !after_slash,
            b'%' | b';' | b'\\' | b'#' => false,
            b'A'..=b'Z' => !ignore_case,
            byte => byte.is_ascii_graphic(),
        }
    })
}

fn without_slash<'a>(path: &'a str, config: &PathConfig) -> &'a str {
    match (config.trailing_slash, path.strip_suffix('/')) {
        (TrailingSlash::Ignore, Some(rest)) if !rest.is_empty() => rest,
        _ => path,
    }
}

/// The byte that two hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match digits {
        [high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

// === impl PathConfig ===

impl PathConfig {
    pub(super) fn tolerates(&self, tolerance: Tolerance) -> bool {
        self.tolerate.contains(&tolerance)
    }

    fn max_bytes(&self) -> usize {
        usize::try_from(self.max_bytes.get()).unwrap_or(usize::MAX)
    }
}

fn enough_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU32, D::Error> {
    let bytes = NonZeroU32::deserialize(deserializer)?;
    if bytes.get() < LEAST_BYTES {
        return Err(D::Error::custom("must be at least 64, or hardly a path would be let through"));
    }
    Ok(bytes)
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            tolerate: Vec::new(),
            ignore_case: false,
            trailing_slash: TrailingSlash::default(),
            max_bytes: NonZeroU32::MIN.saturating_add(8 * 1024 - 1),
        }
    }
}

// === impl Tolerance ===

impl Tolerance {
    /// What is refused where it is not tolerated. Whether a route may tolerate it alone. Where the
    /// path as a whole becomes another one, the route would be found by a reading that the proxy
    /// need not share.
    pub(super) const fn is_for_routes(self) -> bool {
        !matches!(self, Self::EmptySegments | Self::DotSegments)
    }

    const fn ambiguity(self) -> &'static str {
        match self {
            Self::EmptySegments => "has an empty segment",
            Self::EncodedSlash => "has an encoded slash",
            Self::DoubleEncoding => "is encoded twice",
            Self::IncompleteEscape => "has an incomplete percent escape",
            Self::DotSegments => "has a dot segment",
            Self::Semicolon => "has a semicolon",
            Self::Backslash => "has a backslash",
            Self::NotUtf8 => "has encoded bytes that are not UTF-8",
            Self::RawUtf8 => "has a character beyond ASCII that is not percent-encoded",
        }
    }

    /// As it is written in the configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::EmptySegments => "empty_segments",
            Self::EncodedSlash => "encoded_slash",
            Self::DoubleEncoding => "double_encoding",
            Self::IncompleteEscape => "incomplete_escape",
            Self::DotSegments => "dot_segments",
            Self::Semicolon => "semicolon",
            Self::Backslash => "backslash",
            Self::NotUtf8 => "not_utf8",
            Self::RawUtf8 => "raw_utf8",
        }
    }
}

// === impl PathError ===

impl PathError {
    /// The reason to deny.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Self::TooLong => Reason::RequestTooLarge,
            _ => Reason::AmbiguousPath,
        }
    }
}
