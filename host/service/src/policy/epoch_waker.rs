//! Epoch waker: keeps the runtime responsive while policies run.
//!
//! A call into a policy blocks the thread that makes it, for as long as its deadline allows. If
//! that thread was the one that polls all the sockets and timers, the other threads sleep on, and
//! none polls them before the call is over. So the ticker wakes an idle thread now and then, which
//! polls them instead.

use std::sync::Arc;

use portcullis_runtime::drain::Drain;
use tokio::sync::Notify;

/// Wakes a thread of the runtime. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct EpochWaker(Arc<Notify>);

impl EpochWaker {
    /// Wakes an idle thread, if there is one.
    pub(super) fn wake(&self) {
        self.0.notify_one();
    }

    /// The task that is woken. It does nothing, until the drain begins.
    pub async fn run(self, drain: Drain) {
        loop {
            tokio::select! {
                () = drain.stopping() => return,
                () = self.0.notified() => {}
            }
        }
    }
}
