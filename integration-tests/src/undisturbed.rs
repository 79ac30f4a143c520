//! Repeating a scenario that was disturbed by a pause of a replica.
//!
//! A replica that did not run for a second does not trust its set until a probe has come back, and
//! a busy machine may cause that at any time. What a test expects of a live replica does not hold
//! meanwhile.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
    time::{Duration, Instant},
};

use futures_util::FutureExt;

use crate::portcullis::Portcullis;

/// What a replica logs after a pause.
const PAUSED: &str = "process was paused";
/// How often a scenario is attempted.
const ATTEMPTS: usize = 5;
/// How long a replica may take to log a pause.
const LOGGED_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks at the logs.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Runs a scenario, and again if it fails and one of the replicas was paused meanwhile. It begins
/// with what it needs, such as a live feed, because the attempt before may have ended anywhere.
///
/// # Panics
/// As the scenario does, unless a replica was paused, and in the last attempt.
pub async fn run<T, F>(replicas: &[&Portcullis], mut scenario: impl FnMut() -> F) -> T
where
    F: Future<Output = T>,
{
    let mut attempt = 1;
    loop {
        let before = pauses(replicas);
        match AssertUnwindSafe(scenario()).catch_unwind().await {
            Ok(result) => return result,
            Err(panic) => {
                if attempt == ATTEMPTS || !are_paused_since(replicas, before).await {
                    resume_unwind(panic);
                }
            }
        }
        eprintln!("a replica was paused in attempt {attempt}, which does not count");
        attempt += 1;
    }
}

/// Whether a log shows another pause than those `before`.
async fn are_paused_since(replicas: &[&Portcullis], before: usize) -> bool {
    let end = Instant::now() + LOGGED_WITHIN;
    while pauses(replicas) == before {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    true
}

/// How many pauses the logs show.
fn pauses(replicas: &[&Portcullis]) -> usize {
    replicas.iter().map(|replica| replica.log().matches(PAUSED).count()).sum()
}
