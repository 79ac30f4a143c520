//! Escapes of the form `%2F`, in canonical paths and in patterns.
//!
//! A canonical path is decoded. What is still an escape in it is one of three, each of which a
//! tolerance of the configuration lets through: `%2F` is a slash inside a segment, `%25` a percent
//! sign before two hexadecimal digits, and `%80` to `%FF` a byte that is not UTF-8.

use alloc::{format, vec::Vec};

use portcullis_policy::SettingsError;

use crate::field::Field;

/// Characters with a meaning in patterns, which stand for themselves where they are escaped.
const SPECIAL: &[u8] = b"*?#{}";

/// The byte that an escape at the beginning of `text` stands for.
pub(super) fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = *text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// The character that an escape at the beginning of a pattern's `text` takes the meaning of.
pub(super) fn special(text: &[u8]) -> Option<u8> {
    escaped(text).filter(|byte| SPECIAL.contains(byte))
}

/// Refuses escapes that no canonical path has.
pub(super) fn check(field: &Field<'_>, pattern: &str) -> Result<(), SettingsError> {
    let bytes = pattern.as_bytes();
    let mut position = 0;
    while let Some(text) = bytes.get(position..).filter(|text| !text.is_empty()) {
        position += match escaped(text) {
            None => 1,
            Some(byte) if byte >= 0x80 => 3 * check_bytes(field, text)?,
            Some(byte) => {
                let is_kept = match byte {
                    b'/' => true,
                    // Two digits follow, or could.
                    b'%' => {
                        let follow = || text.iter().skip(3).take(2);
                        follow().filter(|byte| byte.is_ascii_hexdigit()).count() == 2
                            || follow().any(|byte| *byte == b'*')
                    }
                    byte => SPECIAL.contains(&byte),
                };
                let character = char::from(byte).escape_default();
                check_one(
                    field,
                    &pattern[position..position + 3],
                    is_kept,
                    &format!("{character}"),
                )?;
                3
            }
        };
    }
    Ok(())
}

/// Checks the escaped bytes beyond ASCII that `text` begins with. Returns how many they are.
fn check_bytes(field: &Field<'_>, text: &[u8]) -> Result<usize, SettingsError> {
    let escapes = text.chunks_exact(3).map_while(|escape| escaped(escape).filter(|b| *b >= 0x80));
    let bytes: Vec<u8> = escapes.collect();
    let valid = bytes.utf8_chunks().map(|chunk| chunk.valid()).find(|text| !text.is_empty());
    for escape in text.chunks_exact(3).take(bytes.len()) {
        let escape = core::str::from_utf8(escape).unwrap_or_default();
        check_one(field, escape, valid.is_none(), valid.unwrap_or_default())?;
    }
    Ok(bytes.len())
}

fn check_one(
    field: &Field<'_>,
    escape: &str,
    is_kept: bool,
    decoded: &str,
) -> Result<(), SettingsError> {
    if !is_kept {
        return Err(field.refuse(format!(
            "contains the escape `{escape}`; patterns are matched against the decoded path, so \
             write `{decoded}`"
        )));
    }
    let upper = escape.to_ascii_uppercase();
    if escape != upper {
        return Err(
            field.refuse(format!("paths have their escapes in upper case; write `{upper}`"))
        );
    }
    Ok(())
}
