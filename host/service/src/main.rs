//! The process: the allocator, the runtime and the exit code. Everything else is the library's.

use std::process::ExitCode;

use clap::Parser;
use portcullis::cli::Cli;

/// Requests allocate many small strings on several threads, which is what mimalloc is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}
