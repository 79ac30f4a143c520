//! The command `portcullis relay`.

use clap::Args;

use super::{CliError, ConfigFile, log, runtime};
use crate::app;

#[derive(Debug, Args)]
pub(super) struct Relay {
    #[command(flatten)]
    config: ConfigFile,
}

impl Relay {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.config.read()?;
        let (_log, dropped_lines) = log::install(&config.log)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime::block_on(runtime, app::run_relay(&config, dropped_lines))?)
    }
}
