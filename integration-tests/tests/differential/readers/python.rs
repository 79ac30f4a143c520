//! Python: WSGI as in PEP 3333 and `wsgiref`, `urlsplit`, Flask, and Django over WSGI and ASGI.

use super::{Reader, text};

const TABLE: Option<&str> = Some("python");

pub(super) const WSGIREF: Reader = Reader {
    name: "wsgiref",
    table: TABLE,
    method: |method| Some(text::latin1(method)),
    host: |host| Some(text::without_port(host)),
    path: |target| Some(text::latin1(&path_info(target))),
    header: |name| Some(folded(name)),
    decodes: true,
};

/// `unquote(urlsplit(target).path)`
pub(super) const URLSPLIT: Reader = Reader {
    name: "urlsplit",
    host: netloc_host,
    path: split,
    header: |name| Some(text::lower(name)),
    ..WSGIREF
};

pub(super) const FLASK: Reader = Reader {
    name: "flask",
    method: |method| Some(upper(method)),
    host: |host| Some(valid_host(host)),
    path: |target| Some(format!("/{}", text::lossy(&path_info(target)).trim_start_matches('/'))),
    ..WSGIREF
};

pub(super) const DJANGO: Reader = Reader {
    name: "django",
    method: |method| Some(upper(method)),
    host: django_host,
    path: |target| Some(repercented(&path_info(target))),
    ..WSGIREF
};

pub(super) const DJANGO_ASGI: Reader = Reader {
    name: "django_asgi",
    path: |target| {
        let path = text::decoded_leniently(text::before(target, b"?"));
        Some(text::lossy(&path))
    },
    // ASGI keeps the names apart, and Django drops those that a WSGI server would have folded.
    header: |name| (!name.contains(&b'_')).then(|| text::lower(name)),
    ..DJANGO
};

fn upper(method: &[u8]) -> String {
    text::latin1(&method.to_ascii_uppercase())
}

/// CGI, and WSGI after it, knows `_` alone.
fn folded(name: &[u8]) -> String {
    text::lower(name).replace('_', "-")
}

/// `PATH_INFO`, where slashes at the beginning are one.
fn path_info(target: &[u8]) -> Vec<u8> {
    let slashes = target.iter().take_while(|byte| **byte == b'/').count();
    let target = &target[slashes.saturating_sub(1)..];
    text::decoded_leniently(text::before(target, b"?"))
}

fn split(target: &[u8]) -> Option<String> {
    let path = match target.strip_prefix(b"//") {
        Some(rest) => &rest[text::before(rest, b"/?#").len()..],
        None => target,
    };
    text::decoded_between(text::before(path, b"?#"), |run| Some(text::decoded_leniently(run)))
}

/// `repercent_broken_unicode`
fn repercented(path: &[u8]) -> String {
    let mut out = String::new();
    for chunk in path.utf8_chunks() {
        out += chunk.valid();
        for byte in chunk.invalid() {
            out += format!("%{byte:02X}").as_str();
        }
    }
    out
}

/// `urlsplit('//' + host).hostname`
fn netloc_host(host: &[u8]) -> Option<String> {
    let netloc: Vec<u8> =
        text::before(host, b"/?#").iter().copied().filter(|byte| *byte != b'\t').collect();
    let netloc = text::latin1(&netloc);
    let host = netloc.rsplit_once('@').map_or(&netloc[..], |(_, host)| host);
    let name = match host.split_once('[') {
        Some((_, bracketed)) => bracketed.split(']').next(),
        None => host.split(':').next(),
    };
    // A zone keeps its case.
    let name = name?;
    let (name, zone) = name.split_at(name.find('%').unwrap_or(name.len()));
    Some(name.to_lowercase() + zone)
}

/// Werkzeug's `get_host`, empty where the host is not valid, without its port.
fn valid_host(host: &[u8]) -> String {
    let whole = text::latin1(host);
    // The default port is removed before.
    let whole = whole.strip_suffix(":80").unwrap_or(&whole);
    let (name, port) = match whole.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (whole, None),
    };
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-".contains(c))
    };
    let is_ipv6 = |name: &str| {
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    let has_port =
        port.is_none_or(|port| !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok());
    let valid = has_port && (is_name(name) || is_ipv6(name));
    if valid { name.to_owned() } else { String::new() }
}

/// `split_domain_port(request.get_host())[0]`
fn django_host(host: &[u8]) -> Option<String> {
    let whole = text::latin1(host).to_lowercase();
    let (name, port) = match whole.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (&whole[..], "0"),
    };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
    };
    let is_ipv6 = |name: &str| {
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        inner.is_some_and(|inner| {
            inner.contains(':') && inner.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c))
        })
    };
    let valid = is_port && (is_name(name) || is_ipv6(name));
    valid.then(|| name.strip_suffix('.').unwrap_or(name).to_owned())
}
