//! What containerd has loaded against what the file says now.

use cidrift_proto::facts::CniConfig;
use cidrift_proto::finding::Severity;
use ipnet::IpNet;
use jiff::SignedDuration;

use super::super::{Input, list};
use super::{Trouble, cause, chain};
use crate::observe::cni::MULTUS_DELEGATE;
use crate::view::host::{LoadedNetwork, Runtime};

/// containerd loads a file within ms of its being written, and is asked every 10 s: after three times that,
/// what it was last seen to have is what it has.
const LOADED: SignedDuration = SignedDuration::from_secs(30);

/// Seen on containerd 1.6: of inotify's events it leaves out IN_CREATE and IN_MOVED_TO (fsnotify's Create).
pub(super) const UNNOTICED: &str = "The runtime reads a file when it is written in the directory or renamed there, not when it \
    is moved in from another directory, linked or mounted";

/// containerd keeps something else than the file says, or could not load it.
pub(super) fn judge(input: &Input<'_>, runtime: &Runtime, config: &CniConfig) -> Option<Trouble> {
    // A runtime that is not ready has said so, and why.
    if !runtime.network_ready.as_ref().is_some_and(|ready| ready.ok) {
        return None;
    }
    let observed = &input.host.runtime;
    let (summary, text) = match (&runtime.load_problem, stale(input, runtime, config)) {
        (Some(problem), _) => (
            format!("{} could not load the CNI configuration anew", runtime.name),
            format!("lastCNILoadStatus: {problem}"),
        ),
        (None, Some(loaded)) => (
            format!(
                "{} uses another CNI configuration than {} says",
                runtime.name, config.path
            ),
            format!("loaded: {}", list(&loaded)),
        ),
        (None, None) => return None,
    };
    let mut on_disk = chain(config);
    if !config.ranges.is_empty() {
        on_disk += &format!(", ranges {}", list(&config.ranges));
    }
    Some(Trouble {
        severity: Severity::Warning,
        summary,
        evidence: vec![
            input.observed_evidence(observed, text),
            input.file_evidence(&config.path, on_disk),
        ],
        unseen: Vec::new(),
        cause: format!(
            "{UNNOTICED}; until it reads the directory again, new pods get what it loaded before. Or it reads another directory."
        ),
        remedy: format!(
            "On {}: systemctl restart {}; pods go on running. If nothing changes, tell the agent the right directory (--cni-dir).",
            input.node,
            cause::unit(&runtime.name)
        ),
        changed_at: config.modified_at.max(input.cni_changed_at),
    })
}

/// What is loaded, where none of it is what the file says. Multus' delegates are Multus' own to load.
fn stale(input: &Input<'_>, runtime: &Runtime, config: &CniConfig) -> Option<Vec<String>> {
    let delegated = config
        .generated_by
        .as_deref()
        .is_some_and(|by| by.starts_with(MULTUS_DELEGATE));
    let changed = config.modified_at.max(input.cni_changed_at);
    let settled = changed.is_none_or(|at| input.now.duration_since(at) >= LOADED);
    let networks: Vec<&LoadedNetwork> = runtime
        .networks
        .iter()
        .filter(|network| network.plugins != ["loopback"])
        .collect();
    if delegated || !settled || networks.is_empty() || networks.iter().any(|network| same(input, network, config)) {
        return None;
    }
    let text = |network: &&LoadedNetwork| {
        let mut text = format!("network {}, plugins {}", network.name, list(&network.plugins));
        if !network.ranges.is_empty() {
            text += &format!(", ranges {}", list(&network.ranges));
        }
        text
    };
    Some(networks.iter().map(text).collect())
}

fn same(input: &Input<'_>, network: &LoadedNetwork, config: &CniConfig) -> bool {
    let sorted = |nets: &[IpNet]| {
        let mut nets = nets.to_vec();
        nets.sort();
        nets
    };
    // Ranges that make no sense are left out on both sides, and not in the same way.
    let comparable = config.ipam.as_deref() == Some("host-local") && input.cni.problem.is_none();
    let loaded = sorted(&network.ranges);
    network.name == config.network
        && network.plugins == config.plugins
        && (!comparable || loaded == sorted(&config.ranges) || loaded == sorted(&config.subnets))
}
