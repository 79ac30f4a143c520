//! Decoding, case and splitting that several servers have in common.

/// Bytes as characters with the same code (Latin-1).
pub(super) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The same in lower case.
pub(super) fn lower(text: &[u8]) -> String {
    latin1(&text.to_ascii_lowercase())
}

/// The part before the first of some bytes.
pub(super) fn before<'a>(text: &'a [u8], ends: &[u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| ends.contains(byte)).unwrap_or(text.len());
    &text[..end]
}

/// A host without port: cut at the first colon, outside of brackets.
pub(super) fn without_port(host: &[u8]) -> String {
    let bracket = host.iter().position(|byte| *byte == b']').map_or(0, |bracket| bracket + 1);
    let offset = if host.starts_with(b"[") { bracket } else { 0 };
    let end = host[offset..].iter().position(|byte| *byte == b':');
    latin1(&host[..end.map_or(host.len(), |end| offset + end)])
}

/// Percent-decoded; `None` if an escape is broken.
pub(super) fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    unescaped(text, false)
}

/// Percent-decoded, with broken escapes unchanged.
pub(super) fn decoded_leniently(text: &[u8]) -> Vec<u8> {
    unescaped(text, true).unwrap_or_default()
}

fn unescaped(text: &[u8], lenient: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high << 4 | low).ok()?);
                &after[2..]
            }
            (b'%', ..) if !lenient => return None,
            _ => {
                out.push(*byte);
                after
            }
        };
    }
    Some(out)
}

/// UTF-8, with one replacement character for invalid bytes: servers differ only in their number.
pub(super) fn lossy(bytes: &[u8]) -> String {
    one_mark(&String::from_utf8_lossy(bytes))
}

/// The same text with one replacement character in place of several.
pub(in super::super) fn one_mark(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != char::REPLACEMENT_CHARACTER || !out.ends_with(c) {
            out.push(c);
        }
    }
    out
}

/// A text whose escapes are UTF-8, and whose characters beyond ASCII stay unchanged.
pub(super) fn decoded_between(
    path: &[u8],
    decode: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<String> {
    let mut out = String::new();
    for run in path.chunk_by(|a, b| a.is_ascii() == b.is_ascii()) {
        out += &if run.is_ascii() { lossy(&decode(run)?) } else { latin1(run) };
    }
    Some(one_mark(&out))
}

/// Segments of a path with `.` and `..` resolved and without empty ones; `None` above the root.
pub(super) fn resolved(path: &[u8]) -> Option<Vec<&[u8]>> {
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            segment => segments.push(segment),
        }
    }
    Some(segments)
}
