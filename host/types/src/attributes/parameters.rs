//! Parameters of a query: which names a server takes for one.
//!
//! Envoy compares names as they are spelled. Servers decode first, so that `%72ole` is `role`, and
//! some have further names for one parameter: PHP, Rails and `qs` of Node take `role[]` and `role[0]`
//! for parts of `role`, `qs` and older Racks take `[role]` for `role`, PHP takes `a.b`, `a b` and
//! `a[b` for `a_b`, and ASP.NET ignores the case.

/// Servers read a query in several ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the query can be read in two ways")]
pub struct AmbiguousQuery;

/// The parameters in `query` that a server may take for one of `keys`: their names and values as they
/// are spelled. `query` has no question mark.
///
/// # Errors
/// When servers do not agree on where such a parameter begins, or what it is called.
pub fn parameters_like<'q>(
    query: &'q str,
    keys: &[&str],
) -> Result<Vec<(&'q str, Option<&'q str>)>, AmbiguousQuery> {
    if query.contains('#') {
        return Err(AmbiguousQuery);
    }
    let mut found = Vec::new();
    for parameter in query.split('&') {
        // To some servers `;` separates parameters too.
        if parameter.contains(';') {
            for part in parameter.split(';') {
                if is_one_of(split(part).0, keys)? {
                    return Err(AmbiguousQuery);
                }
            }
        }
        let (name, value) = split(parameter);
        if is_one_of(name, keys)? {
            found.push((name, value));
        }
    }
    Ok(found)
}

fn split(parameter: &str) -> (&str, Option<&str>) {
    parameter.split_once('=').map_or((parameter, None), |(name, value)| (name, Some(value)))
}

fn is_one_of(raw: &str, keys: &[&str]) -> Result<bool, AmbiguousQuery> {
    // Some take a second question mark for the first one.
    let name = decoded_name(raw.trim_start_matches('?'))?;
    Ok(keys.iter().any(|key| names_parameter(&name, key.as_bytes())))
}

/// Whether a server may take one name of a parameter, or of a cookie, for the other.
#[must_use]
pub fn parameters_alike(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    names_parameter(one, other) || names_parameter(other, one)
}

/// Whether a server may take a parameter of this name for that of the key.
pub(super) fn names_parameter(name: &[u8], key: &[u8]) -> bool {
    if folded(name).eq(folded(key)) {
        return true;
    }
    // A key with a bracket means one part of a parameter, not those beside it.
    if key.contains(&b'[') {
        return folded(part(name)).eq(folded(part(key)));
    }
    folded(whole(name)).eq(folded(key))
}

/// A name as PHP reads one that is no array's, in lower case: without blanks at its beginning, and with
/// an underscore for each dot, each blank and a bracket that nothing closes. What follows such a bracket
/// is replaced by some versions and kept by others, so nothing here depends on it.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    let blanks = name.iter().take_while(|byte| **byte == b' ').count();
    let fold = |byte: &u8| match byte {
        b' ' | b'.' | b'[' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    name[blanks..].iter().map(fold)
}

/// The parameter that a name is, or is a part of: `a` of `a[b]` and of `[a][b]`.
fn whole(name: &[u8]) -> &[u8] {
    let is_bracket = |byte: &u8| matches!(byte, b'[' | b']');
    let begin = name.iter().position(|byte| !is_bracket(byte)).unwrap_or(name.len());
    let name = &name[begin..];
    &name[..name.iter().position(is_bracket).unwrap_or(name.len())]
}

/// The part of a parameter that a name is, without what follows it, which PHP does not read: `a[b]` of
/// `a[b]c`.
fn part(name: &[u8]) -> &[u8] {
    let Some(mut end) = name.iter().position(|byte| *byte == b'[') else { return name };
    let begin = end;
    while name.get(end) == Some(&b'[')
        && let Some(closing) = name[end..].iter().position(|byte| *byte == b']')
    {
        end += closing + 1;
    }
    if end == begin { name } else { &name[..end] }
}

/// The name of a parameter, percent-decoded, with `+` for a blank.
///
/// # Errors
/// When servers make different names of it: an escape that is none, or a control character.
pub fn decoded_name(raw: &str) -> Result<Vec<u8>, AmbiguousQuery> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (Some(high), Some(low)) = (digit(), digit()) else {
                    return Err(AmbiguousQuery);
                };
                u8::try_from(high << 4 | low).map_err(|_| AmbiguousQuery)?
            }
            byte => byte,
        };
        // PHP ends a name at NUL; others do so at line breaks.
        if byte.is_ascii_control() {
            return Err(AmbiguousQuery);
        }
        decoded.push(byte);
    }
    Ok(decoded)
}
