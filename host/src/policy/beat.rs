//! Owns keeping the runtime awake while policies run.
//!
//! A call into a policy holds the thread that makes it, for as long as its deadline allows. If that
//! thread was the one that listens to all the sockets and timers, the others sleep on, and nobody
//! listens before the call is over. So the ticker wakes one of them now and then, which has nothing
//! to do and listens instead.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::drain::Drain;

/// Wakes a thread of the runtime whenever it is struck. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Beat(Arc<Notify>);

impl Beat {
    /// Wakes a thread that has nothing to do, if there is one.
    pub(super) fn strike(&self) {
        self.0.notify_one();
    }

    /// What there is to be woken for: nothing, until the drain begins.
    pub async fn run(self, drain: Drain) {
        loop {
            tokio::select! {
                () = drain.stopping() => return,
                () = self.0.notified() => {}
            }
        }
    }
}
