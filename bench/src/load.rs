//! Load generator: distributes calls over connections and time, and counts the answers.
//!
//! *Closed loop*: a fixed number of streams, each of which sends the next call as soon as it has
//! its answer; this measures the throughput. *Open loop*: calls begin at a fixed rate,
//! independently of the server, and their latency counts from the time at which they were due, so
//! that a stalled server cannot hide the calls that it delayed ("coordinated omission").
//!
//! Each connection has its own thread and runtime, so that no call crosses threads. Every answer is
//! read, and a failed call ends the benchmark: the speed of errors is not measured.

mod background;
mod closed;
mod open;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

pub(crate) use self::{
    background::Background,
    closed::{Closed, closed_loop},
    open::{Open, open_loop},
};
use crate::{
    exchange::{CallError, Caller, ConnectError},
    proc::ReadError,
    request::{AnswerError, Check, Expected},
};

/// The HTTP and gRPC status of every answer is checked; one in this many is also decoded.
const DECODE_EVERY: usize = 16;

/// How long answers may take beyond the time of the measurement before the server counts as stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// The server and the calls to make.
#[derive(Clone)]
pub(crate) struct Target {
    /// The address of the server.
    pub(crate) address: SocketAddr,
    /// The server's process.
    pub(crate) pid: u32,
    /// The calls to take in turn.
    pub(crate) checks: Arc<[Check]>,
    /// The expected answer.
    pub(crate) expected: Expected,
    /// Number of connections.
    pub(crate) connections: usize,
    /// Number of concurrent streams on each connection, in the closed loop.
    pub(crate) streams: usize,
}

/// A measurement failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("a call failed: {0}")]
    Call(#[from] CallError),
    #[error("a call got a wrong answer: {0}")]
    Answer(#[from] AnswerError),
    #[error("no answer for {} seconds; the server is stuck", PATIENCE.as_secs())]
    Stuck,
    #[error("cannot start a thread or runtime for a connection: {0}")]
    Thread(#[from] io::Error),
    #[error("a thread of the load generator panicked")]
    Panicked,
    #[error("cannot set up a histogram: {0}")]
    Histogram(#[from] hdrhistogram::errors::CreationError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

// === impl Target ===

impl Target {
    /// Makes one call on a separate connection and verifies the answer.
    pub(crate) fn ask(&self, check: &Check, expected: Expected) -> Result<(), LoadError> {
        let answer = run_local(PATIENCE, async {
            Ok(Caller::connect(self.address).await?.call(check.frame.clone()).await?)
        })?;
        Ok(check.verify(expected, &answer)?)
    }

    /// Makes each of these calls once, one after the other, and verifies every answer.
    pub(crate) fn ask_each(&self, checks: impl Iterator<Item = Check>) -> Result<(), LoadError> {
        const LIMIT: Duration = Duration::from_mins(10);
        run_local(LIMIT, async {
            let mut caller = Caller::connect(self.address).await?;
            for check in checks {
                let answer = caller.call(check.frame.clone()).await?;
                check.verify(self.expected, &answer)?;
            }
            Ok(())
        })
    }

    /// The `n`-th call. Wraps around.
    fn check(&self, n: usize) -> Option<&Check> {
        self.checks.get(n % self.checks.len().max(1))
    }

    /// Makes the `n`-th call and verifies the answer.
    async fn call(&self, caller: &mut Caller, n: usize) -> Result<(), LoadError> {
        // There is always a call: the benchmark has a fixed number of them.
        let Some(check) = self.check(n) else { return Ok(()) };
        let answer = caller.call(check.frame.clone()).await?;
        if n.is_multiple_of(DECODE_EVERY) {
            check.verify(self.expected, &answer)?;
        }
        Ok(())
    }
}

/// Runs `work` and the tasks that it spawns on this thread.
pub(crate) fn run_local<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, LoadError>>,
) -> Result<T, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limited =
        async { tokio::time::timeout(limit, work).await.unwrap_or(Err(LoadError::Stuck)) };
    tokio::task::LocalSet::new().block_on(&runtime, limited)
}

/// Starts a named thread.
fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<JoinHandle<Result<T, LoadError>>, LoadError> {
    Ok(thread::Builder::new().name(name.to_owned()).spawn(work)?)
}

/// Waits for a thread and returns its result.
fn join<T>(thread: JoinHandle<Result<T, LoadError>>) -> Result<T, LoadError> {
    thread.join().unwrap_or(Err(LoadError::Panicked))
}
