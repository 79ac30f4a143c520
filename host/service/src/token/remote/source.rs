//! Source of keys that were fetched: it hands over what the task has fetched.

use std::sync::Arc;

use super::{
    super::{key::Key, key_fault::LoadKeysError, key_source::KeySource},
    progress::Progress,
};

/// The keys that the task has fetched last.
#[derive(Debug)]
pub(in super::super) struct RemoteSource {
    origin: String,
    /// Those of the cache, until the first fetch has ended.
    keys: Vec<Arc<Key>>,
    progress: Arc<Progress>,
}

// === impl RemoteSource ===

impl RemoteSource {
    pub(super) const fn new(origin: String, keys: Vec<Arc<Key>>, progress: Arc<Progress>) -> Self {
        Self { origin, keys, progress }
    }
}

impl KeySource for RemoteSource {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn load(&mut self) -> Result<Vec<Arc<Key>>, LoadKeysError> {
        if let Some(outcome) = self.progress.take() {
            self.keys = outcome?;
        }
        Ok(self.keys.clone())
    }

    fn has_changed(&mut self) -> bool {
        self.progress.has_outcome()
    }

    fn needs_retry(&self, _: bool) -> bool {
        // The task retries.
        false
    }
}
