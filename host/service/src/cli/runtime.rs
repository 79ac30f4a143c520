//! Running a command in a runtime, and leaving it in time.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use tokio::runtime::Runtime;

/// How long threads may take to end what they do, once the command has ended.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Runs `work` in `runtime`. A thread that hangs then, in a file system for example, is left to the
/// end of the process.
pub(super) fn block_on<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
    runtime.shutdown_timeout(TIMEOUT);
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}
