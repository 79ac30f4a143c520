//! Progress of fetches: which one is in flight, which one has taken effect, and who waits for it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use portcullis_runtime::boot_clock::BootInstant;
use tokio::sync::{Notify, watch};

use super::super::{key::Key, key_fault::LoadKeysError};

/// What the task, the source and the requests share.
pub(super) struct Progress {
    state: watch::Sender<FetchState>,
    /// A request has asked for a fetch.
    asked: Notify,
    /// There is an outcome to load.
    changed: Arc<Notify>,
    /// What was not loaded yet.
    unloaded: Mutex<Unloaded>,
    /// The number of the fetch whose outcome was loaded.
    loaded: AtomicU64,
    /// How many requests wait.
    waiting: AtomicUsize,
}

/// The latest keys that were not loaded yet, and then the latest failure: none of them hides the other.
#[derive(Default)]
struct Unloaded {
    keys: Option<Vec<Arc<Key>>>,
    error: Option<LoadKeysError>,
    /// Of the fetch that brought the last of them.
    number: u64,
}

/// Fetches are numbered from 1 on.
#[derive(Debug, Clone, Copy)]
struct FetchState {
    begun: u64,
    /// When a request may cause the next one.
    allowed_at: BootInstant,
    /// The last one whose outcome is in use.
    applied: u64,
    /// Until when the last keys may be used; `None` if there are none.
    usable_until: Option<BootInstant>,
}

/// Asks for fetches. Clones are about the same source.
#[derive(Debug, Clone)]
pub(in super::super) struct KeyRequests(Arc<Progress>);

/// A request that waits.
struct WaitingRequest<'a>(&'a AtomicUsize);

/// How many requests wait for keys. Each holds a place of a connection, which good tokens need, too.
const MAX_WAITING: usize = 64;

// === impl Progress ===

impl Progress {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        let state =
            FetchState { begun: 0, allowed_at: BootInstant::START, applied: 0, usable_until: None };
        Self {
            state: watch::Sender::new(state),
            asked: Notify::new(),
            changed,
            unloaded: Mutex::default(),
            loaded: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A fetch begins.
    pub(super) fn begin(&self) {
        self.state.send_modify(|state| state.begun += 1);
    }

    /// It has ended. Requests may cause another one from `allowed_at` on.
    pub(super) fn finish(
        &self,
        outcome: Result<Vec<Arc<Key>>, LoadKeysError>,
        usable_until: Option<BootInstant>,
        allowed_at: BootInstant,
    ) {
        self.put(outcome);
        self.state.send_modify(|state| {
            state.usable_until = usable_until;
            state.allowed_at = allowed_at;
        });
        self.changed.notify_one();
    }

    /// The last keys are too old, whatever the next fetch brings.
    pub(super) fn expire(&self, error: LoadKeysError) {
        self.put(Err(error));
        self.state.send_modify(|state| state.usable_until = None);
        self.changed.notify_one();
    }

    /// The keys that were read from the cache at the start may be used until then.
    pub(super) fn start_with(&self, usable_until: BootInstant) {
        self.state.send_modify(|state| state.usable_until = Some(usable_until));
    }

    fn put(&self, outcome: Result<Vec<Arc<Key>>, LoadKeysError>) {
        let number = self.state.borrow().begun;
        let mut unloaded = self.unloaded();
        unloaded.number = number;
        match outcome {
            Ok(keys) => (unloaded.keys, unloaded.error) = (Some(keys), None),
            // An error that ends the use of keys stays.
            Err(_) if unloaded.error.as_ref().is_some_and(LoadKeysError::ends_keys) => {}
            Err(error) => unloaded.error = Some(error),
        }
    }

    pub(super) fn has_outcome(&self) -> bool {
        let unloaded = self.unloaded();
        unloaded.keys.is_some() || unloaded.error.is_some()
    }

    /// The latest keys, once; and then the latest failure, once.
    pub(super) fn take(&self) -> Option<Result<Vec<Arc<Key>>, LoadKeysError>> {
        let mut unloaded = self.unloaded();
        let taken = match unloaded.keys.take() {
            Some(keys) => Some(Ok(keys)),
            None => unloaded.error.take().map(Err),
        };
        if unloaded.error.is_none() {
            self.loaded.store(unloaded.number, Ordering::Release);
        }
        taken
    }

    /// Resolves when a request asks for a fetch that may begin.
    pub(super) async fn asked(&self) {
        loop {
            self.asked.notified().await;
            if self.state.borrow().is_allowed() {
                return;
            }
        }
    }

    fn unloaded(&self) -> MutexGuard<'_, Unloaded> {
        // Its parts are put and taken as a whole.
        self.unloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

// === impl FetchState ===

impl FetchState {
    fn is_allowed(&self) -> bool {
        BootInstant::now() >= self.allowed_at
    }
}

// === impl KeyRequests ===

impl KeyRequests {
    pub(super) const fn new(progress: Arc<Progress>) -> Self {
        Self(progress)
    }

    /// Has the keys fetched once more, unless that was done within the cooldown, and resolves when
    /// what was fetched is in use. All that ask meanwhile wait for one fetch; too many do not wait.
    pub(in super::super) async fn fetch(&self) {
        let mut states = self.0.state.subscribe();
        let state = *states.borrow_and_update();
        let awaited = if state.applied < state.begun {
            state.begun
        } else if state.is_allowed() {
            self.0.asked.notify_one();
            state.begun + 1
        } else {
            return;
        };
        let Some(_waiting) = WaitingRequest::begin(&self.0.waiting) else { return };
        // The sender lives as long as this.
        let _ = states.wait_for(|state| state.applied >= awaited).await;
    }

    /// Everything that was loaded is in use now.
    pub(in super::super) fn applied(&self) {
        let loaded = self.0.loaded.load(Ordering::Acquire);
        self.0.state.send_if_modified(|state| {
            let is_new = state.applied != loaded;
            state.applied = loaded;
            is_new
        });
    }

    /// Until when the last keys may be used; `None` if there are none.
    pub(in super::super) fn usable_until(&self) -> Option<BootInstant> {
        self.0.state.borrow().usable_until
    }
}

// === impl WaitingRequest ===

impl<'a> WaitingRequest<'a> {
    /// `None` if too many wait.
    fn begin(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;

    use super::*;

    fn progress() -> (Arc<Progress>, KeyRequests) {
        let progress = Arc::new(Progress::new(Arc::new(Notify::new())));
        (Arc::clone(&progress), KeyRequests::new(progress))
    }

    /// A fetch ends, after which another one is allowed in `cooldown`.
    fn fetched(progress: &Progress, cooldown: Duration) {
        let now = BootInstant::now();
        progress.finish(Ok(Vec::new()), Some(now), now.plus(cooldown));
    }

    #[tokio::test]
    async fn all_that_ask_wait_for_one_fetch_until_it_is_in_use() {
        let (progress, requests) = progress();
        let (one, other) = (requests.fetch(), requests.fetch());
        tokio::pin!(one, other);
        assert!(poll!(&mut one).is_pending());
        progress.asked().await;
        progress.begin();
        assert!(poll!(&mut other).is_pending(), "the fetch is in flight");
        fetched(&progress, Duration::ZERO);
        assert!(poll!(&mut one).is_pending(), "nothing was loaded");
        assert!(progress.has_outcome() && progress.take().is_some() && !progress.has_outcome());
        assert!(poll!(&mut one).is_pending(), "it is not in use");
        requests.applied();
        assert!(poll!(one).is_ready() && poll!(other).is_ready());
    }

    #[tokio::test]
    async fn within_the_cooldown_nothing_is_fetched_and_nothing_waits() {
        let (progress, requests) = progress();
        progress.begin();
        fetched(&progress, Duration::from_mins(1));
        assert!(progress.take().is_some());
        requests.applied();
        for _ in 0..3 {
            assert!(poll!(Box::pin(requests.fetch())).is_ready());
        }
        assert!(poll!(Box::pin(progress.asked())).is_pending());
    }

    #[tokio::test]
    async fn few_requests_wait() {
        let (progress, requests) = progress();
        let mut all: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(requests.fetch())).collect();
        for waiting in &mut all {
            assert!(poll!(waiting).is_pending());
        }
        assert!(poll!(Box::pin(requests.fetch())).is_ready());
        all.pop();
        assert!(poll!(Box::pin(requests.fetch())).is_pending());
        assert_eq!(progress.waiting.load(Ordering::Relaxed), MAX_WAITING - 1);
    }

    #[test]
    fn no_outcome_hides_another() {
        let too_old = || LoadKeysError::TooOld { origin: String::new(), cause: String::new() };
        let failed = || LoadKeysError::NotFetched { origin: String::new(), cause: String::new() };
        let (progress, _) = progress();
        let now = BootInstant::now();
        progress.finish(Ok(Vec::new()), Some(now), now);
        progress.expire(too_old());
        progress.finish(Err(failed()), None, now);
        assert!(progress.take().is_some_and(|keys| keys.is_ok()));
        assert!(progress.take().is_some_and(|error| error.is_err_and(|error| error.ends_keys())));
        assert!(progress.take().is_none());
        progress.expire(too_old());
        progress.finish(Ok(Vec::new()), Some(now), now);
        assert!(progress.take().is_some_and(|keys| keys.is_ok()));
        assert!(!progress.has_outcome(), "newer keys end the failure");
    }
}
