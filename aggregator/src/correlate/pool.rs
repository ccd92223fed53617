//! POOL01, POOL02 and POOL08, and the pool's arithmetic.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Severity, Trigger};
use ipnet::IpNet;

use super::Scene;
use super::ipam::{self, Ipam};
use super::words;
use crate::cluster::NodeRecord;
use crate::netmap::overlap;
use crate::summary::{PoolNode, PoolRange, PoolReport};

/// Labels of platforms whose allocator hands out several ranges that no flag names.
const MANY_RANGES: &[&str] = &["cloud.google.com/gke-nodepool"];

/// Everything that can be said of single nodes' CIDRs.
pub fn claims(scene: &Scene<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    let full = report(scene);
    for node in scene.plane.nodes.values() {
        claims.extend(without_cidr(scene, node, &full));
        claims.extend(outside_pool(scene, node));
        claims.extend(fields_differ(scene, node));
    }
    claims
}

fn claim(scene: &Scene<'_>, code: Code, node: &NodeRecord) -> Claim {
    Claim {
        code,
        subject: node.name.clone(),
        severity: code.entry().severity,
        nodes: vec![node.name.clone()],
        summary: String::new(),
        affected: Vec::new(),
        affected_total: 0,
        evidence: vec![scene.node_evidence(node)],
        unseen: Vec::new(),
        cause: String::new(),
        remedy: String::new(),
        changed_at: Some(node.changed_at),
        trigger: Trigger::ControlPlane,
    }
}

fn classify(scene: &Scene<'_>, node: &NodeRecord) -> Ipam {
    let facts = scene.hosts.get(&node.name).and_then(|host| host.facts.as_ref());
    ipam::classify(node, facts)
}

/// POOL01, where the built-in IPAM is in use.
fn without_cidr(scene: &Scene<'_>, node: &NodeRecord, pool: &PoolReport) -> Option<Claim> {
    if !node.pod_cidrs_raw.is_empty() || node.pod_cidr.as_ref().is_some_and(|cidr| !cidr.is_empty()) || node.deleting {
        return None;
    }
    let ipam = classify(scene, node);
    if matches!(ipam, Ipam::Delegated(_) | Ipam::NoDataPlane(_)) {
        return None;
    }
    // Peers of which it is known that the field means something to them.
    let mut with = 0u32;
    let mut without = 0u32;
    let mut delegated = 0u32;
    for other in scene.plane.nodes.values().filter(|other| other.name != node.name) {
        match classify(scene, other) {
            Ipam::NoDataPlane(_) => {}
            Ipam::Delegated(_) => delegated += 1,
            _ if other.pod_cidrs_raw.is_empty() => without += 1,
            _ => with += 1,
        }
    }
    let built_in = !scene.pool.ranges.is_empty() || with > without;
    // The node's own CNI is not known, and its peers' CNIs do not use the field: nor will its own.
    let like_its_peers = !matches!(ipam, Ipam::PodCidr) && delegated > with;
    if !built_in || like_its_peers {
        return None;
    }
    let name = &node.name;
    let mut claim = claim(scene, Code::Pool01, node);
    claim.summary = format!("{name} has no pod CIDR");
    claim.evidence.push(if scene.pool.ranges.is_empty() {
        let text = format!("{with} other nodes have a pod CIDR, {without} have none");
        scene.plane_evidence("Nodes".to_owned(), text)
    } else {
        let text = format!("the pool is {}", words::list(&scene.pool.ranges));
        scene.plane_evidence(scene.pool.witness.clone(), text)
    });
    if let Ipam::Unclear(why) = ipam {
        claim.unseen.push(format!("{name}: {why}"));
    }
    let exhausted = !pool.ranges.is_empty() && pool.ranges.iter().all(|range| range.free == 0);
    if exhausted {
        let used: u64 = pool.ranges.iter().map(|range| range.used).sum();
        claim.cause = format!("The pool is full: all {used} node CIDRs are taken.");
        claim.remedy = "Delete Node objects that are not in use (kubectl get nodes shows those NotReady for long): \
                        their CIDRs return to the pool at once. Lasting: a wider --cluster-cidr that contains the present one."
            .to_owned();
    } else {
        claim.cause =
            "kube-controller-manager does not run, runs without --allocate-node-cidrs, or could not patch the Node."
                .to_owned();
        claim.remedy = format!(
            "kubectl get events -A --field-selector involvedObject.name={name} (CIDRNotAvailable says that the pool is full); \
             then the log of kube-controller-manager. It assigns a CIDR by itself once it can."
        );
        if pool.ranges.is_empty() {
            claim.unseen.push("--cluster-cidr: whether the pool is full".to_owned());
        }
    }
    Some(claim)
}

/// POOL02: kube-controller-manager occupies every node's CIDR at its start and exits
/// where one does not fit. It takes one that contains or is contained in the range.
fn outside_pool(scene: &Scene<'_>, node: &NodeRecord) -> Option<Claim> {
    let ranges = &scene.pool.ranges;
    let many = node.labels.keys().any(|key| MANY_RANGES.contains(&key.as_str()));
    if ranges.is_empty() || many {
        return None;
    }
    let outside: Vec<&IpNet> = node
        .pod_cidrs
        .iter()
        .filter(|cidr| !ranges.iter().any(|range| range.contains(*cidr)))
        .collect();
    let first = outside.first()?;
    let name = &node.name;
    let exits = outside
        .iter()
        .any(|cidr| !ranges.iter().any(|range| overlap(range, cidr)));
    let mut claim = claim(scene, Code::Pool02, node);
    claim.summary = format!(
        "{name} has {}, outside the pool {}",
        words::list(&outside),
        words::list(ranges)
    );
    claim.affected = outside
        .iter()
        .map(|cidr| Affected {
            prefix: Some(**cidr),
            node: Some(name.clone()),
            detail: format!("not inside {}", words::list(ranges)),
        })
        .collect();
    claim.affected_total = u32::try_from(outside.len()).unwrap_or(u32::MAX);
    let text = format!("the pool is {}", words::list(ranges));
    claim
        .evidence
        .push(scene.plane_evidence(scene.pool.witness.clone(), text));
    if exits {
        claim.cause = "--cluster-cidr was changed after the node got its CIDR, or the node came from elsewhere. \
                       kube-controller-manager says nothing while it runs, and exits at its next start or change of leader: \
                       \"failed to mark cidr … out the range of cluster cidr\"."
            .to_owned();
        claim.remedy = format!(
            "Do not restart kube-controller-manager before this is mended. Either set --cluster-cidr back to a range that \
             contains {first}, or swap the Node: drain {name}, delete the Node and create it again at once with a free CIDR of \
             the pool and its old labels, taints and annotations; its kubelet takes it without a restart."
        );
    } else {
        claim.severity = Severity::Error;
        claim.cause = "The node's CIDR is wider than the pool.".to_owned();
        claim.remedy =
            format!("Give {name} a CIDR of the pool: drain it, delete the Node and create it again with one.");
    }
    Some(claim)
}

/// POOL08: the API server keeps the two fields equal, so this comes from a foreign writer.
fn fields_differ(scene: &Scene<'_>, node: &NodeRecord) -> Option<Claim> {
    let single = node.pod_cidr.as_deref().filter(|cidr| !cidr.is_empty());
    let first = node.pod_cidrs_raw.first().map(String::as_str);
    if single == first {
        return None;
    }
    // "10.244.1.0/24" and another spelling of it are the same.
    let same = single
        .and_then(|cidr| cidr.parse::<IpNet>().ok())
        .map(|net| net.trunc());
    if same.is_some() && same == first.and_then(|cidr| cidr.parse::<IpNet>().ok()).map(|net| net.trunc()) {
        return None;
    }
    let name = &node.name;
    let mut claim = claim(scene, Code::Pool08, node);
    claim.summary = format!(
        "{name}: spec.podCIDR is {}, but spec.podCIDRs[0] is {}",
        single.unwrap_or("empty"),
        first.unwrap_or("empty")
    );
    claim.evidence.push(scene.plane_evidence(
        format!("Node {name}"),
        format!("spec.podCIDR {}", single.unwrap_or("empty")),
    ));
    claim.cause =
        "Something else than kube-controller-manager wrote the Node: both fields are always written together."
            .to_owned();
    claim.remedy = format!(
        "kubectl get node {name} --show-managed-fields -o yaml names the writer. The fields cannot be changed once set: \
         the Node must be deleted and created again."
    );
    Some(claim)
}

/// The pool and who has what of it.
pub fn report(scene: &Scene<'_>) -> PoolReport {
    let slots = &scene.book.slots;
    let ranges = scene
        .pool
        .ranges
        .iter()
        .map(|range| {
            // The defaults of kube-controller-manager: /24 and /64.
            let mask = match range {
                IpNet::V4(_) => scene.pool.mask_v4.unwrap_or(24),
                IpNet::V6(_) => scene.pool.mask_v6.unwrap_or(64),
            }
            .max(range.prefix_len());
            let taken = slots
                .iter()
                .map(|slot| slot.cidr)
                .chain(scene.pool.service_ranges.iter().copied());
            let blocks: Vec<IpNet> = taken
                .filter(|net| overlap(net, range))
                .map(|net| {
                    let length = net.prefix_len().clamp(range.prefix_len(), mask);
                    IpNet::new(net.addr(), length).map_or(*range, |net| net.trunc())
                })
                .collect();
            let used = IpNet::aggregate(&blocks).iter().fold(0u64, |sum, net| {
                sum.saturating_add(1u64.checked_shl(u32::from(mask - net.prefix_len())).unwrap_or(u64::MAX))
            });
            let capacity = 1u64
                .checked_shl(u32::from(mask - range.prefix_len()))
                .unwrap_or(u64::MAX);
            PoolRange {
                range: *range,
                witness: scene.pool.witness.clone(),
                node_mask: mask,
                capacity,
                used,
                free: capacity.saturating_sub(used),
            }
        })
        .collect();
    let nodes = slots
        .iter()
        .map(|slot| {
            let overlaps: BTreeSet<String> = scene
                .book
                .overlapping(slot.cidr)
                .filter(|other| other.owner != slot.owner)
                .map(|other| format!("{} {}", other.owner, other.cidr))
                .collect();
            let in_pool = scene.pool.ranges.iter().any(|range| range.contains(&slot.cidr));
            PoolNode {
                node: slot.owner.clone(),
                cidr: slot.cidr,
                in_pool: (!scene.pool.ranges.is_empty()).then_some(in_pool),
                overlaps: overlaps.into_iter().collect(),
            }
        })
        .collect();
    PoolReport {
        unknown: scene
            .pool
            .ranges
            .is_empty()
            .then(|| "--cluster-cidr was not given and cannot be told from the Nodes".to_owned()),
        ranges,
        nodes,
        service_ranges: scene.pool.service_ranges.clone(),
    }
}
