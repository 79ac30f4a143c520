//! Clocks and randomness: the wall clock, the boot clock and random numbers, as the feed and the
//! set see them.
//!
//! By default they are those of the machine. A simulation replaces them on its thread: time follows
//! tokio's paused clock, and random numbers follow a seed. Only tests can do so.

#[cfg(not(test))]
use std::time::Duration;

use portcullis_runtime::boot_clock::{self, BootInstant};
use portcullis_types::timestamp::Timestamp;

/// The time on the wall clock.
#[cfg(not(test))]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The time on the boot clock.
#[cfg(not(test))]
pub(crate) fn boot() -> BootInstant {
    BootInstant::now()
}

/// The time on the unslewed clock, which is compared with those of other replicas.
#[cfg(not(test))]
pub(crate) fn unslewed() -> Duration {
    boot_clock::unslewed()
}

/// How far the wall clock is ahead of the boot clock, in milliseconds.
pub(crate) fn clock_offset() -> i64 {
    let boot = i64::try_from(boot().as_millis()).unwrap_or(i64::MAX);
    now().as_millis().saturating_sub(boot)
}

#[cfg(test)]
pub(crate) use self::simulated::{Simulated, boot, now, random_byte, unslewed};

#[cfg(test)]
mod simulated {
    use std::{cell::RefCell, time::Duration};

    use tokio::time::Instant;

    use super::{BootInstant, Timestamp, boot_clock};

    thread_local! {
        static SIMULATED: RefCell<Option<Simulated>> = const { RefCell::new(None) };
    }

    /// Clocks and random numbers of a simulation.
    #[derive(Debug, Clone)]
    pub(crate) struct Simulated {
        began: Instant,
        /// For how long the machine was suspended: the boot clock went on, tokio's did not.
        suspended: Duration,
        /// By how much the wall clock is wrong, in milliseconds.
        wrong: i64,
        random: u64,
    }

    /// A day in 2033, and a machine that has been up for some hours.
    const WALL: Timestamp = Timestamp::from_secs(2_000_000_000);
    const UP: BootInstant = BootInstant::from_millis(10_000_000);

    impl Simulated {
        /// Begins now on this thread, until [`Simulated::end`].
        pub(crate) fn begin(seed: u64) {
            let simulated = Self {
                began: Instant::now(),
                suspended: Duration::ZERO,
                wrong: 0,
                random: seed | 1,
            };
            SIMULATED.set(Some(simulated));
        }

        pub(crate) fn end() {
            SIMULATED.set(None);
        }

        /// The machine was suspended for so long.
        pub(crate) fn suspend(duration: Duration) {
            change(|simulated| simulated.suspended += duration);
        }

        /// The wall clock is set to be wrong by so much.
        pub(crate) fn set_wall(wrong: i64) {
            change(|simulated| simulated.wrong = wrong);
        }

        fn passed(&self) -> Duration {
            self.began.elapsed() + self.suspended
        }
    }

    fn change<T>(change: impl FnOnce(&mut Simulated) -> T) -> Option<T> {
        SIMULATED.with_borrow_mut(|simulated| simulated.as_mut().map(change))
    }

    pub(crate) fn now() -> Timestamp {
        let at = |simulated: &mut Simulated| {
            let right = WALL.plus(simulated.passed());
            Timestamp::from_millis(right.as_millis() + simulated.wrong)
        };
        change(at).unwrap_or_else(Timestamp::now)
    }

    pub(crate) fn boot() -> BootInstant {
        change(|simulated| UP.plus(simulated.passed())).unwrap_or_else(BootInstant::now)
    }

    pub(crate) fn unslewed() -> Duration {
        change(|simulated| simulated.passed()).unwrap_or_else(boot_clock::unslewed)
    }

    /// A random number of the simulation, if there is one.
    pub(crate) fn random_byte() -> Option<u8> {
        change(|simulated| {
            // An xorshift.
            simulated.random ^= simulated.random << 13;
            simulated.random ^= simulated.random >> 7;
            simulated.random ^= simulated.random << 17;
            simulated.random.to_be_bytes()[2]
        })
    }
}
