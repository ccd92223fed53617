//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use jiff::SignedDuration;

use crate::fix::run::{Window, template};

/// Of [`Args::namespace`].
pub(super) const NAMESPACE: &str = "cidrift";

/// Of [`Args::timeout`]. A live aggregator answers within milliseconds; ten seconds leave room for a slow port-forward.
pub(super) const TIMEOUT: &str = "10s";

/// Shown at the end of `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  answered; for status, node, findings, path: nothing of what is judged is wrong, and all of it was seen
  1  findings are open (status, node, findings), or packets do not arrive (path)
  2  the aggregator could not be asked, or the command line is wrong
  3  neither: not all could be seen, or something is pending (status, node, findings, path)
nodes, pool, plan, migrate, explain and version judge nothing: 0 when answered, 2 when not.
fix ends with 0 when all is mended or was only shown, with 1 when no node may be begun, one was left out or failed, or it stopped,
with 2 when it did not begin.
findings --watch ends with 0 when it is interrupted, with 2 when the aggregator goes away.
Findings that are pending, and those of severity info, do not make 1.";

/// Shown at the end of `plan --help`.
const PLAN_CODES: &str = "\
Exit codes:
  0  it is planned, whatever the plan says
  2  the aggregator or the API server could not be asked, or the command line is wrong";

/// Shown at the end of `fix --help`.
const FIX_CODES: &str = "\
Exit codes:
  0  all is mended, nothing is to do, or what it would do was only shown
  1  no node may be begun, one was left out or failed, or it stopped
  2  it did not begin: who is to be asked does not answer or refuses, the saved plan is not what would be planned now, another
     fix is under way, or the command line is wrong";

/// Options that say whom to ask.
const CONNECTION: &str = "Connection";

/// Where pod packets land, and what is wrong with it.
#[derive(Debug, Parser)]
#[command(name = "kubectl-cidrift", bin_name = "kubectl cidrift", version = cidrift_proto::version(), after_help = EXIT_CODES)]
pub(super) struct Args {
    /// The aggregator's address, such as https://10.0.0.1:7440; http:// is for one with --plaintext. [default: through
    /// the Kubernetes API, to a pod of the aggregator]
    #[arg(long, global = true, help_heading = CONNECTION, env = "CIDRIFT_SERVER", value_name = "URL")]
    pub(super) server: Option<String>,
    /// CAs to believe (PEM). [default: those of ConfigMap cidrift-trust]
    #[arg(long, global = true, help_heading = CONNECTION, env = "CIDRIFT_CA", value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Holds the token to show to a --server.
    #[arg(long, global = true, help_heading = CONNECTION, env = "CIDRIFT_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// The kubeconfig: cluster and user. [default: KUBECONFIG, ~/.kube/config]
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use.
    #[arg(long, global = true, help_heading = CONNECTION, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Namespace that cidrift is installed in.
    #[arg(short, long, global = true, help_heading = CONNECTION, default_value = NAMESPACE, value_name = "NAME")]
    pub(super) namespace: String,
    /// How long one question may take: "500ms", "10s", or seconds.
    #[arg(long, global = true, help_heading = CONNECTION, default_value = TIMEOUT, value_parser = duration, value_name = "TIME")]
    pub(super) timeout: Duration,
    /// How to print.
    #[arg(short, long, global = true, default_value = "table", value_name = "FORMAT")]
    pub(super) output: Format,
    /// What to ask.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people, as wide as the terminal, and 120 columns at most.
    Table,
    /// For people, everything.
    Wide,
    /// One JSON document (watching: one a line).
    Json,
    /// One YAML document (watching: one a change).
    Yaml,
}

impl Format {
    pub(super) fn is_machine(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }
}

/// What to ask.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The cluster in a few figures, every way between few nodes, and what is wrong.
    Status,
    /// Every node in a row.
    Nodes,
    /// One node: its host's facts, where its packets land, its findings.
    Node {
        /// The node's name.
        name: String,
    },
    /// What is wrong, with evidence and remedy.
    Findings {
        /// Go on and show every change.
        #[arg(short, long, conflicts_with = "all")]
        watch: bool,
        /// Those that were resolved, too.
        #[arg(short, long)]
        all: bool,
        /// Only those that name this node.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// Only those of this code ("PATH01") or name ("route-missing").
        #[arg(long, value_name = "CODE")]
        code: Option<String>,
    },
    /// Where packets between two nodes land, both ways; or who does not reach one.
    Path {
        /// A node's name, or a pod's address.
        #[arg(required_unless_present = "all_to", conflicts_with = "all_to")]
        from: Option<String>,
        /// A node's name, or a pod's address.
        #[arg(required_unless_present = "all_to", conflicts_with = "all_to")]
        to: Option<String>,
        /// Instead of two: of all nodes those that do not reach this node or pod address, or are not reached by it.
        #[arg(long = "to", value_name = "NODE|ADDRESS")]
        all_to: Option<String>,
    },
    /// The pool, and who has what of it.
    Pool,
    /// What would mend what is open: steps in order, whom they interrupt, how they are verified. Changes nothing.
    #[command(after_help = PLAN_CODES)]
    Plan(PlanArgs),
    /// Carries a plan out, one node at a time. Shows it and changes nothing without --yes.
    #[command(after_help = FIX_CODES)]
    Fix(FixArgs),
    /// What another --cluster-cidr would mean: sizes, conflicts, the order of the nodes. Changes nothing.
    Migrate(MigrateArgs),
    /// The page of a finding's code: meaning, causes, checks, remedy. Needs no aggregator.
    Explain {
        /// Its code ("PATH01") or name ("route-missing"); without it all are listed.
        code: Option<String>,
    },
    /// This program's version, the aggregator's, and those of the agents.
    Version {
        /// Only this program's: asks nobody.
        #[arg(long)]
        client: bool,
    },
}

/// What to plan for, and what is allowed.
#[derive(Debug, clap::Args)]
pub(super) struct PlanArgs {
    /// Only these nodes. [default: all that need something]
    #[arg(value_name = "NODE", conflicts_with = "all")]
    pub(super) nodes: Vec<String>,
    /// Every node that needs something, as without names.
    #[arg(long)]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) allow: AllowArgs,
}

/// What a plan may do.
#[derive(Debug, clap::Args)]
pub(super) struct AllowArgs {
    /// Pods without a controller may go, which nobody makes anew.
    #[arg(long)]
    pub(super) force: bool,
    /// What is in emptyDirs of drained pods may be lost.
    #[arg(long)]
    pub(super) delete_emptydir_data: bool,
    /// Nodes of the control plane and of etcd, too; they come last.
    #[arg(long)]
    pub(super) include_control_plane: bool,
    /// Nodes that need other CIDRs are registered anew by their kubelets, which must be restarted for that, and get what the
    /// controller manager gives them; by default they are made again at once.
    #[arg(long)]
    pub(super) rotate: bool,
    /// Nodes may be deleted whose instances a cloud provider owns: it is known not to end them.
    #[arg(long)]
    pub(super) allow_managed: bool,
}

/// What was agreed to when a fix was begun, and is kept with it.
const AGREED: [&str; 7] = [
    "force",
    "delete_emptydir_data",
    "include_control_plane",
    "rotate",
    "allow_managed",
    "node_cidr_mask_size_ipv4",
    "node_cidr_mask_size_ipv6",
];

/// Of [`FixArgs::drain_timeout`].
pub(super) const DRAIN: &str = "5m";

/// Of [`FixArgs::node_timeout`].
pub(super) const NODE: &str = "2m";

/// Of [`FixArgs::verify_timeout`].
pub(super) const VERIFY: &str = "5m";

/// What to carry out, and how.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["nodes", "filename", "all", "migrate", "resume", "abort"])))]
pub(super) struct FixArgs {
    /// These nodes, planned now.
    #[arg(value_name = "NODE", conflicts_with_all = ["filename", "all", "resume", "abort"])]
    pub(super) nodes: Vec<String>,
    /// A saved plan (plan -o yaml); "-" is standard input. It must still be what would be planned now. What it allows is in it,
    /// and no flag adds to that: plan again with --force or the like.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["all", "resume", "abort"], conflicts_with_all = AGREED)]
    pub(super) filename: Option<PathBuf>,
    /// Every node that needs something.
    #[arg(long, conflicts_with_all = ["resume", "abort"])]
    pub(super) all: bool,
    /// Every node (or those named) to these ranges, for another --cluster-cidr: one range a family, comma-separated.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = range, conflicts_with_all = ["filename", "all", "rotate", "resume", "abort"])]
    pub(super) migrate: Vec<IpNet>,
    #[command(flatten)]
    pub(super) masks: MaskArgs,
    /// Goes on with the fix that stopped, or whose program died; from any machine.
    #[arg(long, conflicts_with = "abort", conflicts_with_all = AGREED)]
    pub(super) resume: bool,
    /// Takes the fix that stopped back, as far as that goes: cordon, and a Node that was deleted.
    #[arg(long, conflicts_with_all = AGREED)]
    pub(super) abort: bool,
    /// Acts; without it everything is only shown.
    #[arg(short, long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) allow: AllowArgs,
    /// How long a drain may take.
    #[arg(long, default_value = DRAIN, value_parser = duration, value_name = "TIME")]
    pub(super) drain_timeout: Duration,
    /// How long a node may take to come back, or an errand's pod to end; a command of yours, or what you do by hand. While another
    /// node is unavailable none is taken away.
    #[arg(long, default_value = NODE, value_parser = duration, value_name = "TIME")]
    pub(super) node_timeout: Duration,
    /// How long it may take until everything that shows that it worked is seen, from the start of a new pod on.
    // An aggregator that was drained away itself is found by all agents within two minutes, even without kube-proxy.
    #[arg(long, default_value = VERIFY, value_parser = duration, value_name = "TIME")]
    pub(super) verify_timeout: Duration,
    /// Restarts the kubelet of {node} where the runtime has to be told its CIDR, or the kubelet does not look at its Node; such
    /// as "ssh {node} sudo systemctl restart kubelet". [default: a pod on the node tells the runtime, as the kubelet would; for
    /// the rest it waits for you] A command cannot ask for anything, such as a password.
    #[arg(long, value_parser = template, value_name = "COMMAND")]
    pub(super) restart_command: Option<String>,
    /// Runs once {node} has {cidrs}, before that is verified: for routes that nobody else makes.
    #[arg(long, value_parser = template, value_name = "COMMAND")]
    pub(super) after_command: Option<String>,
    /// Begins nodes only within this time of day, of this machine: "22:00-06:00"; and --resume goes on only then
    /// with one that is at its first step, or yet to be drained, or its Node to be deleted.
    #[arg(long, value_name = "FROM-TO")]
    pub(super) window: Option<Window>,
    /// Nodes that may be unavailable at a time: more than one is refused, whatever makes them so.
    #[arg(long, default_value_t = 1, value_parser = one, value_name = "N")]
    pub(super) max_unavailable: u32,
}

/// How long nodes' CIDRs of a new range are.
#[derive(Debug, clap::Args)]
pub(super) struct MaskArgs {
    /// Length of a node's IPv4 CIDR. [default: as now]
    #[arg(long, value_name = "N")]
    pub(super) node_cidr_mask_size_ipv4: Option<u8>,
    /// Length of a node's IPv6 CIDR. [default: as now]
    #[arg(long, value_name = "N")]
    pub(super) node_cidr_mask_size_ipv6: Option<u8>,
}

/// The new range, and what is allowed.
#[derive(Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// The new --cluster-cidr: one range a family, comma-separated.
    #[arg(value_name = "CIDR", required = true, value_delimiter = ',', value_parser = range)]
    pub(super) ranges: Vec<IpNet>,
    #[command(flatten)]
    pub(super) masks: MaskArgs,
    /// What one node takes, drain and all.
    // Of which the swap itself takes seconds: it is pods that take their time to end, and budgets that hold them.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "TIME")]
    pub(super) per_node: Duration,
    /// Pods without a controller may go, which nobody makes anew.
    #[arg(long)]
    pub(super) force: bool,
    /// What is in emptyDirs of drained pods may be lost.
    #[arg(long)]
    pub(super) delete_emptydir_data: bool,
}

/// Two nodes that are taken away at the same time may be all that some budget or quorum has.
fn one(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(1) => Ok(1),
        Ok(0) => Err("a node cannot be mended without being unavailable".to_owned()),
        Ok(_) => Err("steps that take a node away are done one node at a time: only 1 is taken".to_owned()),
        Err(_) => Err("it is no number".to_owned()),
    }
}

/// A range, as --cluster-cidr has it: what is behind its length is nothing.
fn range(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| "it is no range: one looks like 10.250.0.0/16".to_owned())?;
    match net.trunc() {
        right if right == net => Ok(net),
        right => Err(format!("it has host bits: {right} is meant?")),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: try \"10s\" or \"500ms\"");
    let time = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|time| Duration::try_from(time).ok())
            .ok_or_else(wrong)?,
    };
    if time.is_zero() {
        return Err("it must be more than nothing".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Args::command().debug_assert();
    }

    fn parsed(line: &str) -> Result<Command, String> {
        let words = line.split(' ');
        let args = Args::try_parse_from(["kubectl-cidrift"].into_iter().chain(words));
        args.map(|args| args.command).map_err(|error| error.to_string())
    }

    #[test]
    fn a_range_has_no_host_bits() {
        assert_eq!(range("10.250.0.0/16"), Ok("10.250.0.0/16".parse().unwrap()));
        assert_eq!(
            range("10.250.1.0/16").unwrap_err(),
            "it has host bits: 10.250.0.0/16 is meant?"
        );
        assert_eq!(
            range("fd00::1/48").unwrap_err(),
            "it has host bits: fd00::/48 is meant?"
        );
        assert!(range("10.250.0.0").is_err());
        for line in ["migrate 10.250.1.0/16", "fix --migrate fd00::/48,10.250.1.0/16"] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains("10.250.0.0/16 is meant?"), "{error}");
        }
    }

    #[test]
    fn what_a_saved_plan_allows_is_not_widened() {
        assert!(parsed("fix -f plan.yaml --yes --window 22:00-06:00").is_ok());
        for flag in [
            "--force",
            "--delete-emptydir-data",
            "--include-control-plane",
            "--rotate",
            "--allow-managed",
        ] {
            let error = parsed(&format!("fix -f plan.yaml {flag}")).unwrap_err();
            assert!(error.contains("cannot be used with"), "{error}");
        }
    }

    #[test]
    fn all_nodes_are_planned_for_by_name_or_by_none() {
        assert!(matches!(
            parsed("plan --all"),
            Ok(Command::Plan(PlanArgs { all: true, .. }))
        ));
        assert!(parsed("plan").is_ok() && parsed("plan n2 --all").is_err());
    }

    #[test]
    fn whom_to_ask_is_apart_from_what_to_do_and_every_code_is_told() {
        for line in ["plan -h", "fix -h"] {
            let help = parsed(line).unwrap_err();
            assert!(help.contains("Exit codes:"), "{help}");
        }
        let help = parsed("fix -h").unwrap_err();
        let (options, connection) = help.split_once("\nConnection:\n").unwrap();
        assert!(
            connection.contains("--kubeconfig") && !options.contains("--kubeconfig"),
            "{help}"
        );
        assert!(
            options.contains("--migrate") && !connection.contains("--migrate"),
            "{help}"
        );
    }

    #[test]
    fn a_time_is_seconds_or_has_a_unit() {
        assert_eq!(duration("3"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        for wrong in ["0", "-3s", "soon", ""] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
