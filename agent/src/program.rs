//! `cidrift-agent`, from its arguments to its exit code.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::{app, cmd, logging};

/// What `main` does.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = match cli.command {
        Command::Run(_) => "info",
        Command::Check(_) => "warn",
    };
    let run = || -> anyhow::Result<ExitCode> {
        logging::start(cli.log_format, cli.log_level.as_deref().unwrap_or(level))?;
        // One thread: the agent is a guest on its host.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match cli.command {
                Command::Run(args) => app::run(args).await.map(|()| ExitCode::SUCCESS),
                Command::Check(args) => Ok(cmd::check::run(args).await),
            }
        })
    };
    run().unwrap_or_else(|error| {
        // For people: the chain of causes on one line, without a backtrace.
        eprintln!("cidrift-agent: {error:#}");
        // 2, as `check` means it: could not look.
        ExitCode::from(2)
    })
}
