//! Origin of a service as clients know it: scheme, host and port of its URLs (RFC 6454 section 4).

use url::{Host, Url};

/// An origin, in the form in which origins are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whether the scheme is `https`, and not `http`.
    pub is_https: bool,
    /// The host in lower case; an IPv6 address in brackets.
    pub host: String,
    /// The port, that of the scheme if the origin names none.
    pub port: u16,
}

// === impl Origin ===

impl Origin {
    /// Reads an origin of the configuration, which has neither path nor query nor user.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_https = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let is_bare = url.username().is_empty() && url.password().is_none() && !text.contains('@');
        let after = text.split_once("://")?.1;
        if !is_bare || after.contains(['/', '?', '#', '\\']) {
            return None;
        }
        let host = match url.host()? {
            Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            address => address.to_string(),
        };
        Some(Self { is_https, host, port: url.port_or_known_default()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (text, is_https, host, port) in [
            ("https://API.example.com", true, "api.example.com", 443),
            ("https://api.example.com:8443", true, "api.example.com", 8443),
            ("http://localhost:8080", false, "localhost", 8080),
            ("https://[::1]", true, "[::1]", 443),
            ("http://127.0.0.1", false, "127.0.0.1", 80),
        ] {
            let origin = Origin { is_https, host: host.to_owned(), port };
            assert_eq!(Origin::parse(text), Some(origin), "{text}");
        }
    }

    #[test]
    fn what_is_more_or_less_than_an_origin_is_refused() {
        for text in [
            "",
            "api.example.com",
            "https:api.example.com",
            "https://",
            "https://api.example.com/",
            "https://api.example.com/v1",
            "https://api.example.com?a",
            "https://api.example.com#a",
            "https://user@api.example.com",
            "https://@api.example.com",
            "ftp://api.example.com",
            "https://api.example.com:0x1",
        ] {
            assert_eq!(Origin::parse(text), None, "{text}");
        }
    }
}
