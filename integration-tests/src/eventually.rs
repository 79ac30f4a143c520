//! Polling until a condition holds.
//!
//! Tests never sleep for a fixed time: they poll until the condition holds or a timeout is over.

use std::{future::Future, time::Duration};

/// The timeout, for a busy machine. Long, because only failing tests wait for it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two polls.
const PAUSE: Duration = Duration::from_millis(10);

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

/// Measures up to three times until the time is at most `limit`: a busy machine may disturb one
/// measurement, but the promise holds for another.
///
/// # Panics
/// When each took longer, naming `what`.
pub async fn takes_at_most<F>(limit: Duration, what: &str, mut measure: impl FnMut() -> F)
where
    F: Future<Output = Duration>,
{
    let mut all = Vec::new();
    while all.len() < 3 {
        let took = measure().await;
        all.push(took);
        if took <= limit {
            return;
        }
    }
    panic!("{what} took longer than {limit:?} each time: {all:?}");
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
