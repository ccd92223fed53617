//! The aggregator's command line. Every flag can come from the environment too.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;

use crate::cluster::PoolConfig;
use crate::engine;
use crate::identity::ServiceAccount;
use crate::ingest::Limits;

/// Joins what the agents see with what the control plane says, and answers operators.
#[derive(Debug, Clone, Parser)]
#[command(name = "cidrift-aggregator", version = cidrift_proto::version())]
pub struct Cli {
    /// Address for agents and operators (gRPC over TLS 1.3); `[::]` is both families.
    #[arg(long, default_value = "[::]:7440", env = "CIDRIFT_LISTEN")]
    pub listen: SocketAddr,
    /// Address for /metrics, /livez and /readyz.
    #[arg(long, default_value = "[::]:7441", env = "CIDRIFT_HTTP_LISTEN")]
    pub http_listen: SocketAddr,
    /// Where the control plane's state comes from.
    #[command(flatten)]
    pub source: Source,
    /// How others know that it is the aggregator.
    #[command(flatten)]
    pub trust: Trust,
    /// What is known of the pool.
    #[command(flatten)]
    pub pool: Pool,
    /// Who may report and ask.
    #[command(flatten)]
    pub who: Who,
    /// How patient it is.
    #[command(flatten)]
    pub patience: Patience,
    /// Bounds on reports.
    #[command(flatten)]
    pub limits: Limits,
    /// Log format.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "CIDRIFT_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Log filter: a level, or directives such as "info,cidrift_aggregator::ingest=debug".
    #[arg(long, default_value = "info", env = "CIDRIFT_LOG_LEVEL")]
    pub log_level: String,
}

/// Where the control plane's state comes from. Neither flag: the cluster that this runs in.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Control plane")]
pub struct Source {
    /// A file as `kubectl get nodes -o yaml` prints it, watched for changes.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "kubeconfig",
        env = "CIDRIFT_CLUSTER_STATE"
    )]
    pub cluster_state: Option<PathBuf>,
    /// A kubeconfig for the Kubernetes API.
    #[arg(long, value_name = "FILE", env = "CIDRIFT_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
}

/// How others know that it is the aggregator. Neither a directory nor files: a CA of its own, kept in a Secret.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct Trust {
    /// Secret that keeps the CA; it is made where it is missing.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "cidrift-aggregator-ca",
        env = "CIDRIFT_TLS_SECRET"
    )]
    pub tls_secret: String,
    /// ConfigMap that tells agents and operators which CAs to believe and where to report.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "cidrift-trust",
        env = "CIDRIFT_TRUST_CONFIGMAP"
    )]
    pub trust_configmap: String,
    /// Namespace of both. [default: the one that this runs in]
    #[arg(long, value_name = "NAME", env = "CIDRIFT_NAMESPACE")]
    pub namespace: Option<String>,
    /// ADDRESS or ADDRESS:PORT at which agents reach this aggregator directly, comma-separated; told in the ConfigMap.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = advertised, env = "CIDRIFT_ADVERTISE")]
    pub advertise: Vec<Advertised>,
    /// Keep the CA in this directory instead; its ca.crt is what agents are given.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["tls_cert", "plaintext"], env = "CIDRIFT_TLS_DIRECTORY")]
    pub tls_directory: Option<PathBuf>,
    /// Serve with this certificate (PEM), read again as it changes; it must be for the DNS name cidrift-aggregator.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        conflicts_with = "plaintext",
        env = "CIDRIFT_TLS_CERT"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "CIDRIFT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// The CA that signed it (PEM), to be told in the ConfigMap.
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "CIDRIFT_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// No TLS: for a loopback --listen, or with --cluster-state.
    #[arg(long, env = "CIDRIFT_PLAINTEXT")]
    pub plaintext: bool,
    /// CAs that sign client certificates (PEM). [default: those that the API server publishes]
    #[arg(long, value_name = "FILE", conflicts_with = "plaintext", env = "CIDRIFT_CLIENT_CA")]
    pub client_ca: Option<PathBuf>,
    /// Make the next CA this long after the last. [default: at 2/3 of the last one's year]
    #[arg(long, value_name = "DURATION", value_parser = duration, env = "CIDRIFT_ROTATE_CA_AFTER")]
    pub rotate_ca_after: Option<Duration>,
    /// A new CA is told this long before it signs: agents and operators must have read it by then.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = duration, env = "CIDRIFT_CA_LEAD")]
    pub ca_lead: Duration,
}

/// Where agents reach the aggregator: an address, and a port where it is not that of `--listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: Option<u16>,
}

impl Advertised {
    /// With the port to dial.
    pub fn socket(self, listen: u16) -> SocketAddr {
        SocketAddr::new(self.address, self.port.unwrap_or(listen))
    }
}

/// "10.0.0.1", "10.0.0.1:7440", "fd00::1", "[fd00::1]:7440".
fn advertised(text: &str) -> Result<Advertised, String> {
    let (address, port) = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(address), _) => (address, None),
        (_, Ok(socket)) => (socket.ip(), Some(socket.port())),
        _ => {
            return Err(format!(
                "{text:?} is neither an address nor ADDRESS:PORT; names are not resolved"
            ));
        }
    };
    if address.is_unspecified() {
        return Err(format!("{address} is no address that an agent could dial"));
    }
    Ok(Advertised { address, port })
}

/// What is known of the pool, as kube-controller-manager's flags of the same names say it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Pool")]
pub struct Pool {
    /// Ranges that pod CIDRs come from, comma-separated.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = prefix, env = "CIDRIFT_CLUSTER_CIDR")]
    pub cluster_cidr: Vec<IpNet>,
    /// Ranges of Service addresses, comma-separated.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = prefix, env = "CIDRIFT_SERVICE_CIDR")]
    pub service_cidr: Vec<IpNet>,
    /// Prefix length of an IPv4 node CIDR.
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(1..=32), env = "CIDRIFT_NODE_CIDR_MASK_SIZE_IPV4")]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Prefix length of an IPv6 node CIDR.
    #[arg(long, value_name = "LENGTH", value_parser = clap::value_parser!(u8).range(1..=128), env = "CIDRIFT_NODE_CIDR_MASK_SIZE_IPV6")]
    pub node_cidr_mask_size_ipv6: Option<u8>,
}

/// Who may report and ask.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Identity")]
pub struct Who {
    /// How agents and operators are identified. [default: tokens; none with --cluster-state or --plaintext]
    #[arg(long, value_enum, value_name = "HOW", env = "CIDRIFT_IDENTITY")]
    pub identity: Option<IdentityMode>,
    /// The ServiceAccount that agents run as. [default: cidrift-agent of this namespace]
    #[arg(long, value_name = "NAMESPACE/NAME", env = "CIDRIFT_AGENT_SERVICE_ACCOUNT")]
    pub agent_service_account: Option<ServiceAccount>,
}

/// How agents and operators are identified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IdentityMode {
    /// By tokens and certificates that the Kubernetes API vouches for.
    Tokens,
    /// Not at all: everybody is believed.
    None,
}

/// Where a pod finds its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How long things may last before they count.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Patience")]
pub struct Patience {
    /// A fault that began on a host counts after this. CNIs replace routes in
    /// two steps some ms apart; a second is long for that and short for people.
    #[arg(long, default_value = "1s", value_parser = duration, env = "CIDRIFT_HOLD")]
    pub hold: Duration,
    /// A fault that began with a change of the control plane counts after
    /// this: hosts need time to follow, most of them 10 s or less. However
    /// short it is, no node is called silent before every agent could be back
    /// after an outage of the aggregator (20 s).
    #[arg(long, default_value = "30s", value_parser = duration, env = "CIDRIFT_SETTLE")]
    pub settle: Duration,
    /// An agent not heard of for this long is silent: three heartbeats.
    #[arg(long, default_value = "15s", value_parser = duration, env = "CIDRIFT_SILENCE")]
    pub silence: Duration,
}

/// Log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Cli {
    /// The engine's part of it.
    pub fn engine(&self) -> engine::Config {
        engine::Config {
            hold: self.patience.hold,
            settle: self.patience.settle,
            silence: self.patience.silence,
            pool: PoolConfig {
                ranges: self.pool.cluster_cidr.clone(),
                mask_v4: self.pool.node_cidr_mask_size_ipv4,
                mask_v6: self.pool.node_cidr_mask_size_ipv6,
                service_ranges: self.pool.service_cidr.clone(),
                witness: "flags of cidrift-aggregator".to_owned(),
            },
        }
    }

    /// How agents and operators are identified.
    pub fn identity(&self) -> IdentityMode {
        let nobody = self.source.cluster_state.is_some() || self.trust.plaintext;
        self.who.identity.unwrap_or(match nobody {
            true => IdentityMode::None,
            false => IdentityMode::Tokens,
        })
    }

    /// The namespace that this runs in.
    pub fn namespace(&self) -> String {
        let given = self.trust.namespace.clone();
        let mounted = || {
            std::fs::read_to_string(NAMESPACE_FILE)
                .ok()
                .map(|text| text.trim().to_owned())
        };
        let named = given.or_else(mounted).filter(|name| !name.is_empty());
        named.unwrap_or_else(|| "cidrift".to_owned())
    }

    /// The ServiceAccount that agents run as.
    pub fn agent_service_account(&self) -> ServiceAccount {
        self.who
            .agent_service_account
            .clone()
            .unwrap_or_else(|| ServiceAccount {
                namespace: self.namespace(),
                name: "cidrift-agent".to_owned(),
            })
    }

    /// Ingest's part of it.
    pub fn limits(&self) -> Limits {
        Limits {
            heartbeat: self.patience.silence / 3,
            ..self.limits
        }
    }
}

/// "1s", "500ms", "2m".
pub fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text.parse().map_err(|error| format!("{error}; \"30s\" is one"))?;
    Duration::try_from(signed).map_err(|_| "a duration cannot be negative".to_owned())
}

/// A prefix without host bits: "10.244.1.0/16" is a slip of the pen, and it is not clear which.
fn prefix(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("{text:?} is not a prefix; \"10.244.0.0/16\" is one"))?;
    if net.addr() == net.network() {
        Ok(net)
    } else {
        Err(format!("{net} has host bits set; {} is meant?", net.trunc()))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn heartbeats_are_asked_for_three_times_in_a_silence() {
        let cli = Cli::parse_from(["cidrift-aggregator", "--silence", "6s"]);
        assert_eq!(cli.limits().heartbeat, Duration::from_secs(2));
    }

    #[test]
    fn everybody_is_identified_unless_there_is_no_api_to_ask() {
        let parse = |flags: &[&str]| Cli::parse_from(["cidrift-aggregator"].iter().chain(flags));
        assert_eq!(parse(&[]).identity(), IdentityMode::Tokens);
        assert_eq!(parse(&["--kubeconfig", "k"]).identity(), IdentityMode::Tokens);
        assert_eq!(parse(&["--cluster-state", "s"]).identity(), IdentityMode::None);
        assert_eq!(parse(&["--plaintext"]).identity(), IdentityMode::None);
        assert_eq!(parse(&["--identity", "none"]).identity(), IdentityMode::None);
        let cli = parse(&["--namespace", "ops"]);
        assert_eq!(cli.agent_service_account().to_string(), "ops/cidrift-agent");
        let cli = parse(&["--namespace", "ops", "--agent-service-account", "a/b"]);
        assert_eq!(cli.agent_service_account().username(), "system:serviceaccount:a:b");
    }

    #[test]
    fn both_families_come_in_one_flag() {
        let cli = Cli::parse_from(["cidrift-aggregator", "--cluster-cidr", "10.244.0.0/16,fd00:244::/48"]);
        assert_eq!(cli.engine().pool.ranges.len(), 2);
    }

    #[test]
    fn an_advertised_address_may_have_a_port_of_its_own() {
        let cli = Cli::parse_from(["cidrift-aggregator", "--advertise", "10.0.0.1,[fd00::1]:9,fd00::2"]);
        let shown: Vec<String> = cli
            .trust
            .advertise
            .iter()
            .map(|one| one.socket(7440).to_string())
            .collect();
        assert_eq!(shown, ["10.0.0.1:7440", "[fd00::1]:9", "[fd00::2]:7440"]);
    }

    #[test]
    fn there_is_one_way_to_a_certificate() {
        for wrong in [
            &["--plaintext", "--tls-directory", "/d"][..],
            &["--tls-cert", "/c"],
            &["--tls-ca", "/c"],
            &["--tls-cert", "/c", "--tls-key", "/k", "--tls-directory", "/d"],
        ] {
            let words = ["cidrift-aggregator"].iter().chain(wrong);
            assert!(Cli::try_parse_from(words).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for (flag, value) in [
            ("--cluster-cidr", "10.244.1.0/16"),
            ("--hold", "-1s"),
            ("--settle", "soon"),
            ("--node-cidr-mask-size-ipv4", "33"),
            ("--max-messages-per-second", "0"),
            ("--advertise", "worker-1"),
            ("--advertise", "0.0.0.0"),
            ("--agent-service-account", "cidrift-agent"),
            ("--identity", "certificates"),
        ] {
            let error = Cli::try_parse_from(["cidrift-aggregator", &format!("{flag}={value}")]).unwrap_err();
            assert!(error.to_string().contains(value), "{error}");
        }
    }
}
