//! Owns ports that stay with a test while nobody listens on them.
//!
//! A service that a test kills and starts again must come back on its old port, and in between no
//! other process may get it. So these ports lie outside of the range from which operating systems
//! give out ports, and a locked file says who has which; the lock ends with its process.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
};

/// Below what Linux (32768) and macOS (49152) give out, and above what well-known services use.
const RANGE: Range<u16> = 20_000..32_000;

/// A port of this machine's loopback. It is free for others when this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

// === impl Port ===

impl Port {
    /// Takes a port that nobody has or listens on.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn reserve() -> Self {
        let count = u32::from(RANGE.end - RANGE.start);
        // Somewhere of its own, so that processes side by side seldom try the same ones.
        let begin = std::process::id().wrapping_mul(7919) % count;
        (0..count)
            .filter_map(|step| u16::try_from((begin + step) % count).ok())
            .find_map(|offset| Self::lock(RANGE.start + offset))
            .expect("some port is free; the files in `portcullis-test-ports` say who has which")
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on loopback.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    fn lock(number: u16) -> Option<Self> {
        let folder = std::env::temp_dir().join("portcullis-test-ports");
        std::fs::create_dir_all(&folder).ok()?;
        let file = folder.join(number.to_string());
        let lock = OpenOptions::new().create(true).append(true).open(file).ok()?;
        lock.try_lock().ok()?;
        // Locked by us is not yet unused: other programs may be there.
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_out_once_and_can_be_listened_on() {
        let (first, second) = (Port::reserve(), Port::reserve());
        assert_ne!(first.number(), second.number());
        assert!(TcpListener::bind(first.address()).is_ok());
        assert!(Port::lock(first.number()).is_none(), "it is taken while nobody listens, too");
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_given_out() {
        let port = Port::reserve();
        let listener = TcpListener::bind(port.address()).unwrap();
        let number = port.number();
        drop(port);
        assert!(Port::lock(number).is_none());
        drop(listener);
    }
}
