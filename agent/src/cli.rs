//! The agent's command line. Every flag of `run` can come from the environment too.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cmd::check::CheckArgs;

/// One host's witness: says where packets to every pod land, as the kernel has it.
#[derive(Debug, Parser)]
#[command(name = "cidrift-agent", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log format.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "CIDRIFT_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Log filter: a level, or directives such as "info,cidrift_agent::report=debug". [default: info; warn for `check`]
    #[arg(long, global = true, env = "CIDRIFT_LOG_LEVEL")]
    pub log_level: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch this host and report to an aggregator.
    Run(RunArgs),
    /// Look once at this host, say what is wrong with it, and exit.
    Check(CheckArgs),
}

/// Arguments of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The aggregator, such as `http://cidrift-aggregator.cidrift:7440`.
    #[arg(long, value_name = "URL", env = "CIDRIFT_AGGREGATOR")]
    pub aggregator: String,
    /// Name of this host's Node.
    #[arg(long, value_name = "NAME", env = "CIDRIFT_NODE_NAME")]
    pub node_name: String,
    /// Where the host's `/` is mounted.
    #[arg(long, value_name = "DIR", default_value = "/", env = "CIDRIFT_HOST_ROOT")]
    pub host_root: PathBuf,
    /// The runtime's CNI configuration directory, as the host knows it. [default: as the runtime is configured]
    #[arg(long, value_name = "DIR", env = "CIDRIFT_CNI_DIR")]
    pub cni_dir: Option<PathBuf>,
    /// Address for /metrics, /livez and /readyz.
    #[arg(long, default_value = "0.0.0.0:7442", env = "CIDRIFT_HTTP_LISTEN")]
    pub http_listen: SocketAddr,
    /// The token that shows whose agent this is: a projected ServiceAccount token of the audience "cidrift", read anew for every
    /// connection. Without it none is shown.
    #[arg(long, value_name = "FILE", env = "CIDRIFT_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
