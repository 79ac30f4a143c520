//! Watched key file: looked at on a thread of its own, since a volume may hang, and tried again for as
//! long as it cannot be used.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use super::{config::KeyConfig, key::Key, key_fault::LoadKeysError, key_file};
use crate::{file_watch::FileWatch, telemetry::IssuerKeyMetrics};

/// How long a look at a file is waited for. After that, what the other files say counts, and this one
/// is taken over when it has been read.
const PATIENCE: Duration = Duration::from_secs(1);
/// A look at a file that takes longer than this is reported: its volume hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);
/// How often the log repeats why a file cannot be used.
const REMIND_AFTER: Duration = Duration::from_mins(5);

/// A key file, and the keys last read from it.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: String,
    keys: Vec<Arc<Key>>,
    reading: Reading,
    fault: Option<Fault>,
}

/// Whose file it is, and where to count.
pub(super) struct Context<'a> {
    pub(super) issuer: &'a str,
    pub(super) metrics: &'a IssuerKeyMetrics,
}

#[derive(Debug)]
enum Reading {
    /// No look is under way.
    Idle(Reader),
    /// A thread looks at it. There is never a second one: it would hang as well.
    UnderWay { look: JoinHandle<(Reader, Look)>, since: Instant, is_reported: bool },
    /// Only between two of the others.
    Lost,
}

/// Why the file is not used, as the log has it.
#[derive(Debug)]
struct Fault {
    text: String,
    said: Instant,
}

/// What a thread needs to look at a file.
#[derive(Debug)]
struct Reader {
    config: KeyConfig,
    watch: FileWatch,
    has_failed: bool,
}

/// What came of looking at a file.
#[derive(Debug)]
enum Look {
    Unchanged {
        is_good: bool,
    },
    /// It was read, because it has changed or because it could not be used before.
    Read {
        has_changed: bool,
        keys: Result<Vec<Arc<Key>>, LoadKeysError>,
    },
}

// === impl WatchedFile ===

impl WatchedFile {
    /// Reads the file, which must be usable, and watches it from then on.
    pub(super) fn load(config: &KeyConfig) -> Result<Self, LoadKeysError> {
        // Watched before it is read: a change in between is then seen at the first look.
        let watch = FileWatch::new(config.path());
        let keys = key_file::load(config)?;
        let reader = Reader { config: config.clone(), watch, has_failed: false };
        let path = config.path().display().to_string();
        Ok(Self { path, keys, reading: Reading::Idle(reader), fault: None })
    }

    pub(super) fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// Whether its last reading failed, or hangs.
    pub(super) fn is_failing(&self) -> bool {
        self.fault.is_some()
    }

    /// Has a thread look at it, unless one still does. With `retry`, it is read even if it has not
    /// changed since it could not be used.
    pub(super) fn begin(&mut self, retry: bool) {
        self.reading = match std::mem::replace(&mut self.reading, Reading::Lost) {
            Reading::Idle(mut reader) => {
                let look = spawn_blocking(move || {
                    let look = reader.look(retry);
                    (reader, look)
                });
                Reading::UnderWay { look, since: Instant::now(), is_reported: false }
            }
            other => other,
        };
    }

    /// Waits a little for the thread, and takes over what it has read. Whether the file has changed.
    pub(super) async fn finish(&mut self, context: &Context<'_>) -> Result<bool, JoinError> {
        let Reading::UnderWay { look, since, is_reported } = &mut self.reading else {
            return Ok(false);
        };
        // Over at once for a thread that was waited for at an earlier look.
        let Ok(finished) = timeout_at(*since + PATIENCE, look).await else {
            if since.elapsed() >= HANGS_AFTER && !*is_reported {
                *is_reported = true;
                context.metrics.failed();
                self.complain(hangs(&self.path), context);
            }
            return Ok(false);
        };
        let (reader, look) = finished?;
        self.reading = Reading::Idle(reader);
        match look {
            Look::Unchanged { is_good } => {
                if is_good {
                    // It was slow, and there is nothing new in it.
                    self.fault = None;
                }
                Ok(false)
            }
            Look::Read { has_changed, keys } => {
                self.take(keys, context);
                Ok(has_changed)
            }
        }
    }

    fn take(&mut self, keys: Result<Vec<Arc<Key>>, LoadKeysError>, context: &Context<'_>) {
        match keys {
            Ok(keys) => {
                self.keys = keys;
                self.fault = None;
                context.metrics.succeeded();
            }
            Err(error) => {
                context.metrics.failed();
                self.complain(error.to_string(), context);
            }
        }
    }

    /// Says once why the file is not used, and again after a while. The text names the file.
    fn complain(&mut self, text: String, context: &Context<'_>) {
        let is_known = self
            .fault
            .as_ref()
            .is_some_and(|fault| fault.text == text && fault.said.elapsed() < REMIND_AFTER);
        if is_known {
            return;
        }
        tracing::error!(
            issuer = context.issuer,
            error = text,
            "a key file cannot be used; the keys last read from it stay in use, and it is tried again"
        );
        self.fault = Some(Fault { text, said: Instant::now() });
    }
}

// === impl Reader ===

impl Reader {
    fn look(&mut self, retry: bool) -> Look {
        let has_changed = self.watch.has_changed();
        let is_due = retry && (self.has_failed || !is_there(self.config.path()));
        if !has_changed && !is_due {
            return Look::Unchanged { is_good: !self.has_failed };
        }
        let keys = key_file::load(&self.config);
        self.has_failed = keys.is_err();
        Look::Read { has_changed, keys }
    }
}

fn hangs(path: &str) -> String {
    format!(
        "{path}: reading the key file has taken longer than {} s; does its volume hang?",
        HANGS_AFTER.as_secs()
    )
}

/// A file that is gone counts as unchanged for [`FileWatch`].
fn is_there(path: &Path) -> bool {
    path.metadata().is_ok()
}
