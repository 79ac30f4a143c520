//! The command line: the commands of the binary, and its exit codes.

mod check_config;
mod demo;
mod dev;
mod eval;
mod inspect;
mod log;
mod relay;
mod revoke;
mod runtime;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use portcullis_runtime::telemetry;

use crate::{
    app::{self, RunError},
    config::{self, Config, ConfigError, Env},
};

/// External authorization for Envoy and Istio: tokens, revocation, hot-swappable WASI policies.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM. SIGHUP reloads the policies.
    Serve(Serve),
    /// Run everything on loopback with generated keys, and print what to try.
    Dev(dev::Dev),
    /// Check a configuration, its keys and its policies, without serving.
    CheckConfig(check_config::CheckConfig),
    /// Revoke tokens, or end their revocation, for all replicas.
    Revoke(revoke::Revoke),
    /// Move revocations from the outbox in Redis to RabbitMQ until SIGTERM. Of several, one works.
    Relay(relay::Relay),
    /// The configuration format.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at policy components and try them out.
    #[command(subcommand)]
    Policy(PolicyCommand),
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    /// Write the addresses to this file as JSON, once they are open.
    #[arg(long, value_name = "FILE")]
    announce: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file. Its keys can be overridden by environment variables, for example
    /// `shutdown.grace` by `PORTCULLIS__SHUTDOWN__GRACE`.
    #[arg(long, value_name = "FILE", default_value = "portcullis.yaml")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of the configuration file, for editors.
    Schema,
    /// Print the reference of the configuration file as Markdown.
    Reference,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Print what a component imports and exports, and whether it can serve as a policy.
    Inspect(inspect::Inspect),
    /// Ask a component for its decision on one request.
    Eval(eval::Eval),
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The service could not start or end well.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] telemetry::log::BuildError),
    /// The sandbox could not be set up.
    #[error(transparent)]
    Dev(#[from] dev::DevError),
    /// The component cannot be inspected, or is no policy.
    #[error(transparent)]
    Inspect(#[from] inspect::InspectCommandError),
    /// The component cannot be asked.
    #[error(transparent)]
    Eval(#[from] eval::EvalError),
    /// Keys cannot be fetched.
    #[error(transparent)]
    CheckConfig(#[from] check_config::NotFetchedError),
    /// Something could not be revoked.
    #[error(transparent)]
    Revoke(#[from] revoke::RevokeCommandError),
    /// The runtime cannot be started, or the output cannot be written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

// === impl Cli ===

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// As the command fails; the message names the place and the fix.
    pub fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Serve(serve) => serve.run(),
            Command::Dev(dev) => dev.run(),
            Command::CheckConfig(check) => check.run(),
            Command::Revoke(revoke) => revoke.run(),
            Command::Relay(relay) => relay.run(),
            Command::Config(ConfigCommand::Schema) => print(&format!("{:#}\n", config::schema())),
            Command::Config(ConfigCommand::Reference) => print(&config::reference()),
            Command::Policy(PolicyCommand::Inspect(inspect)) => inspect.run(),
            Command::Policy(PolicyCommand::Eval(eval)) => eval.run(),
        }
    }
}

impl Serve {
    fn run(self) -> Result<(), CliError> {
        let config = self.config.read()?;
        serve(&config, self.announce.as_deref(), |_| {})
    }
}

impl ConfigFile {
    fn read(&self) -> Result<Config, ConfigError> {
        config::read(&self.config, &Env::from_process())
    }
}

impl CliError {
    /// Writes the error to standard error, if that takes less than a second.
    pub fn print(&self) {
        telemetry::log_writer::write_stderr(format!("portcullis: {self}\n"));
    }

    /// 2 where the operator's input is wrong before anything runs, 3 where a revocation is stored but
    /// not confirmed, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Log(_) => ExitCode::from(2),
            Self::Revoke(error) => ExitCode::from(error.exit_code()),
            _ => ExitCode::FAILURE,
        }
    }
}

/// Runs the service in its own runtime.
fn serve(
    config: &Config,
    announce: Option<&Path>,
    ready: impl FnOnce(&app::Announcement),
) -> Result<(), CliError> {
    let (_log, dropped_lines) = log::install(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime::block_on(runtime, app::run(config, dropped_lines, announce, ready))?)
}

/// Prints to standard output; a reader that went away is an error, not a panic.
fn print(text: &str) -> Result<(), CliError> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
