//! Owns for how long the lock is ours whatever happens, by a clock that nobody sets.
//!
//! The store removes nothing for a relay whose lock has expired, but the broker knows no lock: a
//! relay that was stopped after it read a pardon could publish it when another one has published
//! what followed. So each message is sent only if the lock lasts for long enough that the message
//! is there before another relay may be at work.
//!
//! That is a matter of time, not of proof. It does not cover a process that is stopped for longer
//! than [`LEEWAY`] between this look and the system call that follows it, a network that keeps a
//! message for as long, or a machine that is suspended together with its clock.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{LEEWAY, LOCK_TIME};

/// The lock, as far as it can be relied on.
#[derive(Debug)]
pub(super) struct Lease {
    until: Mutex<Instant>,
}

// === impl Lease ===

impl Lease {
    /// The lock was got; the store had not been asked for it before `asked_at`.
    pub(super) fn new(asked_at: Instant) -> Self {
        Self { until: Mutex::new(asked_at + LOCK_TIME) }
    }

    /// The store has said that the lock is still ours; it had not been asked before `asked_at`.
    pub(super) fn renew(&self, asked_at: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = asked_at + LOCK_TIME;
    }

    /// For how long nobody else can get the lock.
    pub(super) fn left(&self) -> Duration {
        self.left_at(Instant::now())
    }

    /// Whether what is sent to the broker now is there while the lock is ours.
    pub(super) fn covers_publishing(&self) -> bool {
        self.left() >= LEEWAY
    }

    fn left_at(&self, now: Instant) -> Duration {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_from_the_question_on_until_it_is_renewed() {
        let start = Instant::now();
        let lease = Lease::new(start);
        assert_eq!(lease.left_at(start + LEEWAY), LOCK_TIME.saturating_sub(LEEWAY));
        assert_eq!(lease.left_at(start + LOCK_TIME * 2), Duration::ZERO);
        lease.renew(start + LEEWAY);
        assert_eq!(lease.left_at(start + LEEWAY), LOCK_TIME);
    }

    #[test]
    fn nothing_is_sent_when_its_end_is_near() {
        let now = Instant::now();
        assert!(Lease::new(now).covers_publishing());
        let earlier = |time| now.checked_sub(time).unwrap();
        assert!(!Lease::new(earlier(LOCK_TIME.saturating_sub(LEEWAY))).covers_publishing());
        assert!(!Lease::new(earlier(LOCK_TIME * 2)).covers_publishing());
    }
}
