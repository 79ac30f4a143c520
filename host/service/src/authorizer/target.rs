//! Target of a proof: whether its `htu` is the URI of the request (RFC 9449 section 4.3).
//!
//! Both are compared in the form in which a request is decided on, which includes the normalisation of
//! RFC 3986 sections 6.2.2 and 6.2.3. Query and fragment do not count.

use portcullis_types::attributes::HttpAttributes;

use super::{
    authority::{HostsConfig, read_host},
    path::{PathConfig, canonicalize},
    request_line::RequestLine,
};
use crate::token::Origin;

/// Whether `uri` is that of the request. Clients reach the service by one of `origins`; without any, by
/// `https` and the host of the request, whatever scheme the proxy sees.
pub(super) fn is_target(
    uri: &str,
    http: &HttpAttributes,
    line: &RequestLine<'_>,
    paths: &PathConfig,
    origins: &[Origin],
) -> bool {
    let Some((origin, path)) = split(uri) else { return false };
    is_origin(&origin, http, line, origins) && is_path(path, http, line, paths)
}

/// The origin of a URI, and its path without query and fragment.
fn split(uri: &str) -> Option<(Origin, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    let is_https = scheme.eq_ignore_ascii_case("https");
    if !is_https && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let path = rest.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let host = read_host(authority, HostsConfig::default()).ok()?.name().to_owned();
    let port = port(authority).unwrap_or(if is_https { 443 } else { 80 });
    Some((Origin { is_https, host, port }, path))
}

fn is_origin(
    origin: &Origin,
    http: &HttpAttributes,
    line: &RequestLine<'_>,
    origins: &[Origin],
) -> bool {
    let host = line.host.name();
    if origins.is_empty() {
        let port_of_request = port(&http.host).unwrap_or(443);
        return origin.is_https && origin.host == host && origin.port == port_of_request;
    }
    // A host that is listed has not been rewritten on the way, so a proof for another one is not meant.
    let is_listed = origins.iter().any(|known| known.host == host);
    origins.contains(origin) && (!is_listed || origin.host == host)
}

fn is_path(path: &str, http: &HttpAttributes, line: &RequestLine<'_>, paths: &PathConfig) -> bool {
    if http.path.split('?').next() == Some(path) {
        return true;
    }
    // What only the route tolerates has one reading to the upstream, and maybe another to the client.
    line.ambiguity.is_none()
        && canonicalize(path, paths).is_ok_and(|canonical| canonical.path == line.path.path)
}

/// The port of an authority that has one reading.
fn port(authority: &str) -> Option<u16> {
    authority.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `uri` is that of a request for `target` at `host`.
    fn is_that_of(
        uri: &str,
        host: &str,
        target: &str,
        paths: &PathConfig,
        origins: &[&str],
    ) -> bool {
        let http = HttpAttributes {
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            host: host.to_owned(),
            path: target.to_owned(),
            ..HttpAttributes::default()
        };
        let origins: Vec<Origin> = origins.iter().map(|text| split(text).unwrap().0).collect();
        let line = RequestLine::read(&http, HostsConfig::default(), paths, None).unwrap();
        is_target(uri, &http, &line, paths, &origins)
    }

    #[test]
    fn a_uri_is_compared_after_normalisation() {
        let paths = PathConfig::default();
        for (uri, expected) in [
            ("https://api.test/a/b", true),
            ("HTTPS://API.test:443/a/b", true),
            ("https://api.test/a/b?q=1#f", true),
            ("https://api.test/%61/b", true),
            ("https://api.test/a/b/", true),
            ("http://api.test/a/b", false),
            ("https://api.test:8443/a/b", false),
            ("https://api.test.evil/a/b", false),
            ("https://evil/api.test/a/b", false),
            ("https://user@api.test/a/b", false),
            ("https://api.test/a/B", false),
            ("https://api.test/a%2fb", false),
            ("https://api.test/a/../a/b", false),
            ("https://api.test//a/b", false),
            ("https://api.test\\a/b", false),
            ("https:/api.test/a/b", false),
            ("//api.test/a/b", false),
            ("/a/b", false),
            ("https://", false),
            ("", false),
        ] {
            let is_target = is_that_of(uri, "api.test", "/a/b?x=1", &paths, &[]);
            assert_eq!(is_target, expected, "{uri}");
        }
        assert!(is_that_of("https://api.test", "api.test:443", "/", &paths, &[]));
        assert!(is_that_of("https://[::1]:9/", "[0:0::1]:9", "/", &paths, &[]));
        assert!(is_that_of("https://api.test:9/", "api.test:9", "/", &paths, &[]));
        assert!(!is_that_of("https://api.test/", "api.test:9", "/", &paths, &[]));
    }

    #[test]
    fn the_path_is_the_one_that_is_decided_on() {
        use super::super::path::TrailingSlash;
        let distinct =
            PathConfig { trailing_slash: TrailingSlash::Distinct, ..PathConfig::default() };
        assert!(!is_that_of("https://api.test/a/", "api.test", "/a", &distinct, &[]));
        assert!(is_that_of("https://api.test/a/", "api.test", "/a/", &distinct, &[]));
        let folding = PathConfig { ignore_case: true, ..PathConfig::default() };
        assert!(is_that_of("https://api.test/A", "api.test", "/a", &folding, &[]));
    }

    #[test]
    fn listed_origins_take_the_place_of_that_of_the_request() {
        let paths = PathConfig::default();
        let origins = ["https://api.test:8443", "https://other.test", "http://localhost:8080"];
        for (uri, host, expected) in [
            ("https://api.test:8443/", "api.test", true),
            ("https://api.test/", "api.test", false),
            // Only where the host was rewritten on the way.
            ("https://other.test/", "api.test", false),
            ("https://other.test/", "internal", true),
            ("http://localhost:8080/", "internal", true),
            ("https://localhost:8080/", "internal", false),
            ("https://internal/", "internal", false),
        ] {
            assert_eq!(is_that_of(uri, host, "/", &paths, &origins), expected, "{uri} {host}");
        }
    }
}
