//! Owns waiting for something to become true.
//!
//! Tests never sleep for a fixed time: they look until they see it, or until it is too late.

use std::{future::Future, time::Duration};

/// How long anything may take on a busy machine. Long, because only failing tests wait for it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until there is something, and returns it.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn some<T, F>(what: &str, look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    some_within(PATIENCE, what, look).await
}

/// Looks until it is true.
///
/// # Panics
/// After [`PATIENCE`], naming `what`.
pub async fn holds<F>(what: &str, look: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    holds_within(PATIENCE, what, look).await;
}

/// Looks until it is true, with a patience of its own for what takes long.
///
/// # Panics
/// After `patience`, naming `what`.
pub async fn holds_within<F>(patience: Duration, what: &str, mut look: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    some_within(patience, what, || {
        let looked = look();
        async move { looked.await.then_some(()) }
    })
    .await;
}

/// Measures up to three times until it took at most `limit`: a busy machine may spoil one of them,
/// and what is promised holds for another.
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

async fn some_within<T, F>(patience: Duration, what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // A look that never ends is in vain too.
    let looked = tokio::time::timeout(patience, looking).await;
    looked.unwrap_or_else(|_| panic!("waited {patience:?} in vain: {what}"))
}
