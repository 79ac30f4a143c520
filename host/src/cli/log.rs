//! The log of a command that goes on running: its lines go to standard error, by a thread of their
//! own, so that they never mix with what a command prints and never hold anything up.

use super::CliError;
use crate::telemetry::{DroppedLines, LogThread, log, log_writer};

/// Installs it for the whole process, panics included. What is still to be written is written when
/// the thread is dropped.
pub(super) fn install(config: &log::Config) -> Result<(LogThread, DroppedLines), CliError> {
    let (writer, thread) = log_writer::start()?;
    let dropped = writer.dropped();
    let subscriber = log::subscriber(config, writer)?;
    tracing::subscriber::set_global_default(subscriber).map_err(std::io::Error::other)?;
    log::log_panics();
    Ok((thread, dropped))
}
