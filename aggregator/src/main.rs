//! `cidrift-aggregator`.

use cidrift_aggregator::{app, cli::Cli, logging};
use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    logging::start(cli.log_format, &cli.log_level)?;
    app::run(cli).await
}
