//! Owns the short form of the chaos runs, and the proof that the checker catches broken feeds.

mod broken;
mod short;

/// Each test has services of its own. One at a time: they would only take turns on the processors,
/// and look late to each other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
