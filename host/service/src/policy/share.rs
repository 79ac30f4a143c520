//! Bulkhead for slow calls: what one route, one policy and all policies together may use.
//!
//! A policy is called on the thread of the request, for [`QUICK`] at most. A call that needs longer
//! is made again on a thread of the blocking pool, so that requests of other routes, health checks
//! and signals are served meanwhile. One route has a bounded number of those threads, and so have
//! all policies together. Of the threads, a few run at once, in [turns](super::turns). What exceeds
//! the bounds waits, and is denied when its time is up.
//!
//! Attempts on the threads of requests are rationed too: a policy that is slow again and again is
//! called on its own threads at once. All slow policies share one ration, in equal parts; one that
//! was not slow recently needs none of it.

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

use super::{
    HostConfig,
    turns::{Lane, Round, Turn},
};

/// The processor time that a call may use on the thread of its request. Policies answer in
/// microseconds; ticks measure no less than this.
pub(super) const QUICK: Duration = Duration::from_millis(1);
/// One attempt in so long may turn out to be slow. It costs up to 3 ms of the request's thread, with
/// the ticks before and after, so slow policies have a tenth of one thread together.
const PACE: Duration = Duration::from_millis(30);
/// How many slow attempts in a row there may be before a policy is called on its own threads.
const BURST: u32 = 8;
/// Threads that slow calls of all policies hold at most. Most of them wait for their turn. The
/// blocking pool has twice as many, which leaves some to everything else.
const THREADS: usize = 256;
/// A wait that ends with the process.
const FOR_LONG: Duration = Duration::from_hours(1);

/// What all policies have together.
#[derive(Debug)]
pub(super) struct SharedByAll {
    threads: Arc<Semaphore>,
    /// Slow calls that run.
    calls: Arc<Round>,
    /// Instances that are being started. They have their own turns: a policy whose instances serve
    /// few requests must not wait for slow calls.
    starts: Arc<Round>,
    started: Instant,
    /// Milliseconds after `started` up to which the ration is spent. This is the generic cell rate
    /// algorithm.
    spent_until: AtomicU64,
}

/// The part of one policy, which its routes and revisions share.
#[derive(Debug, Clone)]
pub(super) struct PolicyShare {
    all: Arc<SharedByAll>,
    /// Held by the one slow call that is next.
    next: Arc<Semaphore>,
    calls: Lane,
    starts: Lane,
}

/// The threads of one configured policy, and its part of the ration of slow attempts.
#[derive(Debug)]
pub(super) struct Share {
    policy: PolicyShare,
    threads: Arc<Semaphore>,
    /// When its part of the ration is there again, as `SharedByAll::spent_until`; 0 if it is.
    spent_until: AtomicU64,
}

/// The right to hold one thread, until it is dropped.
#[derive(Debug)]
pub(super) struct ThreadPermit {
    _of_route: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// Threads that slow calls of one configured policy may hold.
pub(super) fn slow_threads(host: &HostConfig, threads: usize) -> usize {
    host.slow_calls.unwrap_or(threads / 2).max(1)
}

// === impl SharedByAll ===

impl SharedByAll {
    /// What all policies have on a machine with so many processors.
    pub(super) fn new(host: &HostConfig, processors: usize) -> Arc<Self> {
        let half = (processors / 2).max(1);
        Arc::new(Self {
            threads: Arc::new(Semaphore::new(THREADS)),
            calls: Round::new(host.all_slow_calls.unwrap_or(half)),
            starts: Round::new(half),
            started: Instant::now(),
            spent_until: AtomicU64::new(0),
        })
    }

    /// The part of the policy with this number.
    pub(super) fn policy(self: &Arc<Self>, number: usize) -> PolicyShare {
        PolicyShare {
            all: Arc::clone(self),
            next: Arc::new(Semaphore::new(1)),
            calls: self.calls.lane(number),
            starts: self.starts.lane(number),
        }
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

// === impl Share ===

impl Share {
    /// A share of so many threads in what the policy has.
    pub(super) fn new(policy: PolicyShare, threads: usize) -> Self {
        let threads = Arc::new(Semaphore::new(threads.max(1)));
        Self { policy, threads, spent_until: AtomicU64::new(0) }
    }

    /// Whether the ration of slow attempts is used up, so that the policy must be called on its
    /// own threads.
    pub(super) fn is_used_up(&self) -> bool {
        let spent_until = self.spent_until.load(Relaxed);
        // Nearly all policies never were slow, and need no clock to know it.
        if spent_until == 0 {
            return false;
        }
        let now = self.policy.all.now();
        if now >= spent_until {
            // If a slow call has spent more meanwhile, that counts.
            let _ = self.spent_until.compare_exchange(spent_until, 0, Relaxed, Relaxed);
        }
        spent_until > now + millis(PACE * (BURST - 1))
    }

    /// An attempt on the thread of a request was slow. The next one waits until those of all slow
    /// policies are paid for, this one included: so each of them has an equal part.
    pub(super) fn spend(&self) {
        let now = self.policy.all.now();
        let paid = |spent_until: u64| spent_until.max(now) + millis(PACE);
        let of_all = &self.policy.all.spent_until;
        // The functions never decline.
        let before = of_all.fetch_update(Relaxed, Relaxed, |spent| Some(paid(spent)));
        let of_all = before.map_or(now, paid);
        let spend = |spent: u64| Some(paid(spent).max(of_all));
        let _ = self.spent_until.fetch_update(Relaxed, Relaxed, spend);
    }

    /// Waits until `until` for one of the threads.
    pub(super) async fn thread(&self, until: Instant) -> Option<ThreadPermit> {
        let free = async {
            let of_route = Arc::clone(&self.threads).acquire_owned().await.ok()?;
            // One call of each policy waits for what is left to all, so that none waits behind
            // the many of another policy.
            let _next = self.policy.next.acquire().await.ok()?;
            let of_all = Arc::clone(&self.policy.all.threads).acquire_owned().await.ok()?;
            Some(ThreadPermit { _of_route: of_route, _of_all: of_all })
        };
        // The semaphores are never closed.
        timeout_at(until.into(), free).await.ok()?
    }

    /// Waits until `until` for a turn to run. Blocks the thread.
    pub(super) fn turn(&self, until: Instant) -> Option<Turn> {
        self.policy.calls.turn(until)
    }

    /// Waits for a turn to start an instance. Blocks the thread.
    pub(super) fn turn_to_start(&self) -> Option<Turn> {
        self.policy.starts.turn(Instant::now() + FOR_LONG)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    fn all() -> Arc<SharedByAll> {
        SharedByAll::new(&HostConfig::default(), 2)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    #[tokio::test]
    async fn a_share_gives_no_more_threads_than_it_has() {
        let share = Share::new(all().policy(0), 2);
        let (first, second) = (share.thread(soon()).await, share.thread(soon()).await);
        assert!(first.is_some() && second.is_some());
        assert!(share.thread(soon()).await.is_none());
        drop(first);
        assert!(share.thread(soon()).await.is_some());
    }

    #[tokio::test]
    async fn all_shares_together_give_no_more_threads_than_there_are() {
        let all = all();
        let greedy = Share::new(all.policy(0), 2 * THREADS);
        let mut held = Vec::new();
        for _ in 0..THREADS {
            held.extend(greedy.thread(soon()).await);
        }
        assert_eq!(held.len(), THREADS);
        let other = Share::new(all.policy(1), 1);
        assert!(other.thread(soon()).await.is_none());
        held.pop();
        assert!(other.thread(soon()).await.is_some());
    }

    #[tokio::test]
    async fn a_policy_waits_for_one_thread_of_another_and_not_for_all_that_it_wants() {
        let all = all();
        let greedy = Arc::new(Share::new(all.policy(0), 4 * THREADS));
        let late = Instant::now() + Duration::from_secs(20);
        let mut held = Vec::new();
        for _ in 0..THREADS {
            held.extend(greedy.thread(late).await);
        }
        let mut waiting = JoinSet::new();
        for _ in 0..2 * THREADS {
            let greedy = Arc::clone(&greedy);
            waiting.spawn(async move { greedy.thread(late).await });
        }
        let other = Share::new(all.policy(1), 1);
        let mut waiting_too = JoinSet::new();
        waiting_too.spawn(async move { other.thread(late).await.is_some() });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // One thread goes to the greedy policy, which waits for longer, and one to the other.
        held.truncate(THREADS - 2);
        assert!(waiting_too.join_next().await.unwrap().unwrap());
    }

    #[test]
    fn slow_attempts_are_rationed_and_the_ration_comes_back() {
        let share = Share::new(all().policy(0), 1);
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

    #[test]
    fn slow_policies_share_one_ration_in_equal_parts() {
        let all = all();
        let shares: Vec<_> = (0..8).map(|number| Share::new(all.policy(number), 1)).collect();
        let quick = Share::new(all.policy(8), 1);
        let mut attempts = [0_u64; 8];
        let begun = Instant::now();
        // A machine that pauses for a while leaves room for fewer attempts.
        while begun.elapsed() < Duration::from_secs(1)
            || attempts.iter().sum::<u64>() < 40
            || attempts.iter().any(|number| *number < 3)
        {
            assert!(begun.elapsed() < Duration::from_secs(20), "too few: {attempts:?}");
            for (share, attempts) in shares.iter().zip(&mut attempts) {
                if !share.is_used_up() {
                    share.spend();
                    *attempts += 1;
                }
            }
            assert!(!quick.is_used_up());
            std::thread::sleep(Duration::from_millis(1));
        }
        let all_attempts: u64 = attempts.iter().sum();
        let ration = millis(begun.elapsed()) / millis(PACE) + u64::from(BURST);
        assert!(all_attempts <= ration + 16, "{attempts:?}");
        let (least, most) = (attempts.iter().min().unwrap(), attempts.iter().max().unwrap());
        assert!(most - least <= 8, "{attempts:?}");
    }
}
