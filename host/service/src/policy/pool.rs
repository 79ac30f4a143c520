//! Instance pool: the warm instances of one configured policy, and the requests that wait for one.
//!
//! A request takes an instance and puts it back. Instances are started by the filler, never by a
//! request. The pool counts the instances that exist, so that the filler knows how many are missing.

use std::{
    sync::atomic::{
        AtomicBool, AtomicUsize,
        Ordering::{Relaxed, SeqCst},
        fence,
    },
    time::Instant,
};

use crossbeam_queue::ArrayQueue;
use tokio::{sync::Notify, time::timeout_at};

/// The instances of one configured policy.
#[derive(Debug)]
pub(super) struct Pool<T> {
    warm: ArrayQueue<T>,
    /// Instances that exist or are being started.
    alive: AtomicUsize,
    /// How many there should be. It grows up to the capacity when a request finds none.
    wanted: AtomicUsize,
    /// Requests that wait for an instance.
    waiting: AtomicUsize,
    returned: Notify,
    closed: AtomicBool,
}

/// Why a request got no instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoInstance {
    /// None became free in time.
    Late,
    /// The revision has been replaced.
    Closed,
}

impl<T> Pool<T> {
    /// An empty pool for at most `capacity` instances, which begins with `wanted`.
    pub(super) fn new(wanted: usize, capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            warm: ArrayQueue::new(capacity),
            alive: AtomicUsize::new(0),
            wanted: AtomicUsize::new(wanted.clamp(1, capacity)),
            waiting: AtomicUsize::new(0),
            returned: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// A warm instance, if there is one.
    pub(super) fn take(&self) -> Option<T> {
        self.warm.pop()
    }

    /// Puts an instance back, or a new one in.
    pub(super) fn put(&self, instance: T) {
        if self.closed.load(Relaxed) {
            return;
        }
        // The queue has room for all that may exist.
        let _ = self.warm.push(instance);
        // A request that waits has counted itself before it looked: it sees the instance, or is seen.
        fence(SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.returned.notify_one();
        }
        if self.closed.load(SeqCst) {
            self.drop_warm();
        }
    }

    /// Waits for an instance until `until`.
    pub(super) async fn wait(&self, until: Instant) -> Result<T, NoInstance> {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let returned = self.returned.notified();
            fence(SeqCst);
            if let Some(instance) = self.take() {
                return Ok(instance);
            }
            if self.closed.load(SeqCst) {
                return Err(NoInstance::Closed);
            }
            if timeout_at(until.into(), returned).await.is_err() {
                return self.take().ok_or(NoInstance::Late);
            }
        }
    }

    /// One more instance is wanted, up to the capacity.
    pub(super) fn grow(&self) {
        let capacity = self.warm.capacity();
        // Two requests that grow it at once may overshoot by none: the capacity bounds both.
        let _ = self
            .wanted
            .fetch_update(Relaxed, Relaxed, |wanted| (wanted < capacity).then_some(wanted + 1));
    }

    /// Takes a place for an instance that is about to be started, if one is missing.
    pub(super) fn reserve(&self) -> bool {
        let wanted = self.wanted.load(Relaxed);
        !self.closed.load(SeqCst)
            && self
                .alive
                .fetch_update(SeqCst, SeqCst, |alive| (alive < wanted).then_some(alive + 1))
                .is_ok()
    }

    /// Releases a place.
    pub(super) fn release(&self) {
        self.alive.fetch_sub(1, SeqCst);
    }

    /// Drops all warm instances, and each one that comes back; requests that wait get none.
    pub(super) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.drop_warm();
        self.returned.notify_waiters();
    }

    fn drop_warm(&self) {
        while self.warm.pop().is_some() {}
    }
}

/// Counts a request among those that wait, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, SeqCst);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}
