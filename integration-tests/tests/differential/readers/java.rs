//! Java: the server of the JDK, servlets in Tomcat, and the path patterns of Spring.

use super::{Reader, text};

const TABLE: Option<&str> = Some("java");

/// `HttpExchange.getRequestURI().getPath()`
pub(super) const JDK: Reader = Reader {
    name: "jdk",
    table: TABLE,
    method: |method| Some(text::latin1(method)),
    host: |host| Some(trimmed_host(host)),
    path: uri_path,
    header: |name| Some(text::lower(name)),
    decodes: true,
};

/// `getServletPath`, `getServerName`
pub(super) const TOMCAT: Reader =
    Reader { name: "tomcat", host: |host| Some(server_name(host)), path: servlet_path, ..JDK };

/// Spring's patterns in Tomcat.
pub(super) const SPRING: Reader = Reader { name: "spring", path: pattern_path, ..TOMCAT };

/// `java.net.URI`: what follows two slashes is an authority.
fn uri_path(target: &[u8]) -> Option<String> {
    let path = match target.strip_prefix(b"//") {
        Some(rest) => &rest[text::before(rest, b"/?#").len()..],
        None => target,
    };
    text::decoded_between(text::before(path, b"?#"), text::decoded)
}

/// Control characters are white space to the JDK.
fn trimmed_host(host: &[u8]) -> String {
    let spaced: Vec<u8> = host.iter().map(|byte| *byte.max(&b' ')).collect();
    text::without_port(spaced.trim_ascii())
}

fn server_name(host: &[u8]) -> String {
    let whole = text::latin1(host);
    match whole.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => whole,
    }
}

/// Without path parameters, decoded, then normalised.
fn servlet_path(target: &[u8]) -> Option<String> {
    let path = text::before(target, b"?");
    let bare: Vec<_> =
        path.split(|byte| *byte == b'/').map(|segment| text::before(segment, b";")).collect();
    let bare = bare.join(&b'/');
    let lower = bare.to_ascii_lowercase();
    let is_refused = |escape: &[u8]| lower.windows(3).any(|three| three == escape);
    if is_refused(b"%2f") || is_refused(b"%5c") || bare.contains(&b'\\') {
        return None;
    }
    let decoded = text::decoded(&bare)?;
    let mut path = format!("/{}", String::from_utf8(text::resolved(&decoded)?.join(&b'/')).ok()?);
    if path.len() > 1 && decoded.ends_with(b"/") {
        path.push('/');
    }
    Some(path)
}

/// Each segment without parameters and decoded; Tomcat refuses what it cannot parse.
fn pattern_path(target: &[u8]) -> Option<String> {
    servlet_path(target)?;
    let path = text::before(target, b"?");
    let segments = path.split(|byte| *byte == b'/').map(|segment| {
        let decoded = text::decoded(text::before(segment, b";"))?;
        String::from_utf8(decoded).ok()
    });
    Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
}
