//! POOL12: a Node was deleted and made again under its name with another pod CIDR,
//! and somebody still routes the old one. From the watch's own history: a node
//! whose earlier life was not seen is not called reborn.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Trigger};
use cidrift_proto::landing::{ForwardingEntry, Landing};
use ipnet::IpNet;

use super::{Scene, cap_affected, words};
use crate::cluster::NodeRecord;
use crate::engine::memory::{Former, Memory};

/// All nodes that were reborn and whose old CIDR is still routed.
pub fn claims(scene: &Scene<'_>, memory: &Memory) -> Vec<Claim> {
    let mut claims = Vec::new();
    for node in scene.plane.nodes.values() {
        let old: Vec<&Former> = memory
            .former_of(&node.name)
            .filter(|former| former.uid != node.uid)
            // Given to another node since: what still leads here is that node's PATH02.
            .filter(|former| scene.book.overlapping(former.cidr).all(|slot| slot.owner == node.name))
            .collect();
        if !old.is_empty() && !node.pod_cidrs.is_empty() {
            claims.extend(claim(scene, node, &old));
        }
    }
    claims
}

/// Whether this entry is of a route for (a part of) the old CIDR, and leads somewhere.
fn routes(entry: &ForwardingEntry, old: IpNet) -> bool {
    if !old.contains(&entry.meant_for()) {
        return false;
    }
    match &entry.landing {
        Landing::Underlay { .. }
        | Landing::UnresolvedNeighbour { .. }
        | Landing::Local { .. }
        | Landing::Discard { .. }
        | Landing::Multipath { .. } => true,
        Landing::Host { .. }
        | Landing::Onlink { .. }
        | Landing::NoRoute
        | Landing::DeadDevice { .. }
        | Landing::Opaque { .. } => false,
    }
}

fn claim(scene: &Scene<'_>, node: &NodeRecord, old: &[&Former]) -> Option<Claim> {
    let name = &node.name;
    let mut affected = Vec::new();
    let mut evidence = Vec::new();
    let mut unseen = Vec::new();
    for other in scene.plane.nodes.keys() {
        let Some(host) = scene.host(other) else {
            unseen.push(format!("routes of {other}: its agent does not report"));
            continue;
        };
        for former in old {
            for entry in host
                .forwarding
                .inside(former.cidr)
                .filter(|entry| routes(entry, former.cidr))
            {
                affected.push(Affected {
                    prefix: Some(former.cidr),
                    node: Some(other.clone()),
                    detail: format!("still has {} {}", entry.prefix, entry.landing),
                });
                if evidence.len() < ROWS {
                    evidence.push(scene.kernel_evidence(host, format!("{} {}", entry.prefix, entry.landing)));
                }
            }
        }
    }
    if affected.is_empty() {
        return None;
    }
    let affected_total = cap_affected(&mut affected);
    let mut hosts: Vec<&String> = affected.iter().filter_map(|row| row.node.as_ref()).collect();
    hosts.sort();
    hosts.dedup();
    let mut own: Vec<Evidence> = vec![scene.node_evidence(node)];
    own[0].text.push_str(&format!(", UID {}", node.uid));
    for former in old {
        let text = format!("had {} as UID {} until {}", former.cidr, former.uid, former.until);
        own.push(scene.plane_evidence(format!("Node {name}"), text));
    }
    own.append(&mut evidence);
    own.truncate(ROWS);
    unseen.truncate(ROWS);
    let before = words::list(old.iter().map(|former| former.cidr));
    let mut nodes = vec![name.clone()];
    nodes.extend(hosts.iter().filter(|host| **host != name).map(|host| (*host).clone()));
    Some(Claim {
        code: Code::Pool12,
        subject: name.clone(),
        severity: Code::Pool12.entry().severity,
        nodes,
        summary: format!(
            "{name} was made again with {}; {} still routed by {}",
            words::list(&node.pod_cidrs),
            if old.len() == 1 {
                format!("its old CIDR {before} is")
            } else {
                format!("its old CIDRs {before} are")
            },
            words::list(hosts.iter().take(8))
        ),
        affected,
        affected_total,
        evidence: own,
        unseen,
        cause: "The Node was deleted and registered anew, and got another CIDR; a CNI daemon that was not told, or that reads \
                its own CIDR only once at its start, keeps the old one."
            .to_owned(),
        remedy: format!(
            "Restart the CNI's daemon on {name} first, then on the other hosts named; pods of {name} with addresses of {before} \
             must be made anew (drain it)."
        ),
        changed_at: old.iter().map(|former| former.until).max(),
        trigger: Trigger::ControlPlane,
    })
}
