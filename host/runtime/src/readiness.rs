//! Readiness of the process: whether it may receive traffic.
//!
//! Readiness is blocked by guards: a part that needs something first holds a [`BlockReady`] and
//! drops it once it has it. No flag can be left set, because there is none.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// A handle that shows whether a guard still blocks readiness. Clones share their state.
#[derive(Debug, Clone)]
pub struct Readiness {
    shared: Arc<Shared>,
}

/// Blocks readiness until it is dropped.
#[derive(Debug)]
pub struct BlockReady {
    shared: Arc<Shared>,
    cause: &'static str,
}

#[derive(Debug)]
struct Shared {
    causes: Mutex<Vec<&'static str>>,
    ready: watch::Sender<bool>,
}

// === impl Readiness ===

impl Default for Readiness {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared { causes: Mutex::default(), ready: watch::Sender::new(true) }),
        }
    }
}

impl Readiness {
    /// Blocks readiness for `cause`, a short phrase for `/readyz`.
    #[must_use]
    pub fn block(&self, cause: &'static str) -> BlockReady {
        self.shared.change(|causes| causes.push(cause));
        BlockReady { shared: Arc::clone(&self.shared), cause }
    }

    /// Whether no guard blocks readiness.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// The causes that block readiness, for people.
    #[must_use]
    pub fn causes(&self) -> Vec<&'static str> {
        self.shared.causes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.shared.ready.subscribe()
    }
}

// === impl BlockReady ===

impl Drop for BlockReady {
    fn drop(&mut self) {
        self.shared.change(|causes| {
            if let Some(index) = causes.iter().position(|cause| *cause == self.cause) {
                causes.swap_remove(index);
            }
        });
    }
}

// === impl Shared ===

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Vec<&'static str>)) {
        // A panic between lock and unlock cannot leave a Vec of words in a bad state.
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut causes);
        // Sent under the lock, so that two changes cannot be published in the wrong order.
        self.ready.send_if_modified(|ready| {
            std::mem::replace(ready, causes.is_empty()) != causes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_the_last_guard_is_dropped() {
        let readiness = Readiness::default();
        let blacklist = readiness.block("blacklist snapshot");
        let policies = readiness.block("policies");
        assert!(!readiness.is_ready());
        drop(blacklist);
        assert_eq!(readiness.causes(), ["policies"]);
        drop(policies);
        assert!(readiness.is_ready());
    }

    #[test]
    fn two_guards_with_one_cause_are_two_guards() {
        let readiness = Readiness::default();
        let first = readiness.block("same");
        let second = readiness.block("same");
        drop(first);
        assert!(!readiness.is_ready());
        drop(second);
        assert!(readiness.is_ready());
    }

    #[test]
    fn watchers_see_readiness_come_and_go() {
        let readiness = Readiness::default();
        let mut watch = readiness.watch();
        let guard = readiness.block("stale");
        assert!(watch.has_changed().unwrap());
        assert!(!*watch.borrow_and_update());
        drop(guard);
        assert!(*watch.borrow_and_update());
    }
}
