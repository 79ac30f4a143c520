//! Path pattern syntax: what a pattern may consist of, so that one which no canonical path can match
//! is refused.

use alloc::{boxed::Box, format, vec::Vec};

use portcullis_policy::SettingsError;

use super::{PathOptions, escape};
use crate::field::Field;

/// One segment of a pattern.
#[derive(Debug, Clone, Copy)]
pub(super) enum Segment<'a> {
    /// This text. Empty only behind the slash at the end of the pattern.
    Text(&'a str),
    /// Text with `*` in it.
    Glob(&'a str),
    /// `*` or `{name}`: any one segment.
    One,
    /// `**`: any number of segments, none included.
    Any,
}

/// A named segment and its position in the path.
pub(super) type Name = (Box<str>, usize);

/// Takes a pattern apart.
pub(super) fn parse<'a>(
    field: &Field<'a>,
    options: PathOptions,
) -> Result<(Vec<Segment<'a>>, Vec<Name>), SettingsError> {
    let text = field.text()?;
    let Some(rest) = text.strip_prefix('/') else {
        return Err(field.refuse("must begin with `/`"));
    };
    check_characters(field, rest, options)?;
    let (mut segments, mut names) = (Vec::new(), Vec::new());
    if rest.is_empty() && !options.distinct_slash {
        return Ok((segments, names));
    }
    let count = rest.split('/').count();
    for (position, segment) in rest.split('/').enumerate() {
        let is_last = position + 1 == count;
        if segment.is_empty() && !(is_last && options.distinct_slash) {
            return Err(refuse_empty(field, is_last));
        }
        if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let is_fixed = !segments.iter().any(|segment| matches!(segment, Segment::Any));
            check_name(field, name, is_fixed, &names)?;
            names.push((name.into(), position));
            segments.push(Segment::One);
        } else {
            segments.push(read_segment(field, segment)?);
        }
    }
    Ok((segments, names))
}

fn refuse_empty(field: &Field<'_>, is_last: bool) -> SettingsError {
    if is_last {
        field.refuse(
            "has a slash at the end, which the canonical path does not have; remove it, or, where \
             the configuration has `paths: {trailing_slash: distinct}`, write the same beside \
             `rules`",
        )
    } else {
        field.refuse("has an empty segment, which no canonical path has; remove a slash")
    }
}

fn read_segment<'a>(field: &Field<'_>, segment: &'a str) -> Result<Segment<'a>, SettingsError> {
    Ok(match segment {
        "**" => Segment::Any,
        "*" => Segment::One,
        "." | ".." => {
            return Err(field.refuse("has a dot segment, which no canonical path has; remove it"));
        }
        _ if segment.contains(['{', '}']) => {
            return Err(field.refuse("`{name}` must be a whole segment between slashes"));
        }
        _ if segment.contains("**") => {
            return Err(field.refuse("`**` must be a whole segment between slashes"));
        }
        _ if segment.contains('*') => Segment::Glob(segment),
        _ => Segment::Text(segment),
    })
}

fn check_name(
    field: &Field<'_>,
    name: &str,
    is_fixed: bool,
    names: &[Name],
) -> Result<(), SettingsError> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(field.refuse(
            "the name of a segment consists of letters, digits and underscores: `{user_id}`",
        ));
    }
    if names.iter().any(|(known, _)| **known == *name) {
        return Err(field.refuse("names two segments alike; give each its own name"));
    }
    if !is_fixed {
        return Err(field.refuse(
            "has a named segment after `**`, where its position is not fixed; write `*` there",
        ));
    }
    Ok(())
}

/// Refuses characters that no canonical path has.
fn check_characters(
    field: &Field<'_>,
    text: &str,
    options: PathOptions,
) -> Result<(), SettingsError> {
    if let Some(wrong) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(field.refuse(format!(
            "contains `{wrong}`; patterns are matched against the path without query, and one in \
             the path itself is written `%{:02X}`",
            u32::from(wrong)
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(field.refuse("contains a control character, which no path has"));
    }
    // Those of ASCII match in either case.
    if options.ignore_case && text.chars().any(|c| !c.is_ascii() && c.is_uppercase()) {
        return Err(field.refuse(
            "has a letter beyond ASCII in upper case; the path arrives in lower case, so write it so",
        ));
    }
    escape::check(field, text)
}
