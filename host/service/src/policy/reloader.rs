//! Policy reloader: loads policies again when their files change, and on request.
//!
//! A file system may hang for as long as it likes. So a file is checked on a thread that serves no
//! requests, one attempt per policy at a time, and nothing waits for another policy's file.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use portcullis_runtime::{drain::Drain, file_watch::FileWatch};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinError,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

use super::{HostConfig, loader::Loaded};

/// Asks for every policy file to be loaded now. Clones ask the same task.
#[derive(Clone)]
pub struct Reload {
    policies: Arc<[(String, mpsc::Sender<Done>)]>,
    patience: Duration,
}

/// Policies did not load in time.
#[derive(Debug, thiserror::Error)]
#[error(
    "policy `{}`: loading has not ended within {patience:?} and goes on; see whether the volume of \
     its file answers, and `policy_host.reload_timeout`",
    policies.join("`, `")
)]
pub struct ReloadTimeout {
    policies: Vec<String>,
    patience: Duration,
}

/// The task that replaces policies.
pub struct PolicyReloader {
    policies: Vec<(Arc<Watched>, mpsc::Receiver<Done>)>,
    times: Times,
}

/// Notified once the attempt that was asked for has ended.
type Done = oneshot::Sender<()>;

/// How often files are checked, and how long that may take.
#[derive(Clone, Copy)]
struct Times {
    interval: Duration,
    timeout: Duration,
}

/// A policy and its file.
struct Watched {
    loaded: Arc<Loaded>,
    file: Mutex<FileWatch>,
}

/// What can be loaded again.
trait Reloadable: Send + Sync + 'static {
    /// Loads it if its file has changed, or in any case. May take forever.
    fn reload_if_due(&self, in_any_case: bool);

    /// An attempt has been under way for this long.
    fn hangs(&self, since: Duration);

    /// An attempt has panicked.
    fn panicked(&self, error: &JoinError);
}

/// Requests that wait for the next attempt. One more would be served by the same attempt.
const MAX_REQUESTS: usize = 16;

// === impl Reload ===

impl Reload {
    /// Asks without waiting.
    pub fn request(&self) {
        for (_, requests) in &*self.policies {
            // With so many waiting, the next attempt is theirs.
            let _ = requests.try_send(oneshot::channel().0);
        }
    }

    /// Asks, and returns when every policy has been loaded, successfully or not.
    ///
    /// # Errors
    /// When one does not load in time.
    pub async fn reload(&self) -> Result<(), ReloadTimeout> {
        let deadline = Instant::now() + self.patience;
        let attempts = self.policies.iter().map(|(name, requests)| async move {
            let attempt = async {
                let (done, ended) = oneshot::channel();
                if requests.send(done).await.is_ok() {
                    // Only the end of the process loses the answer.
                    let _ = ended.await;
                }
            };
            timeout_at(deadline, attempt).await.is_err().then(|| name.clone())
        });
        let policies: Vec<_> = join_all(attempts).await.into_iter().flatten().collect();
        let patience = self.patience;
        if policies.is_empty() { Ok(()) } else { Err(ReloadTimeout { policies, patience }) }
    }
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.policies.iter().map(|(name, _)| name)).finish()
    }
}

// === impl PolicyReloader ===

impl PolicyReloader {
    /// The task, and what asks it. Each file was watched before it was read, so that a change in
    /// between is seen at the first look.
    pub(super) fn new(
        policies: impl IntoIterator<Item = (Arc<Loaded>, FileWatch)>,
        host: &HostConfig,
    ) -> (Self, Reload) {
        let (watched, senders): (Vec<_>, Vec<_>) = policies
            .into_iter()
            .map(|(loaded, file)| {
                let (sender, requests) = mpsc::channel(MAX_REQUESTS);
                let name = loaded.slot.name.to_string();
                let watched = Arc::new(Watched { loaded, file: Mutex::new(file) });
                ((watched, requests), (name, sender))
            })
            .unzip();
        let times =
            Times { interval: host.reload_interval.get(), timeout: host.reload_timeout.get() };
        let reload = Reload { policies: senders.into(), patience: times.timeout };
        (Self { policies: watched, times }, reload)
    }

    /// Replaces policies when their files change or when asked to, until the drain begins.
    pub async fn run(self, drain: Drain) {
        let times = self.times;
        let all = self.policies.into_iter().map(|(policy, asked)| follow(policy, asked, times));
        tokio::select! {
            () = drain.stopping() => {}
            // There may be none.
            () = async { join_all(all).await; drain.stopping().await } => {}
        }
    }
}

impl fmt::Debug for PolicyReloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyReloader")
            .field("policies", &self.policies.len())
            .finish_non_exhaustive()
    }
}

/// Keeps one policy up to date.
async fn follow(policy: Arc<impl Reloadable>, mut requests: mpsc::Receiver<Done>, times: Times) {
    let mut interval = interval(times.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_due = false;
    loop {
        let mut asked = Vec::new();
        tokio::select! {
            _ = interval.tick() => {}
            Some(done) = requests.recv() => asked.push(done),
        }
        while let Ok(done) = requests.try_recv() {
            asked.push(done);
        }
        // An attempt that hung may have missed a change, and its reported failure is to be
        // corrected.
        is_due = attempt(&policy, is_due || !asked.is_empty(), times.timeout).await;
        for done in asked {
            // The caller may have gone away since.
            _ = done.send(());
        }
    }
}

/// Checks a policy once, for as long as that takes. Returns whether it took too long.
async fn attempt(policy: &Arc<impl Reloadable>, in_any_case: bool, limit: Duration) -> bool {
    let reloading = Arc::clone(policy);
    let mut task = tokio::task::spawn_blocking(move || reloading.reload_if_due(in_any_case));
    let (ended, hung) = if let Ok(ended) = timeout(limit, &mut task).await {
        (ended, false)
    } else {
        policy.hangs(limit);
        (task.await, true)
    };
    if let Err(error) = ended {
        policy.panicked(&error);
    }
    hung
}

// === impl Watched ===

impl Reloadable for Watched {
    fn reload_if_due(&self, in_any_case: bool) {
        // A fingerprint is never half-changed.
        let has_changed = self.file.lock().unwrap_or_else(PoisonError::into_inner).has_changed();
        if has_changed || in_any_case {
            self.loaded.reload();
        }
    }

    fn hangs(&self, since: Duration) {
        let file = Path::display(&self.loaded.loader.file);
        self.loaded.hangs(format!(
            "{file}: has not been loaded within {since:?}; see whether its volume answers"
        ));
    }

    fn panicked(&self, error: &JoinError) {
        tracing::error!(policy = %self.loaded.slot.name, %error, "reloading a policy failed; the old one keeps serving");
    }
}

#[cfg(test)]
mod tests;
