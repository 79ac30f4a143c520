//! The address of a Redis server: reading it, comparing it, and putting it into connection
//! settings.

use std::{fmt, net::IpAddr};

use redis::{ConnectionAddr, ConnectionInfo};

/// A host and a port. Two are equal if they mean the same: host names regardless of case and of a
/// trailing dot, IP addresses by their value.
#[derive(Debug, Clone)]
pub(super) struct RedisAddress {
    host: String,
    port: u16,
}

// === impl RedisAddress ===

impl RedisAddress {
    pub(super) const fn new(host: String, port: u16) -> Self {
        Self { host, port }
    }

    pub(super) fn of(info: &ConnectionInfo) -> Self {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Self { host: host.clone(), port: *port }
            }
            other => Self { host: other.to_string(), port: 0 },
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').map_or(Some(host), |host| host.strip_suffix(']'))?;
        let sound = !host.is_empty() && !host.contains(['/', '@', ' ']);
        sound.then_some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }

    /// `info` with this address, with TLS if it has TLS.
    pub(super) fn on(&self, info: &ConnectionInfo) -> ConnectionInfo {
        let mut address = info.addr().clone();
        if let ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } =
            &mut address
        {
            (*host, *port) = (self.host.clone(), self.port);
        }
        info.clone().set_addr(address)
    }

    /// `info` with this address, with TLS that trusts the system's certificates, or without TLS.
    pub(super) fn with_tls(&self, info: &ConnectionInfo, tls: bool) -> ConnectionInfo {
        let host = self.host.clone();
        let address = if tls {
            ConnectionAddr::TcpTls { host, port: self.port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, self.port)
        };
        info.clone().set_addr(address)
    }

    fn canonical_host(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_) => self.host.strip_suffix('.').unwrap_or(&self.host).to_ascii_lowercase(),
        }
    }
}

impl PartialEq for RedisAddress {
    fn eq(&self, other: &Self) -> bool {
        self.port == other.port && self.canonical_host() == other.canonical_host()
    }
}

impl Eq for RedisAddress {}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> RedisAddress {
        RedisAddress::parse(text).unwrap()
    }

    #[test]
    fn different_forms_of_one_host_are_equal() {
        for (one, other) in [
            ("Redis-0.Store.:6379", "redis-0.store:6379"),
            ("10.0.0.7:6379", "[::ffff:10.0.0.7]:6379"),
            ("[2001:DB8::0:1]:6379", "[2001:db8::1]:6379"),
        ] {
            assert_eq!(address(one), address(other));
        }
        for (one, other) in [
            ("redis-0:6379", "redis-1:6379"),
            ("redis-0:6379", "redis-0:6380"),
            ("redis-0:6379", "redis-0.store:6379"),
            ("10.0.0.7:6379", "10.0.0.70:6379"),
        ] {
            assert_ne!(address(one), address(other));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "redis", ":6379", "[::1:6379", "user@redis:6379", "a/b:1", "redis:65536"] {
            assert!(RedisAddress::parse(text).is_none(), "{text}");
        }
    }
}
