//! Lower case of canonical paths, for upstreams that read paths without regard to case.

use super::hex;

/// The text in lower case; nothing if it has a letter that one upstream reads like another and the next
/// does not. What is kept percent-encoded stays in upper case.
pub(super) fn fold(text: &str) -> Option<String> {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '%' && hex(&rest.as_bytes()[1..]).is_some() {
            // Three bytes of ASCII.
            let (escape, after) = rest.split_at(3);
            folded.push_str(escape);
            rest = after;
            continue;
        }
        folded.push(lower(first)?);
        rest = &rest[first.len_utf8()..];
    }
    Some(folded)
}

/// The one lower case of a character, by whatever way. Letters that become ASCII, such as the Kelvin
/// sign and `ſ`, or several letters, such as `ß`, do so for some upstreams only.
fn lower(char: char) -> Option<char> {
    if char.is_ascii() {
        return Some(char.to_ascii_lowercase());
    }
    let lower = single(single(char.to_uppercase())?.to_lowercase())?;
    // What it becomes must be at rest: `ẞ` becomes `ß`.
    let is_stable =
        single(lower.to_uppercase()).and_then(|upper| single(upper.to_lowercase())) == Some(lower);
    (is_stable && !lower.is_ascii() && !single(char.to_uppercase())?.is_ascii()).then_some(lower)
}

fn single(mut chars: impl Iterator<Item = char>) -> Option<char> {
    let first = chars.next()?;
    chars.next().is_none().then_some(first)
}
