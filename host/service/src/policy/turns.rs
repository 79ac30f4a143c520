//! Turns of slow calls: how many run at once in the whole process, and which one is next.
//!
//! A slow call runs for [`SLICE`], and then lets others run. Policies take turns, and so do the calls
//! of one policy. So a policy that is slow for thousands of requests gets no more than any other slow
//! policy, and one that needs a few milliseconds has them soon. Starting instances counts as well.
//!
//! Only threads that serve no requests wait here: those of slow calls, and those that start instances.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// How much processor time a turn lasts where others wait for theirs. Ticks make it up to 2 ms longer.
pub(super) const SLICE: Duration = Duration::from_millis(5);

/// The place of one policy in the round. Clones are the same place.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    round: Arc<Round>,
    policy: usize,
}

/// The right to run, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    lane: Lane,
    is_held: bool,
}

/// All policies.
#[derive(Debug)]
pub(super) struct Round(Mutex<RoundState>);

#[derive(Debug)]
struct RoundState {
    /// Turns that are free. As long as there are any, no call waits.
    free: usize,
    /// Who waits, by policy. The policy in front is the next one, and goes to the end then.
    queue: VecDeque<(usize, VecDeque<Arc<Waiter>>)>,
}

/// A thread that waits.
#[derive(Debug)]
struct Waiter {
    thread: Thread,
    has_turn: AtomicBool,
}

// === impl Round ===

impl Round {
    /// A round in which so many run at once.
    pub(super) fn new(turns: usize) -> Arc<Self> {
        let state = RoundState { free: turns.max(1), queue: VecDeque::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// The place of the policy with this number.
    pub(super) fn lane(self: &Arc<Self>, policy: usize) -> Lane {
        Lane { round: Arc::clone(self), policy }
    }

    fn state(&self) -> MutexGuard<'_, RoundState> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `until` for a turn, which another thread gives; returns whether there is one.
    fn wait(&self, waiter: &Arc<Waiter>, until: Instant) -> bool {
        while !waiter.has_turn.load(Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // It may have been given while this looked at the clock.
                return !self.state().remove(waiter);
            }
            thread::park_timeout(left);
        }
        true
    }
}

// === impl RoundState ===

impl RoundState {
    fn add(&mut self, policy: usize) -> Arc<Waiter> {
        let has_turn = AtomicBool::new(false);
        let waiter = Arc::new(Waiter { thread: thread::current(), has_turn });
        match self.queue.iter_mut().find(|(known, _)| *known == policy) {
            Some((_, waiters)) => waiters.push_back(Arc::clone(&waiter)),
            None => self.queue.push_back((policy, VecDeque::from([Arc::clone(&waiter)]))),
        }
        waiter
    }

    /// Takes one out that waits no longer; returns whether it was there.
    fn remove(&mut self, waiter: &Arc<Waiter>) -> bool {
        let mut found = false;
        self.queue.retain_mut(|(_, waiters)| {
            waiters.retain(|other| {
                let is_it = Arc::ptr_eq(other, waiter);
                found |= is_it;
                !is_it
            });
            !waiters.is_empty()
        });
        found
    }

    /// Gives a turn to the next one.
    fn give(&mut self) {
        let Some((policy, mut waiters)) = self.queue.pop_front() else {
            self.free += 1;
            return;
        };
        let next = waiters.pop_front();
        if !waiters.is_empty() {
            self.queue.push_back((policy, waiters));
        }
        match next {
            Some(waiter) => {
                waiter.has_turn.store(true, Release);
                waiter.thread.unpark();
            }
            // No policy is left in the queue without a waiter.
            None => self.give(),
        }
    }
}

// === impl Lane ===

impl Lane {
    /// Waits until `until` for a turn. Blocks the thread.
    pub(super) fn turn(&self, until: Instant) -> Option<Turn> {
        let mut state = self.round.state();
        let has_turn = if state.free > 0 {
            state.free -= 1;
            true
        } else {
            let waiter = state.add(self.policy);
            drop(state);
            self.round.wait(&waiter, until)
        };
        has_turn.then(|| Turn { lane: self.clone(), is_held: true })
    }
}

// === impl Turn ===

impl Turn {
    /// Lets the next one run, if one waits, and waits until `until` for another turn. Says whether
    /// there is one.
    pub(super) fn pass_on(&mut self, until: Instant) -> bool {
        let round = &self.lane.round;
        let mut state = round.state();
        if !self.is_held || state.queue.is_empty() {
            return self.is_held;
        }
        let waiter = state.add(self.lane.policy);
        state.give();
        drop(state);
        self.is_held = round.wait(&waiter, until);
        self.is_held
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_held {
            self.lane.round.state().give();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(1)
    }

    fn late() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn no_more_run_at_once_than_there_are_turns() {
        let round = Round::new(2);
        let (one, other) = (round.lane(0), round.lane(1));
        let first = one.turn(soon()).unwrap();
        let second = one.turn(soon()).unwrap();
        assert!(one.turn(soon()).is_none());
        assert!(other.turn(soon()).is_none());
        drop(first);
        let third = other.turn(soon());
        assert!(third.is_some());
        drop((second, third));
        let state = round.state();
        assert_eq!((state.free, state.queue.len()), (2, 0));
    }

    #[test]
    fn a_turn_without_other_waiters_goes_on() {
        let mut turn = Round::new(1).lane(0).turn(soon()).unwrap();
        assert!(turn.pass_on(soon()));
    }

    /// The policies in the order in which they run, where the first has many calls and the others
    /// one each.
    #[test]
    fn a_policy_with_many_calls_runs_no_more_often_than_others() {
        let round = Round::new(1);
        let mut first = round.lane(0).turn(late()).unwrap();
        let (order, waiting) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
        thread::scope(|scope| {
            for policy in [0, 0, 0, 0, 1, 2] {
                let lane = round.lane(policy);
                let (order, waiting) = (&order, &waiting);
                scope.spawn(move || {
                    let turn = lane.turn(late()).unwrap();
                    order.lock().unwrap().push(policy);
                    drop(turn);
                });
                // Each waits before the next one begins.
                let expected = waiting.fetch_add(1, SeqCst) + 1;
                let count = || round.state().queue.iter().map(|(_, all)| all.len()).sum::<usize>();
                while count() < expected {
                    thread::yield_now();
                }
            }
            assert!(first.pass_on(late()));
        });
        assert_eq!(*order.lock().unwrap(), [0, 1, 2, 0, 0, 0]);
    }

    #[test]
    fn many_threads_share_and_lose_no_turn() {
        let round = Round::new(3);
        let running = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..24 {
                let (lane, running) = (round.lane(number % 5), &running);
                scope.spawn(move || {
                    for _ in 0..50 {
                        // Some get no turn in time now and then.
                        let Some(mut turn) = lane.turn(soon()) else { continue };
                        for _ in 0..5 {
                            assert!(running.fetch_add(1, SeqCst) < 3, "too many run");
                            thread::yield_now();
                            running.fetch_sub(1, SeqCst);
                            if !turn.pass_on(soon()) {
                                break;
                            }
                        }
                    }
                });
            }
        });
        let state = round.state();
        assert_eq!((state.free, state.queue.len()), (3, 0));
    }
}
