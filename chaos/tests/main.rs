//! Tests of the chaos runs: their short form, and the checker against sabotaged feeds.

mod broken;
mod regressions;
mod short;

/// Each test has its own services. They run one at a time, because parallel tests would share the
/// processors, and make each other's revocations late.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
