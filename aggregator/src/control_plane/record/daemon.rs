//! Pods of CNI daemons and of kube-proxy, and what their flags and variables say of ranges.

use super::flags::CommandLine;
use super::pod::{ContainerStatus, Pod};
use super::text::{clip, prefixes};
use super::witness::silent;
use crate::cluster::objects::{Daemon, RangeWitness, Resource};

/// Label keys that name an application, and the values that the daemons' own manifests use.
const KINDS: &[(&str, &str)] = &[
    ("flannel", "flannel"),
    ("kube-flannel", "flannel"),
    ("rke2-flannel", "flannel"),
    // canal runs flannel for the routes and calico for policies.
    ("canal", "flannel"),
    ("rke2-canal", "flannel"),
    ("cilium", "cilium"),
    ("cilium-agent", "cilium"),
    ("calico-node", "calico-node"),
    ("aws-node", "aws-node"),
    ("kindnet", "kindnet"),
    ("kube-router", "kube-router"),
    ("ovnkube-node", "ovnkube"),
    ("weave-net", "weave"),
    ("azure-cns", "azure-cns"),
    ("kube-ovn-cni", "kube-ovn"),
    ("kube-proxy", "kube-proxy"),
];

/// Label keys by which manifests name their application.
const KEYS: &[&str] = &["k8s-app", "app", "name", "app.kubernetes.io/name", "component"];

/// The daemon that this pod is; `None`: it is something else. A pod that only bears
/// such a label is told apart by what all daemons are: in the host's network, from a DaemonSet or static.
pub fn record(pod: &Pod) -> Option<Daemon> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let steady = owners
        .iter()
        .any(|owner| matches!(owner.kind.as_deref(), Some("DaemonSet" | "Node")));
    if !steady || !pod.host_network() {
        return None;
    }
    let kind = kind(pod)?;
    let node = pod.node()?.to_owned();
    let status = pod.status.as_ref();
    let containers = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or_default();
    let first = status
        .and_then(|status| status.init_container_statuses.as_deref())
        .unwrap_or_default();
    Some(Daemon {
        node,
        kind: kind.to_owned(),
        pod: pod.key(),
        ready: !containers.is_empty() && containers.iter().all(|container| container.ready == Some(true)),
        trouble: first.iter().chain(containers).find_map(trouble),
    })
}

fn kind(pod: &Pod) -> Option<&'static str> {
    // antrea labels its agents and its controller alike, but for the component.
    if pod.label("app") == Some("antrea") {
        return (pod.label("component") == Some("antrea-agent")).then_some("antrea");
    }
    let values = KEYS.iter().filter_map(|key| pod.label(key));
    let mut known = values.filter_map(|value| KINDS.iter().find(|(label, _)| *label == value));
    known.next().map(|(_, kind)| *kind)
}

/// Why a container does not run, in the API's words.
fn trouble(status: &ContainerStatus) -> Option<String> {
    if status.ready == Some(true) {
        return None;
    }
    let name = status.name.as_deref().unwrap_or("container");
    let state = status.state.as_ref();
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or("waits");
        // Every container waits a moment before its first start.
        if !matches!(reason, "ContainerCreating" | "PodInitializing") {
            let words = waiting.message.as_deref().unwrap_or_default();
            return Some(clip(format!("{name}: {reason}: {words}").trim_end_matches(": "), 512));
        }
    }
    let ended = state.and_then(|state| state.terminated.as_ref());
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = ended.or(last).filter(|ended| ended.exit_code != Some(0))?;
    let words = ended.message.as_deref().or(ended.reason.as_deref()).unwrap_or_default();
    let text = format!(
        "{name}: exit code {}: {}",
        ended.exit_code.unwrap_or_default(),
        words.trim()
    );
    Some(clip(text.trim_end_matches(": "), 512))
}

/// What a daemon's container says of ranges: kube-proxy's `--cluster-cidr`, kindnet's `POD_SUBNET`,
/// calico-node's `CALICO_IPV4POOL_CIDR` and `CALICO_IPV6POOL_CIDR`.
pub fn ranges(pod: &Pod, kind: &str) -> Option<RangeWitness> {
    let key = pod.key();
    match kind {
        "kube-proxy" => {
            let container = pod
                .containers()
                .find(|container| container.words().iter().any(|word| word.contains("kube-proxy")))?;
            let line = CommandLine::of(&container.words(), "kube-proxy", &|name| container.variable(name));
            let flags = line.flags(&[]);
            let (_, value) = flags.iter().rev().find(|(name, _)| name == "cluster-cidr")?;
            let mut witness = silent(Resource::ProxyPods, format!("pod {key}, --cluster-cidr"));
            witness.ranges = prefixes(value.as_deref().unwrap_or_default(), &mut witness.odd);
            Some(witness)
        }
        "kindnet" => variables(pod, &["POD_SUBNET"]),
        "calico-node" => variables(pod, &["CALICO_IPV4POOL_CIDR", "CALICO_IPV6POOL_CIDR"]),
        _ => None,
    }
}

fn variables(pod: &Pod, names: &[&str]) -> Option<RangeWitness> {
    let said: Vec<(&str, String)> = names
        .iter()
        .filter_map(|name| Some((*name, pod.containers().find_map(|container| container.variable(name))?)))
        .filter(|(_, value)| !value.trim().is_empty())
        .collect();
    let (first, _) = said.first()?;
    let mut witness = silent(Resource::CniPods, format!("pod {}, variable {first}", pod.key()));
    for (_, value) in &said {
        witness.ranges.extend(prefixes(value, &mut witness.odd));
    }
    Some(witness)
}
