//! Polling until a condition holds.
//!
//! Tests never sleep for a fixed time: they poll until the condition holds or a timeout is over.

use std::{future::Future, time::Duration};

/// The timeout, for a busy machine. Long, because only failing tests wait for it.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// Between two polls.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two attempts, so that a stall of the machine disturbs one of them.
const REST: Duration = Duration::from_secs(1);
/// How often a time is measured.
const MEASUREMENTS: usize = 10;

/// Polls until there is a value, and returns it.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn some<T, F>(what: &str, poll: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    some_within(PATIENCE, what, poll).await
}

/// Polls until the condition holds.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn holds<F>(what: &str, poll: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    holds_within(PATIENCE, what, poll).await;
}

/// Polls until the condition holds, with a timeout for what is slow.
///
/// # Panics
/// After `patience`, naming `what`.
pub async fn holds_within<F>(patience: Duration, what: &str, mut poll: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    some_within(patience, what, || {
        let polled = poll();
        async move { polled.await.then_some(()) }
    })
    .await;
}

/// Attempts something until it succeeds, and returns the result: a busy machine may disturb an
/// attempt, but a fault makes each of them fail.
///
/// # Panics
/// When so many `attempts` have failed, naming `what`, and why each did.
pub async fn succeeds<T, F>(attempts: usize, what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let mut failures = Vec::new();
    while failures.len() < attempts {
        if !failures.is_empty() {
            tokio::time::sleep(REST).await;
        }
        match attempt().await {
            Ok(result) => return result,
            Err(failure) => failures.push(failure),
        }
    }
    panic!("not in {attempts} attempts: {what}: {failures:?}");
}

/// Measures up to ten times until the time is at most `limit`: a busy machine may disturb a
/// measurement, but the promise holds for another.
///
/// # Panics
/// When each took longer, naming `what`.
pub async fn takes_at_most<F>(limit: Duration, what: &str, mut measure: impl FnMut() -> F)
where
    F: Future<Output = Duration>,
{
    let what = format!("{what} takes at most {limit:?}");
    succeeds(MEASUREMENTS, &what, || {
        let measured = measure();
        async move {
            let took = measured.await;
            (took <= limit).then_some(()).ok_or_else(|| format!("{took:?}"))
        }
    })
    .await;
}

async fn some_within<T, F>(patience: Duration, what: &str, mut poll: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let polling = async {
        loop {
            if let Some(found) = poll().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // A poll that never returns counts as failed, too.
    let polled = tokio::time::timeout(patience, polling).await;
    polled.unwrap_or_else(|_| panic!("not within {patience:?}: {what}"))
}
