//! The command `check-config`: reads everything that a configuration names, and serves nothing.

use clap::Args;
use portcullis_runtime::telemetry;

use super::{CliError, ConfigFile, print, runtime};
use crate::{
    app::{self, RunError},
    config::Config,
    token,
};

/// Check a configuration, its keys and its policies, without serving.
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    file: ConfigFile,
    /// Also fetch the keys of issuers once (`jwks_url`, `discovery`).
    #[arg(long)]
    online: bool,
}

/// Some keys cannot be fetched. They were printed.
#[derive(Debug, thiserror::Error)]
#[error("{0} of {1} key sets cannot be fetched; see the lines before this one")]
pub struct NotFetchedError(usize, usize);

// === impl CheckConfig ===

impl CheckConfig {
    pub(super) fn run(self) -> Result<(), CliError> {
        let config = self.file.read()?;
        let file = self.file.config.display();
        telemetry::log::check(&config.log)?;
        app::check(&config)?;
        for warning in app::warnings(&config) {
            print(&format!("{file}: warning: {warning}\n"))?;
        }
        if self.online {
            fetch(&config)?;
        }
        print(&format!("{file}: ok\n"))
    }
}

/// Fetches the keys of all issuers, and prints how many there are.
fn fetch(config: &Config) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let fetching = token::fetch_once(&config.issuers, &config.tokens);
    let fetched = runtime::block_on(runtime, fetching).map_err(RunError::Token)?;
    let mut failed = 0;
    for (origin, keys) in &fetched {
        match keys {
            Ok(1) => print(&format!("{origin}: 1 key\n"))?,
            Ok(count) => print(&format!("{origin}: {count} keys\n"))?,
            Err(error) => {
                failed += 1;
                print(&format!("{error}\n"))?;
            }
        }
    }
    if failed > 0 {
        return Err(NotFetchedError(failed, fetched.len()).into());
    }
    Ok(())
}
