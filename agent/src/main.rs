//! `cidrift-agent`.

use std::process::ExitCode;

use cidrift_agent::cmd::check::{self, CheckArgs};
use clap::{Parser, Subcommand};

/// One host's witness: what its kernel and its files do with pod traffic.
#[derive(Debug, Parser)]
#[command(name = "cidrift-agent", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at this host once and say what is wrong with it
    Check(CheckArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => check::run(args).await,
    }
}
