//! URLs and addresses that documents may be fetched from.
//!
//! A link-local address serves the machine itself, such as the metadata of a cloud with its
//! credentials. No issuer is there.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// A URL that documents may be fetched from: `https`, or `http` where that was permitted.
#[derive(Clone, PartialEq, Eq)]
pub struct FetchUrl(Url);

/// A URL that nothing is fetched from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FetchUrlError {
    /// It cannot be read.
    #[error("is not a URL; write https://HOST/PATH")]
    NotUrl,
    /// Another scheme.
    #[error("must begin with `https://`")]
    Scheme,
    /// `http` to another machine.
    #[error(
        "begins with `http://`, so that others on the way could put in keys of their own; use \
         `https://`, or set `allow_http: true` if the way is protected"
    )]
    NotEncrypted,
    /// The permission has no effect.
    #[error("needs no `allow_http`; remove that")]
    NeedlessPermission,
    /// A user or a password.
    #[error("has a user or a password, which would be sent to the server that answers; remove it")]
    User,
    /// A query, where the path of metadata is added.
    #[error("has a query, to which no path can be added; remove it")]
    Query,
    /// A fragment.
    #[error("has a fragment (`#`), which no server sees; remove it")]
    Fragment,
    /// An address of the machine's own services.
    #[error("names a link-local, multicast or unspecified address, where no issuer is")]
    Address,
}

/// Resolves names, without the addresses that nothing is fetched from.
pub(super) struct Resolver;

// === impl FetchUrl ===

impl FetchUrl {
    /// Checks a URL. `http` is for loopback, and with `allow_http` for every address.
    ///
    /// # Errors
    /// When nothing may be fetched from it.
    pub fn new(text: &str, allow_http: bool) -> Result<Self, FetchUrlError> {
        let url = Url::parse(text).map_err(|_| FetchUrlError::NotUrl)?;
        let address = match url.host().ok_or(FetchUrlError::NotUrl)? {
            Host::Ipv4(address) => Some(IpAddr::V4(address)),
            Host::Ipv6(address) => Some(IpAddr::V6(address)),
            Host::Domain(_) => None,
        };
        let is_loopback = is_loopback(&url);
        match url.scheme() {
            "https" if allow_http => return Err(FetchUrlError::NeedlessPermission),
            "https" => {}
            "http" if is_loopback || allow_http => {}
            "http" => return Err(FetchUrlError::NotEncrypted),
            _ => return Err(FetchUrlError::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchUrlError::User);
        }
        if url.fragment().is_some() {
            return Err(FetchUrlError::Fragment);
        }
        if address.is_some_and(|address| !may_be_issuer(address)) {
            return Err(FetchUrlError::Address);
        }
        Ok(Self(url))
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.0)
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it has a query.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    /// All of it. The query may hold a secret.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.as_str()
    }

    pub(super) const fn as_url(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for FetchUrl {
    /// Without the query, which may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for FetchUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Resolver ===

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<SocketAddr> =
                found.filter(|address| may_be_issuer(address.ip())).collect();
            if usable.is_empty() {
                let why = "the name has no address that an issuer can have";
                return Err(io::Error::other(why).into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Whether an issuer may be at this address.
fn may_be_issuer(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.segments()[..6] == NAT64,
    };
    !is_link_local
        && !OF_CLOUDS.contains(&address)
        && !address.is_multicast()
        && !address.is_unspecified()
}

/// Metadata services of clouds at other addresses than link-local ones: AWS, Google, Alibaba, Azure.
const OF_CLOUDS: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// IPv4 addresses behind a translator (RFC 6052 section 2.1).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encrypted_unless_that_is_permitted_or_local() {
        for (url, allow_http, expected) in [
            ("https://id.test/certs", false, Ok(())),
            ("https://10.0.0.1/certs?a=b", false, Ok(())),
            ("http://127.0.0.1:80/certs", false, Ok(())),
            ("http://[::1]/certs", false, Ok(())),
            ("http://localhost/certs", false, Ok(())),
            ("http://keycloak.default.svc/certs", true, Ok(())),
            ("http://id.test/certs", false, Err(FetchUrlError::NotEncrypted)),
            ("http://localhost.id.test/", false, Err(FetchUrlError::NotEncrypted)),
            ("https://id.test/certs", true, Err(FetchUrlError::NeedlessPermission)),
            ("file:///etc/passwd", true, Err(FetchUrlError::NotUrl)),
            ("ftp://id.test/", true, Err(FetchUrlError::Scheme)),
            ("certs", false, Err(FetchUrlError::NotUrl)),
            ("https://user@id.test/", false, Err(FetchUrlError::User)),
            ("https://:secret@id.test/", false, Err(FetchUrlError::User)),
            ("https://id.test/#keys", false, Err(FetchUrlError::Fragment)),
            ("http://169.254.169.254/latest", true, Err(FetchUrlError::Address)),
            ("https://[fe80::1]/", false, Err(FetchUrlError::Address)),
            ("https://[fd00:ec2::254]/", false, Err(FetchUrlError::Address)),
            ("https://[::ffff:169.254.169.254]/", false, Err(FetchUrlError::Address)),
            ("https://0.0.0.0/", false, Err(FetchUrlError::Address)),
            ("https://100.100.100.200/", false, Err(FetchUrlError::Address)),
            ("https://[64:ff9b::a9fe:a9fe]/", false, Err(FetchUrlError::Address)),
            ("https://0x7f000001/", false, Ok(())),
            ("https://2852039166/", false, Err(FetchUrlError::Address)),
        ] {
            assert_eq!(FetchUrl::new(url, allow_http).map(drop), expected, "{url}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_query() {
        let url = FetchUrl::new("https://id.test/certs?key=hush", false).unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://id.test/certs https://id.test/certs");
    }
}
