//! Watched source of keys: checked on its own thread, since a volume may hang, and retried for as
//! long as it cannot be used.

use std::{sync::Arc, time::Duration};

use portcullis_runtime::telemetry::{IssuerKeyMetrics, RateLimitedLog};
use tokio::{
    task::{JoinError, JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

use super::{key::Key, key_fault::LoadKeysError, key_source::KeySource};

/// How long to wait for a check of a source. After that, the keys of the other sources count, and
/// those of this one are taken over when it has been read.
const PATIENCE: Duration = Duration::from_secs(1);
/// A check of a source that takes longer than this is reported: its volume hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);
/// How often the log repeats why a source cannot be used.
const REMIND_AFTER: Duration = Duration::from_mins(5);

/// A source of keys, and the keys last read from it.
#[derive(Debug)]
pub(super) struct WatchedSource {
    origin: String,
    keys: Vec<Arc<Key>>,
    reading: ReadState,
    log: RateLimitedLog,
}

/// Whose source it is, and where to count.
pub(super) struct Context<'a> {
    pub(super) issuer: &'a str,
    pub(super) metrics: &'a IssuerKeyMetrics,
}

#[derive(Debug)]
enum ReadState {
    /// No check is under way.
    Idle(Reader),
    /// A thread checks it. There is never a second one: it would hang as well.
    UnderWay { task: JoinHandle<(Reader, ReadOutcome)>, since: Instant, is_reported: bool },
    /// Only between two of the others.
    Lost,
}

/// What a thread needs to check a source.
#[derive(Debug)]
struct Reader {
    source: Box<dyn KeySource>,
    has_failed: bool,
}

/// Outcome of a check of a source.
#[derive(Debug)]
enum ReadOutcome {
    Unchanged {
        is_good: bool,
    },
    /// It was read, because it has changed or because it could not be used before.
    Read {
        has_changed: bool,
        keys: Result<Vec<Arc<Key>>, LoadKeysError>,
    },
}

// === impl WatchedSource ===

impl WatchedSource {
    /// Reads the source, which must be usable, and watches it from then on. A change during the
    /// reading is seen at the first check.
    pub(super) fn load(mut source: Box<dyn KeySource>) -> Result<Self, LoadKeysError> {
        let keys = source.load()?;
        let origin = source.origin();
        let reading = ReadState::Idle(Reader { source, has_failed: false });
        Ok(Self { origin, keys, reading, log: RateLimitedLog::default() })
    }

    pub(super) fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// Whether a thread reads it, so that what is read is not in use yet.
    pub(super) const fn is_being_read(&self) -> bool {
        !matches!(self.reading, ReadState::Idle(_))
    }

    /// Whether its last reading failed, or hangs.
    pub(super) fn is_failing(&self) -> bool {
        !self.log.is_clear()
    }

    /// Has a thread check it, unless one still does. With `retry`, it is read even if it has not
    /// changed since it could not be used.
    pub(super) fn begin(&mut self, retry: bool) {
        self.reading = match std::mem::replace(&mut self.reading, ReadState::Lost) {
            ReadState::Idle(mut reader) => {
                let task = spawn_blocking(move || {
                    let outcome = reader.read_if_due(retry);
                    (reader, outcome)
                });
                ReadState::UnderWay { task, since: Instant::now(), is_reported: false }
            }
            other => other,
        };
    }

    /// Waits a little for the thread, and takes over what it has read. Whether there was a change.
    pub(super) async fn finish(&mut self, context: &Context<'_>) -> Result<bool, JoinError> {
        let ReadState::UnderWay { task, since, is_reported } = &mut self.reading else {
            return Ok(false);
        };
        // Over at once for a thread that was waited for at an earlier check.
        let Ok(finished) = timeout_at(*since + PATIENCE, task).await else {
            if since.elapsed() >= HANGS_AFTER && !*is_reported {
                *is_reported = true;
                context.metrics.failed();
                self.report(&hangs(&self.origin), context);
            }
            return Ok(false);
        };
        let (reader, outcome) = finished?;
        self.reading = ReadState::Idle(reader);
        match outcome {
            ReadOutcome::Unchanged { is_good } => {
                if is_good {
                    // It was slow, and there is nothing new in it.
                    self.log.clear();
                }
                Ok(false)
            }
            ReadOutcome::Read { has_changed, keys } => {
                self.take(keys, context);
                Ok(has_changed)
            }
        }
    }

    fn take(&mut self, keys: Result<Vec<Arc<Key>>, LoadKeysError>, context: &Context<'_>) {
        match keys {
            Ok(keys) => {
                self.keys = keys;
                self.log.clear();
                context.metrics.succeeded();
            }
            Err(error) => {
                if error.ends_keys() {
                    self.keys.clear();
                }
                context.metrics.failed();
                self.report(&error.to_string(), context);
            }
        }
    }

    /// Logs once why the source is not used, and again after a while. The text names the source.
    fn report(&self, text: &str, context: &Context<'_>) {
        if self.log.admit(text, REMIND_AFTER).is_some() {
            tracing::error!(
                issuer = context.issuer,
                error = text,
                "cannot use a source of keys; retrying"
            );
        }
    }
}

// === impl Reader ===

impl Reader {
    fn read_if_due(&mut self, retry: bool) -> ReadOutcome {
        let has_changed = self.source.has_changed();
        let is_due = retry && self.source.needs_retry(self.has_failed);
        if !has_changed && !is_due {
            return ReadOutcome::Unchanged { is_good: !self.has_failed };
        }
        let keys = self.source.load();
        self.has_failed = keys.is_err();
        ReadOutcome::Read { has_changed, keys }
    }
}

fn hangs(origin: &str) -> String {
    format!(
        "{origin}: reading the keys has taken longer than {} s; does its volume hang?",
        HANGS_AFTER.as_secs()
    )
}
