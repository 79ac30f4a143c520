//! Log of a command that keeps running: its own thread writes the lines to standard error, so they
//! never mix with what a command prints and never block anything.

use portcullis_runtime::telemetry::{DroppedLines, LogThread, log, log_writer};

use super::CliError;

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
