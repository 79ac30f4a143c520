//! Cookies of a request: the one of a name, and the request without it.
//!
//! RFC 6265 section 4.2.1 has pairs separated by semicolons. Servers differ: some separate at commas
//! and blanks too (`SimpleCookie` of Python), PHP decodes names and folds them as it folds parameters,
//! and some strip quotation marks, equals signs, and blanks beyond ASCII, of which a proxy may show
//! another character. A part that one of them may take for the cookie makes it ambiguous.

use super::parameters::names_parameter;

/// A server may find another cookie of that name, or another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cookie can be read in two ways")]
pub struct AmbiguousCookie;

/// The value of the cookie `name` in the `cookie` headers of a request, if it has the cookie.
///
/// # Errors
/// When there are several, or a server may take another part of the headers for one.
pub fn cookie<'h>(
    headers: impl Iterator<Item = &'h str>,
    name: &str,
) -> Result<Option<&'h str>, AmbiguousCookie> {
    let mut found = None;
    for pair in headers.flat_map(|header| header.split(';')).filter(|pair| may_hold(pair, name)) {
        let value = exactly(pair, name).filter(|_| found.is_none()).ok_or(AmbiguousCookie)?;
        found = Some(value);
    }
    Ok(found)
}

/// The `cookie` headers of a request as one, without the cookie `name` and whatever a server may take
/// for it. `None` if there is no such cookie; empty if there is no other.
pub fn without_cookie<'h>(headers: impl Iterator<Item = &'h str>, name: &str) -> Option<String> {
    let mut is_there = false;
    let mut others: Vec<&str> = Vec::new();
    for pair in headers.flat_map(|header| header.split(';')) {
        if may_hold(pair, name) {
            is_there = true;
        } else if !pair.trim_matches(BLANK).is_empty() {
            others.push(pair.trim_matches(BLANK));
        }
    }
    is_there.then(|| others.join("; "))
}

const BLANK: [char; 2] = [' ', '\t'];

/// The value of a pair that is spelled as browsers spell it, and in which no server finds another one.
fn exactly<'h>(pair: &'h str, name: &str) -> Option<&'h str> {
    let (found, value) = pair.trim_start_matches(BLANK).split_once('=')?;
    let again = |part: &str| part.contains('=') && is_named(part, name);
    (found == name && !value.contains(',') && !value.split(is_end).any(again)).then_some(value)
}

/// Whether a server may find a cookie of this name in the pair: at its beginning, or, with a value,
/// behind a character that ends a pair to some.
fn may_hold(pair: &str, name: &str) -> bool {
    let pair = pair.trim_start_matches(|c| c == '=' || is_end(c));
    let has_name =
        |(place, part): (usize, &str)| (place == 0 || part.contains('=')) && is_named(part, name);
    is_named(pair, name) || pair.split(is_end).enumerate().any(has_name)
}

/// Whether a character may end a pair, or be stripped from it. Envoy shows `!` for what is not UTF-8.
fn is_end(c: char) -> bool {
    !c.is_ascii_graphic() || matches!(c, ',' | '"' | '!')
}

fn is_named(part: &str, name: &str) -> bool {
    let end = part.find('=').unwrap_or(part.len());
    names_parameter(&decoded(&part[..end]), name.as_bytes())
}

/// A name as a server that decodes it may read it. What is no escape stays as it is, and a control
/// character ends the name.
fn decoded(name: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digit = |place: usize| after.get(place).and_then(|byte| char::from(*byte).to_digit(16));
        let escaped = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high << 4 | low).ok(),
            _ => None,
        };
        let byte = escaped.unwrap_or(if *byte == b'+' { b' ' } else { *byte });
        if byte.is_ascii_control() {
            break;
        }
        decoded.push(byte);
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(headers: &[&'static str]) -> Result<Option<&'static str>, AmbiguousCookie> {
        cookie(headers.iter().copied(), "session")
    }

    fn without(headers: &[&str]) -> Option<String> {
        without_cookie(headers.iter().copied(), "session")
    }

    #[test]
    fn one_cookie_among_others_is_found_and_taken_out() {
        for (headers, value, others) in [
            (&["session=a"] as &[_], Some("a"), Some("")),
            (&["x=1; session=a; y=2"], Some("a"), Some("x=1; y=2")),
            (&["x=1;session=a;y=2"], Some("a"), Some("x=1; y=2")),
            (&["x=1", "session=a; y=\"b c\""], Some("a"), Some("x=1; y=\"b c\"")),
            (&["session="], Some(""), Some("")),
            (&["session=a=="], Some("a=="), Some("")),
            (&["sessions=a; xsession=b; x=session; y=session%3Da"], None, None),
            (&["prefs={\"a\":1,\"b\":2}; flag"], None, None),
            (&["recent=home,session; last=my session"], None, None),
            (&[], None, None),
        ] {
            assert_eq!(session(headers), Ok(value), "{headers:?}");
            assert_eq!(without(headers).as_deref(), others, "{headers:?}");
        }
    }

    #[test]
    fn what_a_server_may_take_for_the_cookie_is_ambiguous_and_taken_out() {
        for header in [
            "session=a; session=b",
            "session=a; session=a",
            "session=a,b",
            "session=a; x=1,session=b",
            "x=1,session=b",
            "Session=a",
            "sess%69on=a",
            "session[]=a",
            "session =a",
            "\"session\"=a",
            "=session=a",
            "session%00x=a",
            "session",
            "+session=a",
            "x=1 session=a",
            "session= session=a",
            "session=a session=b",
            "x=\"b\" session=a",
            "x=\"b session=a\"",
            "x=1\tsession=a",
            "\u{a0}session=a",
            "\u{fffd}session=a",
            "!session=a",
            "session\u{2003}=a",
        ] {
            assert_eq!(session(&[header]), Err(AmbiguousCookie), "{header}");
            let others = without(&[header, "y=2"]).unwrap();
            assert_eq!(session(&[others.leak()]), Ok(None), "{header}");
        }
        assert_eq!(session(&["session=a", "session=b"]), Err(AmbiguousCookie));
        assert_eq!(cookie(["a.b=1"].into_iter(), "a_b"), Err(AmbiguousCookie));
    }

    /// The names that parsers of servers find: those that separate at semicolons and strip blanks, and
    /// those that also end a value at a blank or a comma.
    fn names(header: &str) -> Vec<&str> {
        let name = |part: &'_ str| part.split('=').next().unwrap_or_default().len();
        let stripping = header.split(';').map(|part| {
            let part = part.trim();
            part[..name(part)].trim()
        });
        let ending = header.split([';', ',', ' ', '\t', '"']).filter(|part| part.contains('='));
        stripping.chain(ending.map(|part| &part[..name(part)])).collect()
    }

    proptest! {
        #[test]
        fn no_parser_finds_another_cookie_of_that_name(
            header in "(s|ession|session|=|;|; |,| |\"|x|\t|\u{a0}){0,14}",
        ) {
            let found = names(&header).into_iter().filter(|name| *name == "session").count();
            match cookie([header.as_str()].into_iter(), "session") {
                Ok(None) => prop_assert_eq!(found, 0),
                // Both kinds of parsers find it.
                Ok(Some(_)) => prop_assert!(found <= 2, "{}", header),
                Err(AmbiguousCookie) => {}
            }
            if let Some(left) = without(&[&header]) {
                prop_assert!(!names(&left).contains(&"session"), "{}", left);
            }
        }
    }
}
