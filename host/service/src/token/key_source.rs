//! Source of keys: what the reload needs of a key file, or of any other place that keys come from.
//! `key_config.rs` lists the kinds, and `build.rs` registers them.

use std::{fmt, sync::Arc};

use super::{key::Key, key_fault::LoadKeysError};

/// A place that keys of an issuer come from. It follows changes from its creation on. Its methods
/// may block: they run at the start, and later on a thread that no other source waits for.
pub(super) trait KeySource: fmt::Debug + Send {
    /// The name in logs and errors. It shows no secret.
    fn origin(&self) -> String;

    /// Reads the keys. There may be none.
    ///
    /// # Errors
    /// When the source cannot be read, or holds what cannot be used.
    fn load(&mut self) -> Result<Vec<Arc<Key>>, LoadKeysError>;

    /// Whether there is something else to read than at the last call. A source that is gone has not
    /// changed: what was read from it stays valid.
    fn has_changed(&mut self) -> bool;

    /// Whether to read it although it has not changed. `has_failed` says whether it could not be used
    /// when it was read last.
    fn needs_retry(&self, has_failed: bool) -> bool;
}
