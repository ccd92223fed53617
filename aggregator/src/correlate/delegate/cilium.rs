//! CiliumNodes.

use cidrift_proto::finding::{Affected, Claim, Severity};
use ipnet::IpNet;

use super::{frame, long_gone, overlapping};
use crate::cluster::objects::{CiliumNode, Resource};
use crate::correlate::{Scene, words};
use crate::engine::churn::Churn;

pub(super) fn claims(scene: &Scene<'_>, churn: &Churn) -> Vec<Claim> {
    let delegates = &scene.plane.around.delegates;
    let nodes = &delegates.cilium_nodes;
    let owned: Vec<(&str, IpNet)> = nodes
        .iter()
        .flat_map(|node| node.pod_cidrs.iter().map(|cidr| (node.node.as_str(), *cidr)))
        .collect();
    let mut claims = overlapping(
        scene,
        Resource::CiliumNodes,
        "CiliumNode",
        &owned,
        "Cilium's operator allocated before it had read what is in use (after its restart), or two operators ran: two nodes hand \
         out the same addresses.",
        |names| {
            let younger = names
                .iter()
                .filter_map(|name| scene.node(name))
                .max_by_key(|node| (node.created_at, &node.name));
            let which = younger.map_or("one of them", |node| node.name.as_str());
            format!(
                "Drain {which}, then kubectl delete ciliumnode {which} and delete its Cilium pod: the operator gives it another range. \
                 Pods that still run with the old one must be made anew."
            )
        },
    );
    for node in nodes {
        let from_field = delegates.cilium_ipam.as_deref() == Some("kubernetes");
        claims.extend(refused(scene, node));
        claims.extend(if from_field { invented(scene, node) } else { None });
        claims.extend(left_over(scene, churn, node));
    }
    claims
}

fn evidence(scene: &Scene<'_>, node: &CiliumNode) -> cidrift_proto::finding::Evidence {
    let mut text = format!("spec.ipam.podCIDRs {}", words::list(&node.pod_cidrs));
    if let Some(error) = &node.error {
        text.push_str(&format!("; status.ipam.operator-status.error \"{error}\""));
    }
    scene.around_evidence(Resource::CiliumNodes, format!("CiliumNode {}", node.node), text)
}

/// The operator says that it could not give the node a range.
fn refused(scene: &Scene<'_>, node: &CiliumNode) -> Option<Claim> {
    let error = node.error.as_deref().filter(|error| !error.is_empty())?;
    let name = &node.node;
    // A node that is going has no need of one.
    scene.node(name).filter(|node| !node.deleting)?;
    let without = node.pod_cidrs.is_empty();
    let severity = if without { Severity::Error } else { Severity::Warning };
    let mut claim = frame(scene, name.clone(), severity, Resource::CiliumNodes);
    claim.summary = if without {
        format!("Cilium's operator has given {name} no range: {error}")
    } else {
        format!("Cilium's operator cannot give {name} what it asks for: {error}")
    };
    claim.evidence.push(evidence(scene, node));
    let full = error.contains("allocator full") || error.contains("exhausted") || error.contains("no available CIDR");
    let taken = error.contains("already allocated");
    claim.cause = if full {
        "Every block of the operator's cluster-pool is taken. Node.spec.podCIDR has no part in this: Cilium does not read it here."
    } else if taken {
        "The range that this CiliumNode names is another node's."
    } else {
        "The operator's own words say it."
    }
    .to_owned();
    claim.remedy = if full {
        "Add a range to clusterPoolIPv4PodCIDRList (never alter one that is there) and restart the operator: \
         kubectl -n kube-system rollout restart deployment cilium-operator. CiliumNodes of nodes that are gone hold ranges too: \
         kubectl get ciliumnodes; delete those, and restart the operator then too (1.15 does not hand a freed range to a node that waits)."
            .to_owned()
    } else if taken {
        format!(
            "kubectl delete ciliumnode {name} after draining it, then delete its Cilium pod: it gets another range."
        )
    } else {
        format!(
            "kubectl get ciliumnode {name} -o yaml; kubectl -n kube-system logs deployment/cilium-operator | grep {name}"
        )
    };
    Some(claim)
}

/// With ipam=kubernetes the Node's CIDR is the only right one; an agent that found none made one up.
fn invented(scene: &Scene<'_>, node: &CiliumNode) -> Option<Claim> {
    let record = scene.node(&node.node).filter(|record| !record.deleting)?;
    let foreign: Vec<&IpNet> = node
        .pod_cidrs
        .iter()
        .filter(|cidr| !record.pod_cidrs.contains(cidr))
        .collect();
    foreign.first()?;
    let name = &node.node;
    let mut claim = frame(scene, name.clone(), Severity::Error, Resource::CiliumNodes);
    claim.summary = format!(
        "Cilium uses {} on {name}, whose Node has {}",
        words::list(&foreign),
        words::list(&record.pod_cidrs_raw)
    );
    claim.affected = foreign
        .iter()
        .map(|cidr| Affected {
            prefix: Some(**cidr),
            node: Some(name.clone()),
            detail: "not the Node's".to_owned(),
        })
        .collect();
    claim.affected_total = u32::try_from(foreign.len()).unwrap_or(u32::MAX);
    claim.evidence = vec![evidence(scene, node), scene.node_evidence(record)];
    claim.changed_at = Some(record.changed_at);
    claim.cause = if record.pod_cidrs.is_empty() {
        "ipam is kubernetes, and the Node has no CIDR: Cilium's agent made a range up instead of waiting. It may be another node's."
    } else {
        "ipam is kubernetes: the Node was made again with another CIDR, and Cilium's agent has not followed."
    }
    .to_owned();
    claim.remedy = if record.pod_cidrs.is_empty() {
        format!(
            "Mend POOL01 of {name} first; then drain it and delete its Cilium pod, so that it takes the Node's CIDR."
        )
    } else {
        format!("Drain {name} and delete its Cilium pod: it takes the Node's CIDR when it starts.")
    };
    Some(claim)
}

/// Its Node is gone and it still holds a range.
fn left_over(scene: &Scene<'_>, churn: &Churn, node: &CiliumNode) -> Option<Claim> {
    let name = &node.node;
    if !long_gone(scene, churn, name) || node.pod_cidrs.is_empty() || scene.plane.problem.is_some() {
        return None;
    }
    let mut claim = frame(scene, name.clone(), Severity::Info, Resource::CiliumNodes);
    claim.summary = format!(
        "CiliumNode {name} holds {}, and there is no such Node",
        words::list(&node.pod_cidrs)
    );
    claim.evidence.push(evidence(scene, node));
    claim.cause =
        "The Node was deleted and its CiliumNode stayed; or it is a workload outside of the cluster.".to_owned();
    claim.remedy =
        format!("If no such machine is left: kubectl delete ciliumnode {name}. Its range returns to the pool.");
    Some(claim)
}
