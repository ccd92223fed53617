//! The classification of one node in words: what was seen, what was not, and which rules follow.

use cidrift_proto::facts::HostFacts;

use super::classify::{Ipam, classify};
use super::signs;
use crate::cluster::NodeRecord;
use crate::cluster::around::Around;
use crate::cluster::objects::Resource;
use crate::correlate::words::list;
use crate::summary::{IpamEvidence, IpamReport};

/// What an operator is told of a node's IPAM.
pub type Classification = IpamReport;

/// Annotations that say something of the IPAM; the prefixes among them end with a slash.
const ANNOTATIONS: &[&str] = &[
    "k8s.ovn.org/node-subnets",
    "ovn.kubernetes.io/",
    "kube-router.io/",
    "network.cilium.io/",
];

/// Kinds of objects that could tell more.
const WITNESSES: &[Resource] = &[
    Resource::CniPods,
    Resource::CiliumConfig,
    Resource::CiliumNodes,
    Resource::BlockAffinities,
    Resource::NodeNetworkConfigs,
    Resource::CniNodes,
    Resource::Pods,
];

/// Everything that is known of a node's IPAM.
pub fn report(node: &NodeRecord, facts: Option<&HostFacts>, around: &Around) -> Classification {
    let ipam = classify(node, facts, around);
    let decisive = |judged: &Option<Ipam>| judged.as_ref().is_some_and(|said| said.authoritative().is_some());
    let by = match ipam {
        Ipam::NoDataPlane(_) => Some(3),
        _ => signs::ALL.iter().position(|sign| decisive(&sign(node, facts, around))),
    };
    let kinds = [
        configuration(node, facts),
        objects(node, around),
        pods(node, around),
        platform(node),
    ];
    let mut evidence = Vec::new();
    for (at, lines) in kinds.into_iter().enumerate() {
        evidence.extend(lines.into_iter().map(|(source, text)| IpamEvidence {
            source,
            text,
            decides: by == Some(at),
        }));
    }
    let mut unseen = Vec::new();
    if facts.is_none() {
        unseen.push(format!("CNI configuration of {}: its agent has not told", node.name));
    }
    unseen.extend(WITNESSES.iter().filter_map(|kind| around.unseen(*kind)));
    IpamReport {
        model: ipam.word().to_owned(),
        authoritative: ipam.authoritative(),
        rules: rules(&ipam),
        why: match ipam {
            Ipam::PodCidr => String::new(),
            Ipam::Delegated(why) | Ipam::NoDataPlane(why) | Ipam::Unclear(why) => why.into_owned(),
        },
        evidence,
        unseen,
    }
}

fn rules(ipam: &Ipam) -> String {
    match ipam {
        Ipam::PodCidr => "POOL, HOST and PATH rules judge it by spec.podCIDRs",
        Ipam::Delegated(_) => {
            "POOL14 judges the allocator's own objects; an empty or unused spec.podCIDR is normal, so POOL01 to POOL09 \
             and the rules on routes to it stay silent"
        }
        Ipam::NoDataPlane(_) => "none: nothing of it can be looked at, and no agent is missed (SEEN01)",
        Ipam::Unclear(_) => {
            "those that hold whichever it is; what rests on spec.podCIDR in use needs its peers or its routes to show that"
        }
    }
    .to_owned()
}

type Lines = Vec<(String, String)>;

fn configuration(node: &NodeRecord, facts: Option<&HostFacts>) -> Lines {
    let Some(config) = facts.and_then(|facts| facts.cni.chosen.as_ref()) else {
        return Vec::new();
    };
    let mut text = format!("plugins {}", config.plugins.join(" > "));
    if let Some(ipam) = &config.ipam {
        text.push_str(&format!(", IPAM {ipam}"));
    }
    vec![(format!("{} on {}", config.path, node.name), text)]
}

fn objects(node: &NodeRecord, around: &Around) -> Lines {
    let mut lines = Vec::new();
    let delegates = &around.delegates;
    let daemons = around.daemons.get(&node.name).into_iter().flatten();
    for daemon in daemons.filter(|daemon| daemon.kind != "kube-proxy") {
        let state = match (&daemon.trouble, daemon.ready) {
            (Some(trouble), _) => format!(", {trouble}"),
            (None, false) => ", not ready".to_owned(),
            (None, true) => String::new(),
        };
        lines.push((
            format!("pod {}", daemon.pod),
            format!("{} runs on it{state}", daemon.kind),
        ));
    }
    let cilium_node = delegates.cilium_node(&node.name);
    if let Some(cilium) = cilium_node {
        let text = format!("podCIDRs {}", list(&cilium.pod_cidrs));
        lines.push((format!("CiliumNode {}", node.name), text));
    }
    let uses_cilium = cilium_node.is_some() || lines.iter().any(|(_, text)| text.starts_with("cilium "));
    if let (Some(mode), true) = (&delegates.cilium_ipam, uses_cilium) {
        lines.push(("ConfigMap kube-system/cilium-config".to_owned(), format!("ipam {mode}")));
    }
    if let Some(config) = delegates.network_config(&node.name) {
        let text = match config.cidrs.is_empty() {
            true => format!("{} single addresses", config.addresses.len()),
            false => list(&config.cidrs),
        };
        lines.push((format!("NodeNetworkConfig {}", node.name), text));
    }
    if delegates.cni_nodes.binary_search(&node.name).is_ok() {
        lines.push((format!("CNINode {}", node.name), "it exists".to_owned()));
    }
    let blocks = delegates.blocks_of(&node.name).iter().filter(|block| !block.deleted);
    let blocks: Vec<_> = blocks.map(|block| block.cidr).take(4).collect();
    if !blocks.is_empty() {
        lines.push(("BlockAffinities of it".to_owned(), list(blocks)));
    }
    let source = || format!("Node {}", node.name);
    for (key, value) in &node.annotations {
        if ANNOTATIONS
            .iter()
            .any(|known| key == known || (known.ends_with('/') && key.starts_with(known)))
        {
            lines.push((source(), format!("annotation {key} {value}")));
        }
    }
    if let Some(flannel) = &node.flannel {
        lines.push((
            source(),
            format!("flannel has registered it, backend {}", flannel.backend),
        ));
    }
    lines
}

fn pods(node: &NodeRecord, around: &Around) -> Lines {
    match signs::count_pods(node, around) {
        (0, 0) => Vec::new(),
        (inside, outside) => vec![(
            format!("pods on {}", node.name),
            format!("{inside} addresses inside its pod CIDRs, {outside} outside"),
        )],
    }
}

fn platform(node: &NodeRecord) -> Lines {
    let source = || format!("Node {}", node.name);
    let mut lines: Lines = node
        .labels
        .iter()
        .map(|(key, value)| (source(), format!("label {key}={value}")))
        .collect();
    if let Some(id) = &node.provider_id {
        lines.push((source(), format!("providerID {id}, which alone says nothing")));
    }
    // "v1.30.1-eks-036c24b", "v1.30.1-gke.1042000", "v1.30.1+k3s1".
    let version = node.kubelet_version.as_deref();
    if let Some(version) = version.filter(|version| version.contains(['-', '+'])) {
        lines.push((source(), format!("kubelet {version}")));
    }
    lines
}
