//! Task that fetches a key set: at the start, when it is due, and when a request asks for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_runtime::{
    backoff::{Backoff, jittered},
    boot_clock::BootInstant,
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

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
    /// A volume may hang: there is never a second write.
    writing: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
    backoff: Backoff,
    /// What was fetched last: a key that cannot be used is reported once.
    last: Option<(Bytes, Vec<Arc<Key>>)>,
    /// Until when the last keys may be used; `None` if there are none.
    usable_until: Option<BootInstant>,
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
        let left = cached.map(|cached| config.max_stale.get().saturating_sub(cached.age));
        let usable_until = left.map(|left| BootInstant::now().plus(left));
        if let Some(usable_until) = usable_until {
            progress.start_with(usable_until);
        }
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let (writing, last) = (None, None);
        Self { fetcher, location, config, cache, writing, progress, backoff, last, usable_until }
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
            self.expire();
            let now = BootInstant::now();
            if now >= due {
                return;
            }
            tokio::select! {
                () = sleep(due.since(now).min(TICK)) => {}
                () = &mut asked => return,
            }
        }
    }

    /// Ends the use of keys that are too old.
    fn expire(&mut self) {
        if self.usable_until.take_if(|until| BootInstant::now() >= *until).is_some() {
            let origin = self.location.to_string();
            let cause = "the issuer has not answered with keys since".to_owned();
            self.progress.expire(LoadKeysError::TooOld { origin, cause });
        }
    }

    /// Fetches once, and returns how long to wait before the next time.
    async fn fetch(&mut self) -> Duration {
        let began = BootInstant::now();
        self.progress.begin();
        let fetched = self.fetch_keys().await;
        self.expire();
        let now = BootInstant::now();
        match fetched {
            Ok((keys, document)) => {
                self.backoff.reset();
                self.usable_until = Some(began.plus(self.config.max_stale.get()));
                self.last = Some((document.body.clone(), keys.clone()));
                let allowed_at = now.plus(self.config.cooldown.get());
                self.progress.finish(Ok(keys), self.usable_until, allowed_at);
                self.store(document.body);
                self.next_refresh(document.max_age)
            }
            Err(error) => {
                let pause = self.backoff.pause(random());
                self.backoff.failed();
                // A request must not undercut the backoff.
                let allowed_at = now.plus(pause.max(self.config.cooldown.get()));
                self.progress.finish(Err(error), self.usable_until, allowed_at);
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
            Some((body, keys)) if *body == document.body => return Ok(keys.clone()),
            _ => {}
        }
        match jwks::keys(&self.location.to_string(), &document.body) {
            // The issuer has withdrawn all keys that could be used.
            Err(error @ LoadKeysError::NoUsableKey { .. }) => {
                tracing::error!(%error, "the issuer publishes no key that can be used");
                Ok(Vec::new())
            }
            read => read,
        }
    }

    /// Writes to the cache, beside everything else.
    fn store(&mut self, document: Bytes) {
        let Some(cache) = self.cache.clone() else { return };
        if self.writing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.writing = Some(spawn_blocking(move || cache.write(&document)));
        } else {
            tracing::warn!("`tokens.fetch.cache_dir` is slow; a key set was not written");
        }
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
