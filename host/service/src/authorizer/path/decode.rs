//! Percent-decoding of paths, and joining their segments, as far as tolerances go.

use std::fmt::Write;

use super::{PathConfig, PathError, Tolerance, hex};

/// Decodes a path once. What is kept encoded is so in upper case.
pub(super) fn decode(path: &str, config: &PathConfig) -> Result<String, PathError> {
    let tolerate = |tolerance| {
        if config.tolerates(tolerance) { Ok(()) } else { Err(PathError::Ambiguous(tolerance)) }
    };
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = if *first == b'%' { hex(after) } else { None };
        rest = if escaped.is_some() { &after[2..] } else { after };
        match escaped.unwrap_or(*first) {
            0..=0x1f | 0x7f => return Err(PathError::Control),
            b' ' if escaped.is_none() => return Err(PathError::Space),
            b'#' if escaped.is_none() => return Err(PathError::Fragment),
            b'%' => {
                if escaped.is_none() {
                    tolerate(Tolerance::IncompleteEscape)?;
                }
                decoded.push(b'%');
                if is_escape(rest) {
                    tolerate(Tolerance::DoubleEncoding)?;
                    decoded.extend_from_slice(b"25");
                }
            }
            b'/' if escaped.is_some() => {
                tolerate(Tolerance::EncodedSlash)?;
                // It must not turn into a separator here.
                decoded.extend_from_slice(b"%2F");
            }
            b';' => {
                tolerate(Tolerance::Semicolon)?;
                decoded.push(b';');
            }
            b'\\' => {
                tolerate(Tolerance::Backslash)?;
                decoded.push(b'\\');
            }
            byte => {
                if byte >= 0x80 && escaped.is_none() {
                    tolerate(Tolerance::RawUtf8)?;
                }
                decoded.push(byte);
            }
        }
    }
    String::from_utf8(decoded).or_else(|error| {
        tolerate(Tolerance::NotUtf8)?;
        Ok(encode_invalid(error.as_bytes()))
    })
}

/// Whether two hexadecimal digits follow, however they are spelled: `%25%32%65` decodes to `%2e` as
/// `%252e` does.
fn is_escape(mut rest: &[u8]) -> bool {
    (0..2).all(|_| {
        let [first, after @ ..] = rest else { return false };
        let escaped = if *first == b'%' { hex(after) } else { None };
        rest = if escaped.is_some() { &after[2..] } else { after };
        escaped.unwrap_or(*first).is_ascii_hexdigit()
    })
}

/// Text with every byte that is not UTF-8 percent-encoded.
fn encode_invalid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Resolves dot segments and merges empty ones where that is tolerated, and refuses them otherwise.
pub(super) fn join_segments(decoded: &str, config: &PathConfig) -> Result<String, PathError> {
    let (resolve, merge) =
        (config.tolerates(Tolerance::DotSegments), config.tolerates(Tolerance::EmptySegments));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = decoded.strip_prefix('/').unwrap_or(decoded).split('/').peekable();
    let mut is_directory = false;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        is_directory = is_last && matches!(segment, "" | "." | "..");
        match segment {
            "" if is_last => {}
            "" if !merge => return Err(PathError::Ambiguous(Tolerance::EmptySegments)),
            "." | ".." if !resolve => return Err(PathError::Ambiguous(Tolerance::DotSegments)),
            "." => {}
            // Some merge slashes before they resolve dots, some after: `/a//../b` is `/b` or `/a/b`.
            ".." => {
                if kept.pop() == Some("") {
                    return Err(PathError::Ambiguous(Tolerance::EmptySegments));
                }
            }
            segment => kept.push(segment),
        }
    }
    let mut path = String::with_capacity(decoded.len());
    for segment in kept.iter().filter(|segment| !segment.is_empty()) {
        path.push('/');
        path.push_str(segment);
    }
    if is_directory || path.is_empty() {
        path.push('/');
    }
    Ok(path)
}
