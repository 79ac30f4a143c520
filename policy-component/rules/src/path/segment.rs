//! Path segments as values: what the upstream reads where a rule compares a segment with a claim.
//!
//! The canonical path keeps some escapes, and under `ignore_case` it has lost the case. Where the
//! upstream's reading is not certain there is no value, and a comparison does not hold.

use alloc::{borrow::Cow, string::String, vec::Vec};

use portcullis_policy::Request;

use super::escape::escaped;

/// The text that a segment of the canonical path stands for. A byte that is not UTF-8 is no text.
pub(crate) fn unescape(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(position) = rest.find('%') {
        let (before, escape) = rest.split_at(position);
        text.push_str(before);
        let length = match escaped(escape.as_bytes()) {
            // A percent sign that begins no escape is itself.
            None => {
                text.push('%');
                1
            }
            Some(byte @ (b'/' | b'%')) => {
                text.push(char::from(byte));
                3
            }
            Some(_) => return None,
        };
        rest = &escape[length..];
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// The canonical path in the case in which the client sent it. The request's is in lower case where
/// the configuration has `paths: {ignore_case: true}`. `None` where the two do not correspond byte
/// for byte, since segments were removed or letters beyond ASCII have another case.
pub(crate) fn as_sent(request: &Request) -> Option<String> {
    let raw = request.raw_path.as_deref()?;
    let mut raw = raw.split_once('?').map_or(raw, |(path, _)| path).as_bytes();
    let mut path = request.path.as_bytes();
    let mut sent = Vec::with_capacity(path.len());
    while let [first, after @ ..] = path {
        let decoded = escaped(raw);
        let byte = decoded.or_else(|| raw.first().copied())?;
        let kept = escaped(path);
        let is_same = match kept {
            Some(kept) => byte == kept,
            None => byte.eq_ignore_ascii_case(first) && (byte != b'/' || decoded.is_none()),
        };
        if !is_same {
            return None;
        }
        if kept.is_some() {
            sent.extend_from_slice(&path[..3]);
            path = &path[3..];
        } else {
            sent.push(byte);
            path = after;
        }
        raw = &raw[if decoded.is_some() { 3 } else { 1 }..];
    }
    if !matches!(raw, [] | [b'/']) {
        return None;
    }
    String::from_utf8(sent).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_escape_is_read_as_the_upstream_reads_it() {
        for (segment, expected) in [
            ("plain", Some("plain")),
            ("100%", Some("100%")),
            ("%zz", Some("%zz")),
            ("group%2Fproject", Some("group/project")),
            ("%%2F%", Some("%/%")),
            ("a%252Fb", Some("a%2Fb")),
            ("é%2Fé", Some("é/é")),
            ("caf%E9", None),
        ] {
            assert_eq!(unescape(segment).as_deref(), expected, "{segment}");
        }
    }

    fn request(path: &str, raw_path: &str) -> Request {
        Request {
            route: "r".into(),
            method: "GET".into(),
            scheme: "https".into(),
            host: "h".into(),
            path: path.into(),
            raw_path: Some(raw_path.into()),
            query: None,
            headers: Vec::new(),
            context: Vec::new(),
            metadata: Vec::new(),
            identity: None,
            source: None,
            body: None,
        }
    }

    #[test]
    fn a_path_gets_back_the_case_in_which_it_was_sent() {
        for (path, raw, expected) in [
            ("/users/alice", "/USERS/Alice", Some("/USERS/Alice")),
            ("/users/alice", "/Users/Alice/?x=/B", Some("/Users/Alice")),
            ("/users/alice", "/users/%41lice", Some("/users/Alice")),
            ("/a%2Fb", "/A%2fB", Some("/A%2FB")),
            ("/a%252fb", "/A%252FB", Some("/A%252FB")),
            ("/a%252fb", "/A%25%32FB", Some("/A%252FB")),
            ("/caf%E9", "/Caf%e9", Some("/Caf%E9")),
            ("/100%", "/100%25", Some("/100%")),
            ("/", "/", Some("/")),
            ("/users/alice", "/users//Alice", None),
            ("/alice", "/users/../Alice", None),
            ("/users/alice", "/users/Alice/x", None),
            ("/users/alice/x", "/users/Alice", None),
            ("/a/b", "/a%2Fb", None),
            ("/é", "/É", None),
        ] {
            let sent = as_sent(&request(path, raw));
            assert_eq!(sent.as_deref(), expected, "{path} {raw}");
        }
    }

    proptest! {
        #[test]
        fn every_path_without_removed_segments_gets_back_its_case(
            path in "(/[a-zA-Z0-9.~@-]{1,5}){1,4}",
            escaped in any::<bool>(),
        ) {
            let raw: String = if escaped {
                path.bytes()
                    .map(|byte| if byte == b'/' { "/".into() } else { alloc::format!("%{byte:02x}") })
                    .collect()
            } else {
                path.clone()
            };
            let sent = as_sent(&request(&path.to_ascii_lowercase(), &raw));
            prop_assert_eq!(sent, Some(path));
        }
    }
}
