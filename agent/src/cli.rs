//! The agent's command line. Every flag of `run` can come from the environment too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::cmd::check::CheckArgs;
use crate::report::address::Address;
use crate::report::way::Ways;

/// One host's witness: says where packets to every pod land, as the kernel has it.
#[derive(Debug, Parser)]
#[command(name = "cidrift-agent", version = cidrift_proto::version())]
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
    /// Where the aggregator is.
    #[command(flatten)]
    pub way: WayArgs,
    /// Name of this host's Node.
    #[arg(long, value_name = "NAME", env = "CIDRIFT_NODE_NAME")]
    pub node_name: String,
    /// Where the host's `/` is mounted.
    #[arg(long, value_name = "DIR", default_value = "/", env = "CIDRIFT_HOST_ROOT")]
    pub host_root: PathBuf,
    /// The runtime's CNI configuration directory, as the host knows it. [default: as the runtime is configured]
    #[arg(long, value_name = "DIR", env = "CIDRIFT_CNI_DIR")]
    pub cni_dir: Option<PathBuf>,
    /// Address for /metrics, /livez and /readyz; `[::]` is both families.
    #[arg(long, default_value = "[::]:7442", env = "CIDRIFT_HTTP_LISTEN")]
    pub http_listen: SocketAddr,
}

/// Where the aggregator is, whom to believe there, and what to show. Addresses are tried in turn: those in the trust
/// directory, then `--aggregator`, then the Service `cidrift-aggregator` of the pod's namespace.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Aggregator")]
pub struct WayArgs {
    /// Where it is, such as `https://10.0.0.1:7440`, comma-separated; http:// is for an aggregator with --plaintext.
    #[arg(long, value_name = "URL", value_delimiter = ',', env = "CIDRIFT_AGGREGATOR")]
    pub aggregator: Vec<Address>,
    /// The mounted ConfigMap cidrift-trust: `ca.crt` and `addresses`.
    #[arg(long, value_name = "DIR", env = "CIDRIFT_TRUST_DIR")]
    pub trust_dir: Option<PathBuf>,
    /// CAs to believe (PEM). [default: ca.crt of the trust directory]
    #[arg(long, value_name = "FILE", env = "CIDRIFT_CA")]
    pub ca: Option<PathBuf>,
    /// The token that shows whose agent this is: a projected ServiceAccount token of the audience "cidrift", read anew for every
    /// connection. Without it none is shown.
    #[arg(long, value_name = "FILE", env = "CIDRIFT_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Client certificate to show (PEM), such as the kubelet's.
    #[arg(long, value_name = "FILE", requires = "client_key", env = "CIDRIFT_CLIENT_CERT")]
    pub client_cert: Option<PathBuf>,
    /// Its key (PEM); it may be the same file.
    #[arg(long, value_name = "FILE", requires = "client_cert", env = "CIDRIFT_CLIENT_KEY")]
    pub client_key: Option<PathBuf>,
    /// The Service's address, as the kubelet tells every pod of the namespace.
    #[arg(long, hide = true, env = "CIDRIFT_AGGREGATOR_SERVICE_HOST")]
    pub service_host: Option<String>,
    /// Its port of the name grpc.
    #[arg(long, hide = true, env = "CIDRIFT_AGGREGATOR_SERVICE_PORT_GRPC")]
    pub service_port_grpc: Option<u16>,
    /// Its first port.
    #[arg(long, hide = true, env = "CIDRIFT_AGGREGATOR_SERVICE_PORT")]
    pub service_port: Option<u16>,
}

impl WayArgs {
    /// The ways that these name. The error: there is none.
    pub fn ways(self) -> Result<Ways, String> {
        let port = self.service_port_grpc.or(self.service_port);
        // A Service without an address of its own has "None" there.
        let host = self.service_host.and_then(|host| host.parse::<IpAddr>().ok());
        let ways = Ways {
            trust_dir: self.trust_dir,
            aggregators: self.aggregator,
            service: host.zip(port).map(|(host, port)| SocketAddr::new(host, port)),
            ca: self.ca,
            token_file: self.token_file,
            client: self.client_cert.zip(self.client_key),
        };
        if ways.aggregators.is_empty() && ways.trust_dir.is_none() && ways.service.is_none() {
            return Err("where is the aggregator? Give --aggregator URL or --trust-dir DIR".to_owned());
        }
        Ok(ways)
    }
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

    fn ways(flags: &[&str]) -> Result<Ways, String> {
        let words = ["cidrift-agent", "run", "--node-name", "n1"].iter().chain(flags);
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Run(args) => args.way.ways(),
            Command::Check(_) => unreachable!("`run` was said"),
        }
    }

    #[test]
    fn somebody_to_report_to_is_needed_and_the_services_port_of_grpc_is_preferred() {
        assert!(ways(&[]).unwrap_err().contains("--trust-dir"));
        assert!(ways(&["--service-host", "None", "--service-port", "1"]).is_err());
        let service = ways(&[
            "--service-host",
            "fd00::9",
            "--service-port",
            "7441",
            "--service-port-grpc",
            "7440",
        ]);
        assert_eq!(service.unwrap().service, Some("[fd00::9]:7440".parse().unwrap()));
        let two = ways(&["--aggregator", "https://10.0.0.1,http://127.0.0.1:1"]).unwrap();
        assert_eq!(two.aggregators.len(), 2);
        assert!(
            ways(&["--aggregator", "10.0.0.1:7440"])
                .unwrap_err()
                .contains("no scheme")
        );
        assert!(ways(&["--trust-dir", "/t", "--client-cert", "/c"]).is_err());
    }
}
