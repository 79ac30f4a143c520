//! Go: the patterns of `net/http.ServeMux`, and `path.Clean` of the decoded path as in
//! `http.FileServer`.

use super::{Reader, text};

const TABLE: Option<&str> = Some("go");

pub(super) const MUX: Reader = Reader {
    name: "go_mux",
    table: TABLE,
    method: |method| Some(text::latin1(method)),
    host: |host| Some(host_of_pattern(host)),
    path: segments,
    header: |name| Some(text::lower(name)),
    decodes: true,
};

pub(super) const CLEAN: Reader =
    Reader { name: "go_clean", host: |host| Some(hostname(host)), path: clean, ..MUX };

/// `SplitHostPort`, or the unchanged host where that is an error.
fn host_of_pattern(host: &[u8]) -> String {
    let whole = text::latin1(host);
    let Some((name, _)) = whole.rsplit_once(':') else { return whole };
    let bare = match name.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']'),
        None => Some(name).filter(|name| !name.contains(':')),
    };
    match bare {
        Some(bare) if !bare.contains(['[', ']']) => bare.to_owned(),
        _ => whole,
    }
}

/// `url.URL.Hostname`.
fn hostname(host: &[u8]) -> String {
    let whole = text::latin1(host);
    let name = match whole.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => &whole,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    bare.unwrap_or(name).to_owned()
}

/// Each segment decoded, a slash in it as `%2F`. What is not clean is redirected, not served.
fn segments(target: &[u8]) -> Option<String> {
    let path = text::before(target, b"?");
    let decoded = text::decoded(path)?;
    // `EscapedPath` takes the path as it was sent only if it may be written so.
    let segments: Vec<Vec<u8>> = if path.iter().all(|byte| may_stand(*byte)) {
        let raw: Vec<_> = path.split(|byte| *byte == b'/').skip(1).collect();
        if !is_clean(&raw) {
            return None;
        }
        raw.into_iter().map(text::decoded).collect::<Option<_>>()?
    } else {
        let raw: Vec<_> = decoded.split(|byte| *byte == b'/').skip(1).collect();
        if !is_clean(&raw) {
            return None;
        }
        raw.into_iter().map(<[u8]>::to_vec).collect()
    };
    let shown = segments.iter().map(|segment| text::latin1(segment).replace('/', "%2F"));
    Some(format!("/{}", shown.collect::<Vec<_>>().join("/")))
}

/// `validEncoded`
fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@[]/%".contains(&byte)
}

fn is_clean(segments: &[&[u8]]) -> bool {
    let (last, rest) = segments.split_last().map_or((&b""[..], segments), |(l, r)| (*l, r));
    let is_dots = |segment: &[u8]| matches!(segment, b"." | b"..");
    !is_dots(last) && rest.iter().all(|segment| !segment.is_empty() && !is_dots(segment))
}

fn clean(target: &[u8]) -> Option<String> {
    let decoded = text::decoded(text::before(target, b"?"))?;
    let mut segments: Vec<&[u8]> = Vec::new();
    for segment in decoded.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            // Nothing is above the root.
            b".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    Some(format!("/{}", text::latin1(&segments.join(&b'/'))))
}
