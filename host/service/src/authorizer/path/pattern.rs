//! Path patterns of routes: bringing them into the form of canonical paths, and refusing those that no
//! path matches.

use std::borrow::Cow;

use super::{PathConfig, Tolerance, TrailingSlash, case, hex};
use crate::authorizer::pattern::Pattern;

/// What is wrong with a pattern, and what to write instead.
type PatternFault = Cow<'static, str>;

/// Characters with a meaning in patterns, which stand for themselves only when they are encoded.
const ENCODED: &[u8] = b"*?#{}";

/// Brings `pattern` into the form in which canonical paths are compared: the patterns of which one must
/// match.
///
/// # Errors
/// What is wrong with it and what to write instead, if no path can match it.
pub(in crate::authorizer) fn compile(
    pattern: &Pattern,
    config: &PathConfig,
) -> Result<Vec<Pattern>, PatternFault> {
    let Some(text) = pattern.text() else { return Ok(vec![Pattern::Present]) };
    check_start(text, pattern)?;
    if let Some(wrong) = text.chars().find(|char| matches!(char, '?' | '#')) {
        return Err(format!(
            "has a `{wrong}`; paths are compared without query and fragment, and one in the path \
             itself is written `%{:02X}`",
            u32::from(wrong)
        )
        .into());
    }
    if text.contains(['{', '}']) {
        return Err(
            "has braces, which name nothing here; write `/users/*`, for example, and a brace \
                    in the path itself as `%7B` or `%7D`"
                .into(),
        );
    }
    check_characters(text, config)?;
    check_escapes(text, matches!(pattern, Pattern::Prefix(_)), config)?;
    let text = decode_special(text);
    check_segments(&text, pattern)?;
    if text.len() > config.max_bytes() {
        return Err("is longer than `paths.max_bytes`".into());
    }
    let text = if config.ignore_case {
        case::fold(&text).ok_or(
            "has a letter without a single lower case, which is refused with `paths.ignore_case`",
        )?
    } else {
        text
    };
    Ok(with_slashes(pattern, text, config.trailing_slash))
}

fn check_start(text: &str, pattern: &Pattern) -> Result<(), PatternFault> {
    if matches!(pattern, Pattern::Suffix(_)) || text.starts_with('/') {
        return Ok(());
    }
    Err(format!("does not begin with a slash, as paths do; write `/{pattern}`").into())
}

fn check_characters(text: &str, config: &PathConfig) -> Result<(), PatternFault> {
    if text.chars().any(|char| char.is_ascii_control()) {
        return Err("has a control character, which is refused in paths".into());
    }
    let refused = [(';', Tolerance::Semicolon), ('\\', Tolerance::Backslash)];
    match refused
        .iter()
        .find(|(char, tolerance)| text.contains(*char) && !config.tolerates(*tolerance))
    {
        Some((_, tolerance)) => Err(refused_unless(*tolerance)),
        None => Ok(()),
    }
}

fn refused_unless(tolerance: Tolerance) -> PatternFault {
    let (ambiguity, name) = (tolerance.ambiguity(), tolerance.name());
    format!("{ambiguity}; such paths are refused unless `paths.tolerate` lists `{name}`").into()
}

/// Checks what is percent-encoded against what canonical paths keep so. `goes_on` if a star follows.
fn check_escapes(text: &str, goes_on: bool, config: &PathConfig) -> Result<(), PatternFault> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escaped = if bytes[at] == b'%' { hex(&bytes[at + 1..]) } else { None };
        let Some(byte) = escaped else {
            at += 1;
            continue;
        };
        if byte >= 0x80 {
            at += check_bytes(&bytes[at..], config)?;
            continue;
        }
        let is_kept = match byte {
            b'/' if !config.tolerates(Tolerance::EncodedSlash) => {
                return Err(refused_unless(Tolerance::EncodedSlash));
            }
            b'%' if hex(&bytes[at + 3..]).is_some() => {
                if !config.tolerates(Tolerance::DoubleEncoding) {
                    return Err(refused_unless(Tolerance::DoubleEncoding));
                }
                true
            }
            // What makes it one that is kept may follow.
            b'%' => goes_on && bytes.len() - at < 5 && config.tolerates(Tolerance::DoubleEncoding),
            byte => byte == b'/' || ENCODED.contains(&byte),
        };
        if !is_kept {
            return Err(format!(
                "is percent-encoded, and paths are compared decoded; write `{}` for `{}`",
                char::from(byte).escape_default(),
                &text[at..at + 3]
            )
            .into());
        }
        check_upper_case(&text[at..at + 3])?;
        at += 3;
    }
    Ok(())
}

/// Checks the encoded bytes beyond ASCII with which `text` begins, and returns how long they are.
fn check_bytes(text: &[u8], config: &PathConfig) -> Result<usize, PatternFault> {
    let escapes = text.chunks_exact(3).map_while(|escape| match escape {
        [b'%', digits @ ..] => hex(digits).filter(|byte| *byte >= 0x80),
        _ => None,
    });
    let run: Vec<u8> = escapes.collect();
    if let Some(decoded) =
        run.utf8_chunks().map(|chunk| chunk.valid()).find(|text| !text.is_empty())
    {
        return Err(format!(
            "is percent-encoded, and paths are compared decoded; write the letters themselves: \
             `{decoded}`"
        )
        .into());
    }
    if !config.tolerates(Tolerance::NotUtf8) {
        return Err(refused_unless(Tolerance::NotUtf8));
    }
    let length = 3 * run.len();
    check_upper_case(&String::from_utf8_lossy(&text[..length]))?;
    Ok(length)
}

fn check_upper_case(escape: &str) -> Result<(), PatternFault> {
    if escape.contains(|char: char| char.is_ascii_lowercase()) {
        let upper = escape.to_ascii_uppercase();
        return Err(format!(
            "has `{escape}`, which canonical paths have in upper case; write `{upper}`"
        )
        .into());
    }
    Ok(())
}

fn decode_special(text: &str) -> String {
    ENCODED.iter().fold(text.to_owned(), |text, byte| {
        text.replace(&format!("%{byte:02X}"), &char::from(*byte).to_string())
    })
}

fn check_segments(text: &str, pattern: &Pattern) -> Result<(), PatternFault> {
    if text.contains("//") {
        return Err("has an empty segment, which canonical paths have not; write one slash".into());
    }
    // Next to the star is only a part of a segment.
    let whole = match pattern {
        Pattern::Prefix(_) => text.rsplit_once('/').map(|(whole, _)| whole),
        Pattern::Suffix(_) => text.split_once('/').map(|(_, whole)| whole),
        Pattern::Exact(_) | Pattern::Present => Some(text),
    };
    let mut segments = whole.unwrap_or_default().split('/');
    if segments.any(|segment| matches!(segment, "." | "..")) {
        return Err(
            "has a dot segment, which canonical paths have not; write the path without it".into()
        );
    }
    Ok(())
}

/// The patterns for paths without slash at their end that match what `pattern` matches with one or
/// without.
fn with_slashes(pattern: &Pattern, text: String, slash: TrailingSlash) -> Vec<Pattern> {
    let pattern = pattern.with_text(text);
    if pattern == Pattern::Prefix("/".to_owned()) {
        return vec![Pattern::Present];
    }
    if slash == TrailingSlash::Distinct {
        return vec![pattern];
    }
    let without = pattern.text().and_then(|text| text.strip_suffix('/')).map(str::to_owned);
    match (pattern, without) {
        (Pattern::Suffix(_), Some(without)) if without.is_empty() => vec![Pattern::Present],
        (Pattern::Exact(_), Some(without)) if !without.is_empty() => vec![Pattern::Exact(without)],
        (Pattern::Suffix(_), Some(without)) => vec![Pattern::Suffix(without)],
        (pattern @ Pattern::Prefix(_), Some(without)) => vec![pattern, Pattern::Exact(without)],
        (pattern, _) => vec![pattern],
    }
}
