//! `cidrift-aggregator`, from its arguments to its exit code.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::{app, logging};

/// What `main` does.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let run = || -> anyhow::Result<()> {
        logging::start(cli.log_format, &cli.log_level)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(app::run(cli))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // For people: the chain of causes on one line, without a backtrace.
            eprintln!("cidrift-aggregator: {error:#}");
            ExitCode::FAILURE
        }
    }
}
