//! Task that fetches a key set: at the start, when it is due, and when a request asks for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_runtime::{
    backoff::{Backoff, jittered},
    boot_clock::BootInstant,
};
use tokio::time::sleep;

use super::{
    super::{config::FetchConfig, jwks, key::Key, key_fault::LoadKeysError},
    cache::{CacheFile, CachedKeys},
    location::Location,
    progress::Progress,
};
use crate::fetch::{Document, Fetcher};

/// Fetches the keys of one source.
#[derive(Debug)]
pub(in super::super) struct RemoteTask {
    fetcher: Fetcher,
    location: Location,
    config: FetchConfig,
    cache: Option<CacheFile>,
    progress: Arc<Progress>,
    backoff: Backoff,
    /// What was fetched last: a key that cannot be used is reported once.
    last: Option<(Bytes, Vec<Arc<Key>>)>,
    /// When it was fetched; `None` if nothing may be used.
    fetched_at: Option<BootInstant>,
}

/// Pauses after failures.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// How often the clock is compared: a timer stands still while the machine is suspended.
const TICK: Duration = Duration::from_secs(1);

// === impl RemoteTask ===

impl RemoteTask {
    pub(super) fn new(
        fetcher: Fetcher,
        location: Location,
        config: FetchConfig,
        cache: Option<CacheFile>,
        progress: Arc<Progress>,
        cached: Option<&CachedKeys>,
    ) -> Self {
        let fetched_at = cached.map(|cached| cached.fetched_at);
        if let Some(fetched_at) = fetched_at {
            progress.start_with(fetched_at);
        }
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        Self { fetcher, location, config, cache, progress, backoff, last: None, fetched_at }
    }

    /// Fetches until it is dropped.
    pub(in super::super) async fn run(mut self) {
        loop {
            let pause = self.fetch().await;
            self.wait(BootInstant::now().plus(pause)).await;
        }
    }

    /// Waits until `due`, or until a request asks.
    async fn wait(&mut self, due: BootInstant) {
        let progress = Arc::clone(&self.progress);
        let asked = progress.asked();
        tokio::pin!(asked);
        loop {
            let now = BootInstant::now();
            if now >= due {
                return;
            }
            if self.fetched_at.is_some_and(|at| now.since(at) > self.config.max_stale.get()) {
                // Another attempt reports that they are too old.
                return;
            }
            tokio::select! {
                () = sleep(due.since(now).min(TICK)) => {}
                () = &mut asked => return,
            }
        }
    }

    /// Fetches once, and returns how long to wait before the next time.
    async fn fetch(&mut self) -> Duration {
        let began = BootInstant::now();
        self.progress.begin(began);
        match self.fetch_keys().await {
            Ok((keys, document)) => {
                self.backoff.reset();
                self.fetched_at = Some(began);
                self.last = Some((document.body.clone(), keys.clone()));
                self.progress.finish(Ok(keys), self.fetched_at);
                self.store(document.body).await;
                self.next_refresh(document.max_age)
            }
            Err(error) => {
                let max_stale = self.config.max_stale.get();
                let is_old = |at: BootInstant| began.since(at) > max_stale;
                let error = if self.fetched_at.take_if(|at| is_old(*at)).is_some() {
                    let origin = self.location.to_string();
                    LoadKeysError::TooOld { origin, cause: error.to_string() }
                } else {
                    error
                };
                self.progress.finish(Err(error), self.fetched_at);
                let pause = self.backoff.pause(random());
                self.backoff.failed();
                pause
            }
        }
    }

    /// Fetches once, without any effect. Returns where, and how many keys there are.
    pub(in super::super) async fn try_fetch(&self) -> (String, Result<usize, LoadKeysError>) {
        let fetched = self.fetch_keys().await;
        (self.location.to_string(), fetched.map(|(keys, _)| keys.len()))
    }

    async fn fetch_keys(&self) -> Result<(Vec<Arc<Key>>, Document), LoadKeysError> {
        let fetched = self.location.fetch(&self.fetcher).await;
        let document = fetched.map_err(|fault| {
            let origin = self.location.to_string();
            LoadKeysError::NotFetched { origin, cause: fault.to_string() }
        })?;
        let keys = self.read(&document)?;
        Ok((keys, document))
    }

    fn read(&self, document: &Document) -> Result<Vec<Arc<Key>>, LoadKeysError> {
        match &self.last {
            Some((body, keys)) if *body == document.body => Ok(keys.clone()),
            _ => jwks::keys(&self.location.to_string(), &document.body),
        }
    }

    async fn store(&self, document: Bytes) {
        let Some(cache) = self.cache.clone() else { return };
        // If writing panics, the next start has no cache.
        let _ = tokio::task::spawn_blocking(move || cache.write(&document)).await;
    }

    fn next_refresh(&self, max_age: Option<Duration>) -> Duration {
        let (shortest, longest) =
            (self.config.shortest_refresh.get(), self.config.longest_refresh.get());
        jittered(max_age.unwrap_or(longest).clamp(shortest, longest), random())
    }
}

/// A random number. If the system cannot provide one, it is the largest: no pause is shorter for that.
fn random() -> u8 {
    let mut byte = [u8::MAX];
    // The byte stays as it is then.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}
