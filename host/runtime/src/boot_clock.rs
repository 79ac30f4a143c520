//! The boot clock: monotonic time that goes on while the machine is suspended.
//!
//! Leases are measured on it. [`std::time::Instant`] does not advance while the machine is
//! suspended, and the wall clock can be set.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point in time on the boot clock, in milliseconds since the machine started.
///
/// Arithmetic saturates, so that a very long lease never ends instead of never beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootInstant(u64);

impl BootInstant {
    /// Earlier than every other time.
    pub const START: Self = Self(0);

    /// Later than every other time.
    pub const NEVER: Self = Self(u64::MAX);

    /// The current time.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Boottime);
        let millis = time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000);
        Self(u64::try_from(millis).unwrap_or_default())
    }

    /// From milliseconds since the machine started.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the machine started.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time plus `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` it is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A clock that is not slewed, since some time in the past. It does not advance while the machine
/// is suspended.
#[must_use]
pub fn unslewed() -> Duration {
    let time = clock_gettime(ClockId::MonotonicRaw);
    let secs = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(BootInstant::NEVER.plus(Duration::from_secs(1)), BootInstant::NEVER);
        assert_eq!(BootInstant::now().plus(Duration::MAX), BootInstant::NEVER);
        assert_eq!(BootInstant::START.since(BootInstant::NEVER), Duration::ZERO);
    }

    #[test]
    fn it_goes_forward() {
        let before = BootInstant::now();
        assert!(BootInstant::now() >= before && before > BootInstant::START);
        let before = unslewed();
        assert!(unslewed() >= before && before > Duration::ZERO);
    }
}
