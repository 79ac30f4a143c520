//! Node: `new URL` as servers without a framework use it, and Express.

use url::Url;

use super::{Reader, text};

const TABLE: Option<&str> = Some("node");

/// `new URL(req.url, 'http://localhost').pathname`, and `new URL('http://' + host).hostname`.
pub(super) const URL: Reader = Reader {
    name: "node_url",
    table: TABLE,
    method: upper_only,
    host: hostname,
    path: pathname,
    header: |name| Some(text::lower(name)),
    decodes: false,
};

/// The same through `decodeURIComponent`.
pub(super) const DECODED: Reader = Reader {
    name: "node_decoded",
    path: |target| String::from_utf8(text::decoded(pathname(target)?.as_bytes())?).ok(),
    decodes: true,
    ..URL
};

/// Express with defaults: case-insensitive, without a trailing slash.
pub(super) const EXPRESS: Reader = Reader {
    name: "express",
    host: |host| Some(text::without_port(host)),
    path: |target| Some(route(target)),
    ..URL
};

/// The parser of Node knows methods in upper case alone.
fn upper_only(method: &[u8]) -> Option<String> {
    let is_upper = method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    is_upper.then(|| text::latin1(method))
}

fn pathname(target: &[u8]) -> Option<String> {
    let target = text::latin1(target).replace('\t', "");
    let is_slash = |c: Option<char>| matches!(c, Some('/' | '\\'));
    let mut beginning = target.chars();
    let url = if is_slash(beginning.next()) && is_slash(beginning.next()) {
        // A host follows, however many slashes there are.
        Url::parse(&format!("http:{target}"))
    } else {
        Url::parse("http://localhost").ok()?.join(&target)
    };
    Some(url.ok()?.path().to_owned())
}

fn hostname(host: &[u8]) -> Option<String> {
    match Url::parse(&format!("http://{}", text::latin1(host))) {
        Ok(url) => url.host_str().map(str::to_owned),
        // Node accepts names that only resemble Punycode.
        Err(_) if host.to_ascii_lowercase().windows(4).any(|four| four == b"xn--") => {
            Some(text::without_port(&host.to_ascii_lowercase()))
        }
        Err(_) => None,
    }
}

fn route(target: &[u8]) -> String {
    let path = text::latin1(text::before(target, b"?#")).to_lowercase();
    match path.strip_suffix('/') {
        Some(path) if !path.is_empty() => path.to_owned(),
        _ => path,
    }
}
