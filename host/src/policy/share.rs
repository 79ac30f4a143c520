//! Bulkhead for slow calls: how many threads one configured policy may hold at once.
//!
//! A policy is called on the thread of the request, for [`QUICK`] at most. A call that needs longer
//! begins anew on a thread of the blocking pool, on one of a bounded number, so that requests of
//! other routes, health checks and signals are served meanwhile. What exceeds the bound waits, and is
//! denied when its time is up.
//!
//! Attempts on the threads of requests are rationed too: a policy that is slow again and again is
//! called on its own threads at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};

/// The processor time that a call may use on the thread of its request. Policies answer in
/// microseconds; ticks measure no less than this.
pub(super) const QUICK: Duration = Duration::from_millis(1);
/// One attempt in so long may turn out to be slow. It costs up to 3 ms of the request's thread, with
/// the ticks before and after, so a slow policy has a tenth of one thread.
const PACE: Duration = Duration::from_millis(30);
/// How many slow attempts in a row there may be before the policy is called on its own threads.
const BURST: u32 = 8;

/// The threads of one configured policy, and its ration of slow attempts.
#[derive(Debug)]
pub(super) struct Share {
    threads: Arc<Semaphore>,
    started: Instant,
    /// Milliseconds after `started` up to which the ration is spent; 0 if all of it is there. This
    /// is the generic cell rate algorithm.
    spent_until: AtomicU64,
}

impl Share {
    /// A share of so many threads.
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: Arc::new(Semaphore::new(threads.max(1))),
            started: Instant::now(),
            spent_until: AtomicU64::new(0),
        }
    }

    /// Whether the ration of slow attempts is used up, so that the policy must be called on threads
    /// of its own.
    pub(super) fn is_used_up(&self) -> bool {
        let spent_until = self.spent_until.load(Relaxed);
        // Nearly all policies never were slow, and need no clock to know it.
        if spent_until == 0 {
            return false;
        }
        let now = self.now();
        if now >= spent_until {
            // If a slow call has spent more meanwhile, that counts.
            let _ = self.spent_until.compare_exchange(spent_until, 0, Relaxed, Relaxed);
        }
        spent_until > now + millis(PACE * (BURST - 1))
    }

    /// An attempt on the thread of a request was slow.
    pub(super) fn spend(&self) {
        let now = self.now();
        let spend = |spent_until: u64| Some(spent_until.max(now) + millis(PACE));
        // The function never declines.
        let _ = self.spent_until.fetch_update(Relaxed, Relaxed, spend);
    }

    /// Waits until `until` for one of the threads.
    pub(super) async fn thread(&self, until: Instant) -> Option<OwnedSemaphorePermit> {
        let free = Arc::clone(&self.threads).acquire_owned();
        // The semaphore is never closed.
        timeout_at(until.into(), free).await.ok()?.ok()
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_gives_no_more_threads_than_it_has() {
        let share = Share::new(2);
        let soon = || Instant::now() + Duration::from_millis(1);
        let (first, second) = (share.thread(soon()).await, share.thread(soon()).await);
        assert!(first.is_some() && second.is_some());
        assert!(share.thread(soon()).await.is_none());
        drop(first);
        assert!(share.thread(soon()).await.is_some());
    }

    #[test]
    fn slow_attempts_are_rationed_and_the_ration_comes_back() {
        let share = Share::new(1);
        for _ in 0..BURST {
            assert!(!share.is_used_up());
            share.spend();
        }
        assert!(share.is_used_up());
        let begun = Instant::now();
        while share.spent_until.load(Relaxed) != 0 {
            share.is_used_up();
            assert!(begun.elapsed() < Duration::from_secs(20), "it stays used up");
        }
        assert!(!share.is_used_up());
    }
}
