//! Writing of log lines: a bounded queue, and the one thread that writes them.
//!
//! Logging never blocks and never fails: a line that finds the queue full, or that cannot be
//! written, is dropped and counted. The queue is bounded in bytes as well as in lines, because a
//! client chooses how long its lines are.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc,
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use crossbeam_queue::ArrayQueue;
use prometheus::proto::MetricFamily;
use tracing_subscriber::fmt::MakeWriter;

use super::exposition;

/// The queue for the lines of a subscriber. Clones share it.
#[derive(Debug, Clone)]
pub struct LogWriter(Arc<Queue>);

/// The thread that writes. When this is dropped, what is in the queue is still written, within a
/// second.
#[derive(Debug)]
pub struct LogThread {
    queue: Arc<Queue>,
    /// Closed by the end of the thread.
    ended: mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// How many lines were dropped. Clones read the same count.
#[derive(Debug, Clone)]
pub struct DroppedLines(Arc<Queue>);

/// One event on its way into the queue.
#[derive(Debug)]
pub struct Line<'a>(&'a Queue);

#[derive(Debug)]
struct Queue {
    lines: ArrayQueue<Box<[u8]>>,
    bytes: AtomicUsize,
    dropped: AtomicU64,
    is_closed: AtomicBool,
    writer: OnceLock<Thread>,
}

/// Writes lines to `sink`, on a dedicated thread.
struct Writer<S> {
    queue: Arc<Queue>,
    sink: S,
    /// The last line was only partly written.
    is_torn: bool,
    /// The last line was written.
    works: bool,
    /// How many dropped lines have been reported, and when.
    reported: u64,
    reported_at: Option<Instant>,
}

/// A second of a flood of denials, and what a reader that pauses for that long finds later.
const MAX_LINES: usize = 16 * 1024;
const MAX_BYTES: usize = 8 << 20;

/// The shortest time between two reports of dropped lines.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// How long the end of the process waits for what is still to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait for a sink that another process has made non-blocking.
const RETRY: Duration = Duration::from_millis(10);

/// Starts the thread, which writes to standard error.
///
/// # Errors
/// When no thread or no file descriptor is available.
pub fn start() -> io::Result<(LogWriter, LogThread)> {
    start_with(stderr()?)
}

/// Writes `text` to standard error, within a second: for last words, when the log has ended
/// already.
pub fn write_stderr(text: String) {
    let (sender, written) = mpsc::channel::<()>();
    let write = move || {
        let _sender = sender;
        if let Ok(mut stderr) = stderr() {
            // There is nowhere left to report an error.
            let _ = stderr.write_all(text.as_bytes());
        }
    };
    if thread::Builder::new().name("last words".to_owned()).spawn(write).is_ok() {
        let _ = written.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// A separate descriptor: the lock of `std::io::stderr` would be held for as long as a write
/// blocks.
fn stderr() -> io::Result<File> {
    Ok(File::from(io::stderr().as_fd().try_clone_to_owned()?))
}

/// The counter of dropped lines.
pub(super) fn family(dropped: Option<&DroppedLines>) -> MetricFamily {
    let lines = dropped.map_or(0, DroppedLines::get);
    exposition::count(
        "portcullis_log_lines_dropped_total",
        "Log lines that were not written, because their reader is too slow or gone.",
        lines,
    )
}

fn start_with(sink: impl Write + Send + 'static) -> io::Result<(LogWriter, LogThread)> {
    let queue = Arc::new(Queue {
        lines: ArrayQueue::new(MAX_LINES),
        bytes: AtomicUsize::new(0),
        dropped: AtomicU64::new(0),
        is_closed: AtomicBool::new(false),
        writer: OnceLock::new(),
    });
    let (sender, ended) = mpsc::channel();
    let writer = Writer {
        queue: Arc::clone(&queue),
        sink,
        is_torn: false,
        works: false,
        reported: 0,
        reported_at: None,
    };
    let thread = thread::Builder::new().name("log writer".to_owned()).spawn(move || {
        let _sender: mpsc::Sender<()> = sender;
        writer.run();
    })?;
    // There is no line yet, so none misses it.
    let _ = queue.writer.set(thread.thread().clone());
    Ok((LogWriter(Arc::clone(&queue)), LogThread { queue, ended, thread: Some(thread) }))
}

// === impl Queue ===

impl Queue {
    fn push(&self, line: &[u8]) {
        let size = line.len();
        let before = self.bytes.fetch_add(size, Relaxed);
        if before.saturating_add(size) > MAX_BYTES || self.lines.push(line.into()).is_err() {
            self.bytes.fetch_sub(size, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        self.wake();
    }

    fn pop(&self) -> Option<Box<[u8]>> {
        let line = self.lines.pop()?;
        self.bytes.fetch_sub(line.len(), Relaxed);
        Some(line)
    }

    fn is_half_full(&self) -> bool {
        self.bytes.load(Relaxed) > MAX_BYTES / 2 || self.lines.len() > MAX_LINES / 2
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

// === impl Writer ===

impl<S: Write> Writer<S> {
    fn run(mut self) {
        loop {
            // Read before the queue: lines that were queued before the end are still written.
            let is_closed = self.queue.is_closed.load(SeqCst);
            if let Some(line) = self.queue.pop() {
                self.works = self.write(&line);
                if self.works {
                    self.tell_of_dropped();
                } else {
                    self.queue.dropped.fetch_add(1, Relaxed);
                }
            } else if is_closed {
                return;
            } else if let Some(rest) = self.tell_of_dropped() {
                thread::park_timeout(rest);
            } else {
                thread::park();
            }
        }
    }

    /// Whether the whole line was written.
    fn write(&mut self, line: &[u8]) -> bool {
        if self.is_torn && self.write_all(b"\n").is_err() {
            return false;
        }
        let written = self.write_all(line);
        self.is_torn = written.is_err_and(|bytes| bytes > 0);
        written.is_ok()
    }

    /// Writes everything, or returns how much was written.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.sink.write(&bytes[written..]) {
                Ok(0) => return Err(written),
                Ok(length) => written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => return Err(written),
            }
        }
        Ok(())
    }

    /// Once lines can be written again, reports how many were dropped. Returns when to retry, if
    /// there is something to report.
    fn tell_of_dropped(&mut self) -> Option<Duration> {
        let dropped = self.queue.dropped.load(Relaxed);
        // The report needs room in the queue.
        if dropped == self.reported || !self.works || self.queue.is_half_full() {
            return None;
        }
        let since = self.reported_at.map(|at| at.elapsed());
        if let Some(rest) = since.and_then(|since| TELL_EVERY.checked_sub(since)) {
            return Some(rest);
        }
        let lines = dropped - self.reported;
        tracing::warn!(lines, "log lines were dropped: their reader was too slow, or gone");
        (self.reported, self.reported_at) = (dropped, Some(Instant::now()));
        None
    }
}

// === impl LogWriter ===

impl LogWriter {
    /// Counts the lines that are dropped.
    #[must_use]
    pub fn dropped(&self) -> DroppedLines {
        DroppedLines(Arc::clone(&self.0))
    }
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    /// A subscriber writes each line as a whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl DroppedLines ===

impl DroppedLines {
    /// Lines since the start.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }
}

// === impl LogThread ===

impl Drop for LogThread {
    fn drop(&mut self) {
        self.queue.is_closed.store(true, SeqCst);
        self.queue.wake();
        // A write that hangs is left to the end of the process.
        let ended = self.ended.recv_timeout(FLUSH_TIMEOUT);
        if ended == Err(mpsc::RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            // A panic there has nothing to add.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
