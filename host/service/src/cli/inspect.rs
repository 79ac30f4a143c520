//! The command `portcullis policy inspect`.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, print};
use crate::policy::{self, HostConfig};

#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The component, a `.wasm` file.
    component: PathBuf,
}

/// The component is of no use.
#[derive(Debug, thiserror::Error)]
pub enum InspectCommandError {
    /// It is no component.
    #[error(transparent)]
    Unreadable(#[from] policy::InspectError),
    /// It is a component but not a policy.
    #[error("{}: not a policy: {refusal}", .component.display())]
    NotAPolicy {
        /// The file.
        component: PathBuf,
        /// Why.
        refusal: String,
    },
}

impl Inspect {
    pub(super) fn run(self) -> Result<(), CliError> {
        let inspection = policy::inspect(&HostConfig::default(), &self.component)
            .map_err(InspectCommandError::from)?;
        let list = |names: &[String]| match names {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        print(&format!(
            "digest:  {}\nexports: {}\nimports: {}\n",
            inspection.digest,
            list(&inspection.exports),
            list(&inspection.imports),
        ))?;
        match inspection.refusal {
            None => Ok(()),
            Some(refusal) => {
                Err(InspectCommandError::NotAPolicy { component: self.component, refusal }.into())
            }
        }
    }
}
