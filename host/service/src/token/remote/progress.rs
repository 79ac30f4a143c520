//! Progress of fetches: which one is in flight, which one has taken effect, and who waits for it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
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
    /// The latest outcome that was not loaded yet, and the number of its fetch.
    outcome: Mutex<Option<(u64, FetchOutcome)>>,
    /// The number of the fetch whose outcome was loaded.
    loaded: AtomicU64,
    /// Between two fetches for requests.
    cooldown: Duration,
}

/// The keys that were fetched, or why there are none.
pub(super) type FetchOutcome = Result<Vec<Arc<Key>>, LoadKeysError>;

/// Fetches are numbered from 1 on.
#[derive(Debug, Clone, Copy)]
struct FetchState {
    begun: u64,
    begun_at: BootInstant,
    /// The last one whose outcome is in use.
    applied: u64,
    /// When the keys in use were fetched, if there are any.
    fetched_at: Option<BootInstant>,
}

/// Asks for fetches. Clones are about the same source.
#[derive(Debug, Clone)]
pub(in super::super) struct KeyRequests(Arc<Progress>);

// === impl Progress ===

impl Progress {
    pub(super) fn new(cooldown: Duration, changed: Arc<Notify>) -> Self {
        let state =
            FetchState { begun: 0, begun_at: BootInstant::START, applied: 0, fetched_at: None };
        Self {
            state: watch::Sender::new(state),
            asked: Notify::new(),
            changed,
            outcome: Mutex::default(),
            loaded: AtomicU64::new(0),
            cooldown,
        }
    }

    /// A fetch begins.
    pub(super) fn begin(&self, now: BootInstant) {
        self.state.send_modify(|state| {
            state.begun += 1;
            state.begun_at = now;
        });
    }

    /// It has ended. `fetched_at` is when the keys were fetched that count from now on.
    pub(super) fn finish(&self, outcome: FetchOutcome, fetched_at: Option<BootInstant>) {
        let number = self.state.borrow().begun;
        *self.outcome() = Some((number, outcome));
        self.state.send_modify(|state| state.fetched_at = fetched_at);
        self.changed.notify_one();
    }

    /// The keys that were read from the cache at the start count from `fetched_at` on.
    pub(super) fn start_with(&self, fetched_at: BootInstant) {
        self.state.send_modify(|state| state.fetched_at = Some(fetched_at));
    }

    pub(super) fn has_outcome(&self) -> bool {
        self.outcome().is_some()
    }

    /// The latest outcome, once.
    pub(super) fn take(&self) -> Option<FetchOutcome> {
        let (number, outcome) = self.outcome().take()?;
        self.loaded.store(number, Ordering::Release);
        Some(outcome)
    }

    /// Resolves when a request asks for a fetch that may begin.
    pub(super) async fn asked(&self) {
        loop {
            self.asked.notified().await;
            if self.state.borrow().is_cool(self.cooldown) {
                return;
            }
        }
    }

    fn outcome(&self) -> std::sync::MutexGuard<'_, Option<(u64, FetchOutcome)>> {
        // An outcome is put and taken as a whole.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

// === impl FetchState ===

impl FetchState {
    fn is_cool(&self, cooldown: Duration) -> bool {
        self.begun == 0 || BootInstant::now() >= self.begun_at.plus(cooldown)
    }
}

// === impl KeyRequests ===

impl KeyRequests {
    pub(super) const fn new(progress: Arc<Progress>) -> Self {
        Self(progress)
    }

    /// Has the keys fetched once more, unless that was done within the cooldown, and resolves when
    /// what was fetched is in use. All that ask meanwhile wait for one fetch.
    pub(in super::super) async fn fetch(&self) {
        let mut states = self.0.state.subscribe();
        let state = *states.borrow_and_update();
        let awaited = if state.applied < state.begun {
            state.begun
        } else if state.is_cool(self.0.cooldown) {
            self.0.asked.notify_one();
            state.begun + 1
        } else {
            return;
        };
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

    /// When the keys in use were fetched; `None` if there are none, or none that may be used.
    pub(in super::super) fn fetched_at(&self) -> Option<BootInstant> {
        self.0.state.borrow().fetched_at
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    const COOLDOWN: Duration = Duration::from_mins(1);

    fn progress(cooldown: Duration) -> (Arc<Progress>, KeyRequests) {
        let progress = Arc::new(Progress::new(cooldown, Arc::new(Notify::new())));
        (Arc::clone(&progress), KeyRequests::new(progress))
    }

    fn fetched(progress: &Progress, requests: &KeyRequests) {
        progress.finish(Ok(Vec::new()), Some(BootInstant::now()));
        assert!(progress.take().is_some());
        requests.applied();
    }

    #[tokio::test]
    async fn all_that_ask_wait_for_one_fetch_until_it_is_in_use() {
        let (progress, requests) = progress(COOLDOWN);
        let (one, other) = (requests.fetch(), requests.fetch());
        tokio::pin!(one, other);
        assert!(poll!(&mut one).is_pending());
        progress.asked().await;
        progress.begin(BootInstant::now());
        assert!(poll!(&mut other).is_pending(), "the fetch is in flight");
        progress.finish(Ok(Vec::new()), None);
        assert!(poll!(&mut one).is_pending(), "nothing was loaded");
        assert!(progress.has_outcome() && progress.take().is_some() && !progress.has_outcome());
        assert!(poll!(&mut one).is_pending(), "it is not in use");
        requests.applied();
        assert!(poll!(one).is_ready() && poll!(other).is_ready());
    }

    #[tokio::test]
    async fn within_the_cooldown_nothing_is_fetched_and_nothing_waits() {
        let (progress, requests) = progress(COOLDOWN);
        progress.begin(BootInstant::now());
        fetched(&progress, &requests);
        for _ in 0..3 {
            assert!(poll!(Box::pin(requests.fetch())).is_ready());
        }
        assert!(poll!(Box::pin(progress.asked())).is_pending());
    }

    #[tokio::test]
    async fn after_the_cooldown_there_is_another_fetch() {
        let (progress, requests) = progress(Duration::ZERO);
        for _ in 0..3 {
            progress.begin(BootInstant::now());
            fetched(&progress, &requests);
            let asking = requests.fetch();
            tokio::pin!(asking);
            assert!(poll!(&mut asking).is_pending());
            progress.asked().await;
        }
    }
}
