//! Why two nodes hold the same addresses, and who of them the others reach: what POOL03 says of nodes.

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::finding::Evidence;
use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::{Scene, manager, words};
use crate::cluster::NodeRecord;
use crate::cluster::objects::Resource;

/// What is known of nodes whose CIDRs overlap.
pub struct Twins {
    /// How it came about, by evidence.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// What would show more and cannot be seen.
    pub unseen: Vec<String>,
}

/// Judges a group of nodes, all of which have a CIDR inside `widest`.
pub fn of(scene: &Scene<'_>, widest: IpNet, nodes: &[&NodeRecord]) -> Twins {
    let mut evidence = Vec::new();
    let mut unseen = Vec::new();
    let (routed, witnesses) = routed(scene, widest, nodes);
    let favourite = routed.iter().max_by_key(|(_, count)| **count).map(|(name, _)| *name);
    if let Some(name) = favourite {
        let text = match routed.len() {
            1 => format!("all that route {widest} route it to {name}"),
            _ => format!("they route {widest} to {}, most to {name}", words::list(routed.keys())),
        };
        evidence.push(Evidence {
            source: "kernels of the other nodes".to_owned(),
            text,
            observed_at: witnesses,
            stale: false,
        });
    } else {
        unseen.push(format!(
            "to which of them the others route {widest}: no agent reports a route"
        ));
    }
    let cause = cause(scene, nodes, &mut evidence, &mut unseen);
    let leaving = nodes.iter().find(|node| node.deleting);
    let youngest = nodes.iter().max_by_key(|node| (node.created_at, &node.name));
    // The one that works is kept: the one that is routed, else the elder.
    let act = match (leaving, favourite) {
        (Some(_), _) => None,
        (None, Some(name)) => nodes
            .iter()
            .filter(|node| node.name != name)
            .max_by_key(|node| (node.created_at, &node.name)),
        (None, None) => youngest,
    };
    let routes = "flannel on every host deletes the route that both share when a twin goes: look for PATH01 afterwards and \
                  restart flannel where it is.";
    let remedy = match (leaving, act) {
        (Some(gone), _) => {
            let stays = words::list(nodes.iter().filter(|node| !node.deleting).map(|node| &node.name));
            format!(
                "{} is being deleted: {stays} will lose its routes with it, for {routes} Then restart kube-controller-manager, so that \
                 it marks the CIDR anew before a third node gets it.",
                gone.name
            )
        }
        (None, Some(act)) => format!(
            "Give {} another CIDR{}: kubectl cordon {}, drain it, delete the Node and create it again with a free CIDR. Beware: {routes}",
            act.name,
            match favourite {
                Some(name) => format!(", not {name}, which the others reach"),
                None => " (the youngest)".to_owned(),
            },
            act.name
        ),
        (None, None) => format!("Give one of them another CIDR by a node swap. Beware: {routes}"),
    };
    Twins {
        cause,
        remedy,
        evidence,
        unseen,
    }
}

fn cause(scene: &Scene<'_>, nodes: &[&NodeRecord], evidence: &mut Vec<Evidence>, unseen: &mut Vec<String>) -> String {
    let writers: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|node| node.cidr_writers.iter().map(String::as_str))
        .collect();
    let allocators: Vec<&str> = writers
        .iter()
        .copied()
        .filter(|writer| manager::is_allocator(writer))
        .collect();
    for node in nodes.iter().filter(|node| !node.cidr_writers.is_empty()) {
        let text = format!("spec.podCIDRs written by {}", words::list(&node.cidr_writers));
        evidence.push(scene.plane_evidence(format!("managedFields of Node {}", node.name), text));
    }
    if allocators.len() > 1 {
        return format!(
            "Two allocators at once: {} both hand out node CIDRs, and neither knows of the other's. Switch one of them off \
             (--allocate-node-cidrs=false) before anything else, or it happens again.",
            words::list(allocators)
        );
    }
    let leaving = nodes.iter().find(|node| node.deleting);
    let later = leaving.and_then(|gone| {
        nodes
            .iter()
            .find(|node| !node.deleting && node.created_at > gone.created_at)
    });
    if let (Some(gone), Some(live)) = (leaving, later) {
        let minor = |node: &NodeRecord| {
            node.kubelet_version
                .as_deref()
                .is_some_and(|version| version.starts_with("v1.31."))
        };
        let affected = scene.plane.nodes.values().any(minor);
        return format!(
            "kube-controller-manager released the CIDR when deletion of {} began and gave it to {} while {} still has it{}. It \
             releases it once more when that Node is gone: then a third node may get it.",
            gone.name,
            live.name,
            gone.name,
            if affected {
                ", as releases of 1.31 before the fix do (nodes here run 1.31)"
            } else {
                ", as releases of 1.31 before the fix do"
            }
        );
    }
    let masks: BTreeSet<u8> = nodes
        .iter()
        .flat_map(|node| &node.pod_cidrs)
        .map(IpNet::prefix_len)
        .collect();
    let equal = nodes.windows(2).all(|pair| pair[0].pod_cidrs == pair[1].pod_cidrs);
    if masks.len() > 1 && !equal {
        for manager in scene.plane.around.managers.values() {
            let flags = &manager.flags;
            if let Some(mask) = flags.mask_v4.or(flags.mask) {
                let source = format!("pod {}", manager.name);
                let text = format!("--node-cidr-mask-size for IPv4 is {mask}");
                evidence.push(scene.around_evidence(Resource::ManagerPods, source, text));
            }
        }
        return "The node CIDRs have different sizes. kube-controller-manager counts in blocks of one size and does not see those of \
                another: --node-cidr-mask-size was changed, or somebody else than it allocates over the same range."
            .to_owned();
    }
    let by_hand: Vec<&str> = writers
        .iter()
        .copied()
        .filter(|writer| writer.starts_with("kubectl"))
        .collect();
    if !by_hand.is_empty() {
        return format!(
            "Written by hand ({}): kube-controller-manager does not notice a CIDR that two nodes hold.",
            words::list(by_hand)
        );
    }
    if writers.is_empty() {
        unseen.push("managedFields of these Nodes: who wrote their CIDRs".to_owned());
    }
    "kube-controller-manager does not notice a CIDR that two nodes hold: two allocators at once, a CIDR released \
     too early (1.31.0 to 1.31.2), a changed --node-cidr-mask-size, or Nodes written by hand."
        .to_owned()
}

/// To which of these nodes the others route the CIDR, by how many; and when that was seen.
fn routed<'a>(
    scene: &Scene<'_>,
    widest: IpNet,
    nodes: &[&'a NodeRecord],
) -> (BTreeMap<&'a str, u32>, Option<jiff::Timestamp>) {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut seen = None;
    for name in scene
        .hosts
        .keys()
        .filter(|name| !nodes.iter().any(|node| node.name == **name))
    {
        let Some(host) = scene.host(name) else { continue };
        let Some(entry) = host.forwarding.longest(widest) else {
            continue;
        };
        let Landing::Underlay { address, .. } = &entry.landing else {
            continue;
        };
        let owners = scene.book.owners_of_address(*address);
        if let Some(node) = nodes.iter().find(|node| owners.contains(&node.name)) {
            *counts.entry(node.name.as_str()).or_default() += 1;
            seen = seen.max(host.seen_at());
        }
    }
    (counts, seen)
}
