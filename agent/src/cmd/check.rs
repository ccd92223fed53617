//! `cidrift-agent check`: one look at this host, for people and programs.
//! No aggregator is asked and nothing is changed.

mod host;
mod render;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cidrift_proto::catalogue::Code;
use cidrift_proto::facts::{Compared, SetupFacts, TrafficFact};
use cidrift_proto::finding::{Claim, Severity};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use self::host::Host;
use crate::check::{self, Input, Unjudged};
use crate::facts;
use crate::resolve::roles;

/// Everything was judged and nothing is wrong.
const HEALTHY: u8 = 0;
/// Something is wrong.
const FINDINGS: u8 = 1;
/// Something could not be judged, and nothing else is wrong.
const UNKNOWN: u8 = 2;

/// The bridge plugin makes the bridge, hangs the pod on it, asks the ipam plugin and only then gives
/// the bridge its address: a program's start in between, some tens of ms, on a loaded host more.
const CONFIRM: Duration = Duration::from_millis(300);

/// Looks after the first one at most. A host whose findings still change then is reported as it is.
const CONFIRMATIONS: usize = 3;

/// Options of `check`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Exit status: 0 all judged and healthy (or only information), 1 findings, 2 something could not be judged."
)]
pub struct CheckArgs {
    /// Name of this host's Node [default: the kubelet's --hostname-override, or the host name]
    #[arg(long, env = "CIDRIFT_NODE_NAME")]
    pub node_name: Option<String>,

    /// Where the host's filesystem is mounted
    #[arg(long, default_value = "/", value_name = "DIR")]
    pub host_root: PathBuf,

    /// The runtime's CNI configuration directory, as the host names it [default: found by the runtime's configuration]
    #[arg(long, value_name = "DIR")]
    pub cni_dir: Option<PathBuf>,

    /// Read the Node from a file with what `kubectl get nodes -o yaml` prints; "-" for standard input
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
    /// Findings that others of them explain, with those: mend these first.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    explained_by: BTreeMap<Code, Vec<Code>>,
    unjudged: Vec<Unjudged>,
    /// What kept the look from being whole.
    problems: Vec<String>,
    /// What the kernel counted on the way of pods' packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficFact>,
    /// How sandboxes are set up, by log and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    setups: Option<SetupFacts>,
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

/// Looks again while what is wrong keeps changing: a CNI plugin in the middle of
/// its work is no finding.
async fn look(args: &CheckArgs, now: Timestamp) -> Report {
    let mut host = Host::new(args);
    let mut report = host.look(now).await;
    for _ in 0..CONFIRMATIONS {
        if report.findings.is_empty() {
            break;
        }
        tokio::time::sleep(CONFIRM).await;
        let again = host.look(Timestamp::now()).await;
        let same = ids(&report).eq(ids(&again));
        report = again;
        if same {
            break;
        }
    }
    report
}

fn ids(report: &Report) -> impl Iterator<Item = String> + '_ {
    report.findings.iter().map(Claim::id)
}

/// What may not be read is nothing that is wrong with the host, and neither is what is good to know.
fn outcome(claims: &[Claim], whole: bool) -> Outcome {
    let faults = || claims.iter().filter(|claim| claim.severity > Severity::Info);
    let wrong = faults().any(|claim| claim.code != Code::Seen02);
    let seen = faults().next().is_none() && whole;
    match (!wrong, seen) {
        (false, _) => Outcome::Findings,
        (true, true) => Outcome::Healthy,
        (true, false) => Outcome::Unknown,
    }
}

/// Which of them explain which.
fn explained_by(claims: &[Claim]) -> BTreeMap<Code, Vec<Code>> {
    let stands = |code: &Code| claims.iter().any(|claim| claim.code == *code);
    let explained = claims.iter().map(|claim| {
        let by = claim.code.explained_on_host().iter().copied();
        (claim.code, by.filter(stands).collect::<Vec<_>>())
    });
    explained.filter(|(_, by)| !by.is_empty()).collect()
}

/// Judges and sums up.
fn report(input: &Input<'_>, mut problems: Vec<String>, now: Timestamp) -> Report {
    let mut judged = check::check(input);
    if input.expectation.is_none() {
        // Why is a problem above; the rules did not come to what else there is.
        let rows = judged.unjudged.iter_mut();
        for row in rows.filter(|row| check::BY_POD_CIDR.contains(&row.code)) {
            row.reason = "what the Node should have is not known".to_owned();
        }
        problems.extend(input.cni.problem.clone());
        problems.extend(input.kernel_gaps.iter().map(|gap| format!("{}: {}", gap.what, gap.why)));
    }
    let outcome = outcome(&judged.claims, judged.unjudged.is_empty() && problems.is_empty());
    let internal_ips = input.expectation.map_or(&[][..], |told| &told.internal_ips);
    Report {
        node: input.node.to_owned(),
        observed_at: now,
        outcome,
        compared: check::compare::rows(input, &judged),
        explained_by: explained_by(&judged.claims),
        findings: judged.claims,
        unjudged: judged.unjudged,
        problems,
        traffic: facts::traffic(input.kernel, &roles(input.kernel, internal_ips), input.host),
        setups: facts::setups(input.host),
    }
}

#[cfg(test)]
mod tests;
