//! POOL13: nodes and the ClusterCIDRs of node-ipam-controller (reference B).

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Severity, Trigger};
use ipnet::IpNet;

use super::selector::{self, Selected};
use super::{Scene, cap_affected, words};
use crate::cluster::NodeRecord;
use crate::cluster::objects::{ClusterCidr, Resource};
use crate::ipam::Ipam;

/// Those of the ClusterCIDRs themselves.
pub fn claims(scene: &Scene<'_>) -> Vec<Claim> {
    short(scene, &scene.plane.around.delegates.cluster_cidrs)
}

/// The labels that nodes have, where selectors of ClusterCIDRs are held against them.
pub fn keys<'a>(scene: &Scene<'a>) -> BTreeSet<&'a str> {
    match scene.plane.around.delegates.cluster_cidrs.is_empty() {
        true => BTreeSet::new(),
        false => selector::keys(scene.plane.nodes.values()),
    }
}

/// The claim of one node; none in a cluster without ClusterCIDRs.
pub fn claim(scene: &Scene<'_>, node: &NodeRecord, keys: &BTreeSet<&str>) -> Option<Claim> {
    let pools = &scene.plane.around.delegates.cluster_cidrs;
    if pools.is_empty() || node.deleting {
        return None;
    }
    of_node(scene, node, pools, keys)
}

fn ranges(pool: &ClusterCidr) -> impl Iterator<Item = IpNet> {
    pool.v4.into_iter().chain(pool.v6)
}

/// Prefix length of a node's share of this range: one field drives both families.
fn mask(pool: &ClusterCidr, range: IpNet) -> u8 {
    range.max_prefix_len().saturating_sub(pool.per_node_host_bits)
}

fn shown(pool: &ClusterCidr) -> String {
    let going = if pool.deleting { ", being deleted" } else { "" };
    format!("{} ({}{going})", pool.name, words::list(ranges(pool)))
}

fn of_node(scene: &Scene<'_>, node: &NodeRecord, pools: &[ClusterCidr], keys: &BTreeSet<&str>) -> Option<Claim> {
    if matches!(scene.ipam(node), Ipam::Delegated(_) | Ipam::NoDataPlane(_)) {
        return None;
    }
    let name = &node.name;
    let mut claim = scene.claim_of(Code::Pool13, node);
    let unseen = scene.plane.around.unseen(Resource::ClusterCidrs);
    claim.unseen.extend(unseen);
    let evidence = |text: String| scene.around_evidence(Resource::ClusterCidrs, "ClusterCIDRs".to_owned(), text);
    let all = words::list(pools.iter().take(8).map(shown));
    if node.pod_cidrs_raw.is_empty() {
        // Those that are being deleted give nothing out.
        let giving = || pools.iter().filter(|pool| !pool.deleting);
        let mut answers = giving().map(|pool| selector::selects(&pool.selector, node, keys));
        if answers.any(|answer| answer != Selected::No) {
            return None;
        }
        claim.severity = Severity::Error;
        claim.summary = format!("{name} has no pod CIDR, and no ClusterCIDR selects it");
        claim.evidence.push(evidence(all));
        claim.cause = "node-ipam-controller gives a node a CIDR of a ClusterCIDR whose nodeSelector matches, and none does: \"no \
                       cidrSets with matching labels found\"."
            .to_owned();
        claim.remedy = format!(
            "kubectl get node {name} --show-labels; then set the label that a selector asks for, or add a ClusterCIDR that selects it. \
             Selectors of existing ones cannot be changed."
        );
        return Some(claim);
    }
    for cidr in &node.pod_cidrs {
        let around: Vec<&ClusterCidr> = pools
            .iter()
            .filter(|pool| ranges(pool).any(|range| range.contains(cidr)))
            .collect();
        let sized = || {
            let fits = |pool: &&&ClusterCidr| mask(pool, *cidr) == cidr.prefix_len();
            around.iter().filter(fits)
        };
        let detail;
        if around.is_empty() {
            detail = "in no ClusterCIDR".to_owned();
            claim.severity = Severity::Info;
            claim.cause = "The node is older than the ClusterCIDRs, or the one it came from is gone. node-ipam-controller leaves such \
                           nodes as they are; they go on working."
                .to_owned();
            claim.remedy = format!(
                "Nothing, as long as {name} works. To move it into a pool: drain it, delete the Node and create it again with a CIDR of \
                 one; node-ipam-controller never rewrites one that is set."
            );
        } else if sized().next().is_none() {
            let sizes = around
                .iter()
                .map(|pool| format!("/{} of {}", mask(pool, *cidr), pool.name));
            detail = format!("of another size than {}", words::list(sizes));
            claim.cause =
                "The ClusterCIDR hands out blocks of one size; this one was given by somebody else, or by an earlier \
                           ClusterCIDR over the same range."
                    .to_owned();
            claim.remedy = "See that no second allocator runs (kube-controller-manager must have --allocate-node-cidrs=false); then \
                            swap the node to a CIDR of the right size."
                .to_owned();
        } else if sized().all(|pool| selector::selects(&pool.selector, node, keys) == Selected::No) {
            detail = format!(
                "in {}, which does not select the node",
                words::list(sized().map(|pool| &pool.name))
            );
            claim.severity = Severity::Info;
            claim.cause = "The node's labels were changed after it got its CIDR. That is not corrected, and does no harm while it \
                           lives; made again it would get a CIDR of another pool, or none."
                .to_owned();
            claim.remedy = format!("kubectl get node {name} --show-labels; set the label back if it was not meant.");
        } else {
            continue;
        }
        claim.summary = format!("{cidr} of {name} is {detail}");
        claim.affected = vec![Affected {
            prefix: Some(*cidr),
            node: Some(name.clone()),
            detail,
        }];
        claim.affected_total = 1;
        claim.evidence.push(evidence(all));
        return Some(claim);
    }
    None
}

/// ClusterCIDRs with nothing left, of which no other with the same selector has anything left either.
fn short(scene: &Scene<'_>, pools: &[ClusterCidr]) -> Vec<Claim> {
    let mut claims = Vec::new();
    let giving: Vec<&ClusterCidr> = pools.iter().filter(|pool| !pool.deleting).collect();
    let mut done: BTreeSet<usize> = BTreeSet::new();
    for v4 in [true, false] {
        for (at, pool) in giving.iter().enumerate() {
            let alike = |other: &&&ClusterCidr| other.selector == pool.selector;
            let first = giving.iter().position(|other| other.selector == pool.selector);
            let of_family = |pool: &ClusterCidr| if v4 { pool.v4 } else { pool.v6 };
            if first != Some(at) || done.contains(&at) {
                continue;
            }
            let ranges: Vec<(IpNet, u8)> = giving
                .iter()
                .filter(alike)
                .filter_map(|other| Some((of_family(other)?, mask(other, of_family(other)?))))
                .collect();
            let Some((widest, _)) = ranges.iter().min_by_key(|(range, _)| range.prefix_len()) else {
                continue;
            };
            if ranges.iter().any(|(range, mask)| left(scene, *range, *mask)) {
                continue;
            }
            done.insert(at);
            let names = words::list(giving.iter().filter(alike).map(|other| &other.name));
            let mut affected: Vec<Affected> = ranges
                .iter()
                .map(|(range, mask)| Affected {
                    prefix: Some(*range),
                    node: None,
                    detail: format!("every /{mask} of it is taken"),
                })
                .collect();
            let affected_total = cap_affected(&mut affected);
            let text = format!(
                "{names}: {}",
                words::list(ranges.iter().map(|(range, mask)| format!("{range} in /{mask}")))
            );
            claims.push(Claim {
                code: Code::Pool13,
                subject: widest.to_string(),
                severity: Severity::Warning,
                nodes: Vec::new(),
                summary: format!("ClusterCIDR {names} has nothing left for another node"),
                affected,
                affected_total,
                evidence: vec![
                    scene.around_evidence(Resource::ClusterCidrs, "ClusterCIDRs".to_owned(), text),
                    scene.plane_evidence("Nodes".to_owned(), "their CIDRs take all of it".to_owned()),
                ],
                unseen: scene.plane.around.unseen(Resource::ClusterCidrs).into_iter().collect(),
                cause: "As many nodes have a CIDR of it as it has blocks. The next node that only it selects gets none: \"unable to get \
                        a clusterCIDR for node …, no available CIDRs\"."
                    .to_owned(),
                remedy: "Add another ClusterCIDR with the same nodeSelector: kubectl apply -f; those that exist cannot be widened. Node \
                         objects that are not in use give theirs back when they are deleted."
                    .to_owned(),
                changed_at: scene.plane.nodes.values().map(|node| node.changed_at).max(),
                trigger: Trigger::ControlPlane,
            });
        }
    }
    claims
}

/// Whether a block of this range is free. Counted by the nodes' CIDRs in it, each as many blocks as it covers.
fn left(scene: &Scene<'_>, range: IpNet, mask: u8) -> bool {
    let blocks = |length: u8| {
        1u128
            .checked_shl(u32::from(mask.saturating_sub(length)))
            .unwrap_or(u128::MAX)
    };
    let mut taken: BTreeSet<IpNet> = BTreeSet::new();
    for slot in scene.book.overlapping(range) {
        let length = slot
            .cidr
            .prefix_len()
            .clamp(range.prefix_len(), mask.max(range.prefix_len()));
        taken.extend(IpNet::new(slot.cidr.addr(), length).ok().map(|net| net.trunc()));
    }
    let taken: Vec<IpNet> = taken.into_iter().collect();
    let used = IpNet::aggregate(&taken)
        .iter()
        .fold(0u128, |sum, net| sum.saturating_add(blocks(net.prefix_len())));
    used < blocks(range.prefix_len())
}
