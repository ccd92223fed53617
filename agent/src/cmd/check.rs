//! `cidrift-agent check`: one look at this host, for people and programs.
//! No aggregator is asked and nothing is changed.

mod compare;
mod render;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use cidrift_proto::facts::Gap;
use cidrift_proto::finding::Claim;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use self::compare::Compared;
use crate::check::{self, Expectation, Input, Unjudged, model};
use crate::observe::cni::CniReader;
use crate::observe::netlink;
use crate::observe::node::{self, NodeError, NodeFacts};
use crate::observe::root::HostRoot;
use crate::resolve::{Fib, Scope};

/// Everything was judged and nothing is wrong.
const HEALTHY: u8 = 0;
/// Something is wrong.
const FINDINGS: u8 = 1;
/// Something could not be judged, and nothing else is wrong.
const UNKNOWN: u8 = 2;

/// Options of `check`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Exit status: 0 all judged and healthy, 1 findings, 2 something could not be judged.")]
pub struct CheckArgs {
    /// Name of this host's Node [default: the host name]
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,

    /// Where the host's filesystem is mounted
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub host_root: PathBuf,

    /// The runtime's CNI configuration directory, as the host names it [default: found by the runtime's configuration]
    #[arg(long, value_name = "DIR")]
    pub cni_dir: Option<PathBuf>,

    /// Read the Node from a file with what `kubectl get nodes -o yaml` prints
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "pod_cidrs"])]
    pub cluster_state: Option<PathBuf>,

    /// Ask the API server with this kubeconfig [default: the kubelet's own, below --host-root]
    #[arg(long, value_name = "FILE", conflicts_with = "pod_cidrs")]
    pub kubeconfig: Option<PathBuf>,

    /// What the Node's podCIDR is; repeat it for the other family. Nobody else is asked then
    #[arg(long = "pod-cidr", value_name = "PREFIX")]
    pub pod_cidrs: Vec<IpNet>,

    /// The Node's InternalIP, with --pod-cidr; tells the uplink apart [default: by the default route]
    #[arg(long = "internal-ip", value_name = "ADDRESS", requires = "pod_cidrs")]
    pub internal_ips: Vec<IpAddr>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// What the whole look comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Healthy,
    Findings,
    Unknown,
}

/// All that one look gave.
#[derive(Debug, Clone, Serialize)]
struct Report {
    node: String,
    observed_at: Timestamp,
    outcome: Outcome,
    /// What was compared with what.
    compared: Vec<Compared>,
    findings: Vec<Claim>,
    unjudged: Vec<Unjudged>,
    /// What kept the look from being whole.
    problems: Vec<String>,
}

/// Looks, prints, and returns the exit status.
pub async fn run(args: CheckArgs) -> ExitCode {
    let report = look(&args, Timestamp::now()).await;
    let text = match args.output {
        Output::Table => Ok(render::text(&report)),
        Output::Json => serde_json::to_string_pretty(&report)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string()),
        Output::Yaml => serde_saphyr::to_string(&report).map_err(|error| error.to_string()),
    };
    match text {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("cidrift-agent check: the result cannot be written: {error}");
            return ExitCode::from(UNKNOWN);
        }
    }
    ExitCode::from(match report.outcome {
        Outcome::Healthy => HEALTHY,
        Outcome::Findings => FINDINGS,
        Outcome::Unknown => UNKNOWN,
    })
}

/// Prints; a reader that went away (`| head`) is no reason to panic.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

async fn look(args: &CheckArgs, now: Timestamp) -> Report {
    let root = HostRoot::new(&args.host_root);
    let mut problems = Vec::new();
    let node = args.node_name.clone().or_else(host_name).unwrap_or_else(|| {
        problems.push("the host name cannot be read: name the Node with --node-name".to_owned());
        "unknown".to_owned()
    });
    if !args.host_root.is_dir() {
        problems.push(format!("--host-root {} is not a directory", args.host_root.display()));
    }
    let expectation = match expect(args, &root, &node).await {
        Ok(expectation) => Some(expectation),
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    let reader = CniReader::new(root, args.cni_dir.clone());
    let cni = tokio::task::spawn_blocking(move || reader.read())
        .await
        .unwrap_or_default();
    let (kernel, kernel_at, gaps) = match netlink::look(&netlink::Options::default()).await {
        Ok(look) => {
            let gaps = look.gaps.iter().map(|gap| Gap {
                what: gap.part.to_string(),
                why: gap.reason.clone(),
            });
            (look.kernel, look.at, gaps.collect())
        }
        Err(error) => {
            let gap = Gap {
                what: "the kernel's state".to_owned(),
                why: error.to_string(),
            };
            (Default::default(), now, vec![gap])
        }
    };
    let mut fib = Fib::new();
    let told = expectation.clone().unwrap_or_default();
    fib.set_scope(Scope {
        interest: told.pod_cidrs.clone(),
        internal_ips: told.internal_ips,
        pod_cidrs: told.pod_cidrs,
        pod_device: model(&cni)
            .ok()
            .and_then(|model| model.delivery.device().map(str::to_owned)),
    });
    fib.rebuild(&kernel, kernel_at);
    let input = Input {
        node: &node,
        expectation: expectation.as_ref(),
        kernel: &kernel,
        kernel_at,
        kernel_gaps: &gaps,
        links_changed_at: None,
        cni: &cni,
        cni_at: now,
        cni_changed_at: None,
        lookup: &fib,
    };
    report(&input, problems, now)
}

/// Judges and sums up.
fn report(input: &Input<'_>, mut problems: Vec<String>, now: Timestamp) -> Report {
    let mut judged = check::check(input);
    if input.expectation.is_none() {
        // Why is a problem above; the rules did not come to what else there is.
        for row in &mut judged.unjudged {
            row.reason = "what the Node should have is not known".to_owned();
        }
        problems.extend(input.cni.problem.clone());
        problems.extend(input.kernel_gaps.iter().map(|gap| format!("{}: {}", gap.what, gap.why)));
    }
    let outcome = match (
        judged.claims.is_empty(),
        judged.unjudged.is_empty() && problems.is_empty(),
    ) {
        (false, _) => Outcome::Findings,
        (true, true) => Outcome::Healthy,
        (true, false) => Outcome::Unknown,
    };
    Report {
        node: input.node.to_owned(),
        observed_at: now,
        outcome,
        compared: compare::rows(input, &judged),
        findings: judged.claims,
        unjudged: judged.unjudged,
        problems,
    }
}

/// As the kubelet does: the host name, in lower case.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_lowercase();
    (!name.is_empty()).then_some(name)
}

async fn expect(args: &CheckArgs, root: &HostRoot, node: &str) -> Result<Expectation, NodeError> {
    if !args.pod_cidrs.is_empty() {
        return Ok(Expectation {
            source: "--pod-cidr".to_owned(),
            node_known: true,
            pod_cidrs: args.pod_cidrs.iter().map(IpNet::trunc).collect(),
            internal_ips: args.internal_ips.clone(),
            observed_at: None,
            ..Expectation::default()
        });
    }
    let (facts, from) = match &args.cluster_state {
        Some(path) => (node::from_cluster_state(path, node)?, path.display().to_string()),
        None => node::from_kubeconfig(root, args.kubeconfig.as_deref().map(Path::new), node).await?,
    };
    Ok(expectation(node, facts, &from))
}

fn expectation(node: &str, facts: Option<NodeFacts>, from: &str) -> Expectation {
    let source = format!("Node {node} ({from})");
    let observed_at = Some(Timestamp::now());
    match facts {
        None => Expectation {
            source,
            observed_at,
            ..Expectation::default()
        },
        Some(facts) => Expectation {
            source,
            node_known: true,
            pod_cidrs: facts.pod_cidrs,
            internal_ips: facts.internal_ips,
            kube_subnet_manager: facts.kube_subnet_manager,
            observed_at,
            since: None,
        },
    }
}

#[cfg(test)]
mod tests;
