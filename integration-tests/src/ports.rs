//! Port reservation: ports that a test keeps while no process listens on them.
//!
//! A service that a test kills and restarts must return on its old port, and no other process may
//! take the port in between. So these ports lie outside of the ephemeral range of the operating
//! system, and a lock on a file marks the owner of each; the lock ends with its process.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
};

/// Below the ephemeral range of Linux (32768) and macOS (49152), and above well-known services.
const RANGE: Range<u16> = 20_000..32_000;

/// A port of this machine's loopback. It is free for others when this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

// === impl Port ===

impl Port {
    /// Reserves a port that no test has and no process listens on.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn reserve() -> Self {
        let count = u32::from(RANGE.end - RANGE.start);
        // Start at a place that depends on the process, so that parallel processes rarely collide.
        let begin = std::process::id().wrapping_mul(7919) % count;
        (0..count)
            .filter_map(|step| u16::try_from((begin + step) % count).ok())
            .find_map(|offset| Self::lock(RANGE.start + offset))
            .expect("some port is free; the files in `portcullis-test-ports` show the owners")
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
        // A lock does not exclude other programs: one may listen on the port.
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_reserved_once_and_can_be_listened_on() {
        let (first, second) = (Port::reserve(), Port::reserve());
        assert_ne!(first.number(), second.number());
        assert!(TcpListener::bind(first.address()).is_ok());
        assert!(Port::lock(first.number()).is_none(), "it stays reserved while no process listens");
    }

    #[test]
    fn a_port_with_a_listener_is_not_reserved() {
        let port = Port::reserve();
        let listener = TcpListener::bind(port.address()).unwrap();
        let number = port.number();
        drop(port);
        assert!(Port::lock(number).is_none());
        drop(listener);
    }
}
