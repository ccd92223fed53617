//! POOL12: a Node was deleted and made again under its name with another pod CIDR,
//! and somebody still uses the old one: hosts that route it, as far as the watch's own history
//! goes, and pods that are older than their Node.

use std::collections::BTreeSet;

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Evidence, ROWS, Trigger};
use cidrift_proto::landing::{ForwardingEntry, Landing};
use ipnet::IpNet;

use super::outlived::{self, Leftover};
use super::{Scene, cap_affected, words};
use crate::cluster::NodeRecord;
use crate::cluster::objects::Resource;
use crate::engine::memory::{Former, Memory};

/// The claim of one node, if it was reborn and its old CIDR is still in use.
pub fn of(scene: &Scene<'_>, memory: &Memory, node: &NodeRecord) -> Option<Claim> {
    if node.pod_cidrs.is_empty() {
        return None;
    }
    let lives = memory.former_of(&node.name);
    let had: Vec<&Former> = lives.filter(|former| former.uid != node.uid).collect();
    let left = outlived::of(scene, node, &had);
    let old: Vec<&Former> = had
        .into_iter()
        // Given to another node since: what still leads here is that node's PATH02.
        .filter(|former| scene.book.overlapping(former.cidr).all(|slot| slot.owner == node.name))
        .collect();
    if old.is_empty() && left.is_empty() {
        return None;
    }
    claim(scene, node, &old, &left)
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

fn claim(scene: &Scene<'_>, node: &NodeRecord, old: &[&Former], left: &[Leftover<'_>]) -> Option<Claim> {
    let name = &node.name;
    let mut affected = Vec::new();
    let mut evidence = Vec::new();
    for other in scene
        .hosts
        .keys()
        .filter(|name| !old.is_empty() && scene.node(name).is_some())
    {
        let Some(host) = scene.host(other) else { continue };
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
    if affected.is_empty() && left.is_empty() {
        return None;
    }
    let routed = !affected.is_empty();
    let mut hosts: Vec<String> = affected.iter().filter_map(|row| row.node.clone()).collect();
    affected.extend(outlived::rows(node, left));
    let affected_total = cap_affected(&mut affected);
    hosts.sort();
    hosts.dedup();
    let mut own: Vec<Evidence> = vec![scene.node_evidence(node)];
    own[0].text.push_str(&format!(", UID {}", node.uid));
    for former in old {
        let text = format!("had {} as UID {} until {}", former.cidr, former.uid, former.until);
        own.push(scene.plane_evidence(format!("Node {name}"), text));
    }
    if !left.is_empty() {
        own.push(outlived::evidence(scene, node, left));
    }
    own.append(&mut evidence);
    own.truncate(ROWS);
    let silent = scene.plane.nodes.keys().filter(|name| scene.host(name).is_none());
    let pods = scene.plane.around.unseen(Resource::Pods);
    let unseen = silent
        .filter(|_| !old.is_empty())
        .map(|other| format!("routes of {other}: its agent does not report"))
        .chain(pods.map(|why| format!("pods of {name} with old addresses: {why}")))
        .take(ROWS)
        .collect();
    let before = words::list(old.iter().map(|former| former.cidr));
    let mut nodes = vec![name.clone()];
    nodes.extend(hosts.iter().filter(|host| *host != name).cloned());
    let late = left.iter().any(|left| left.late);
    let pods = left.iter().map(|left| &left.pod.uid).collect::<BTreeSet<_>>().len();
    let now = words::list(&node.pod_cidrs);
    let mut what = Vec::new();
    if routed {
        what.push(format!(
            "{} still routed by {}",
            if old.len() == 1 {
                format!("its old CIDR {before} is")
            } else {
                format!("its old CIDRs {before} are")
            },
            words::list(hosts.iter().take(8))
        ));
    }
    if !left.is_empty() {
        let addresses = if old.is_empty() {
            "addresses that it does not have".to_owned()
        } else {
            format!("addresses of {before}")
        };
        let verb = if pods == 1 { "runs" } else { "run" };
        what.push(format!(
            "{} {verb} on with {addresses}",
            words::count(pods, "pod", "pods")
        ));
    }
    let mut cause = "The Node was deleted and registered anew, and got another CIDR; a CNI daemon that was not told, or that reads \
                     its own CIDR only once at its start, keeps the old one."
        .to_owned();
    if !left.is_empty() {
        cause.push_str(if hosts.iter().any(|host| host != name) {
            " Pods keep the address that they were started with, and are reached only as long as others keep its route."
        } else {
            " Pods keep the address that they were started with: nobody else routes it to them any more."
        });
    }
    if late {
        cause.push_str(" Some of them started after that: the host still hands out the old CIDR (HOST01).");
    }
    let which = if old.is_empty() {
        "the addresses named".to_owned()
    } else {
        format!("addresses of {before}")
    };
    let replace = if left.is_empty() {
        format!("ods of {name} with {which} must be made anew (drain it).")
    } else {
        format!(
            "ods of {name} with {which} must be made anew, one by one (kubectl delete pod; their controllers replace them) or all \
             (kubectl drain {name} --ignore-daemonsets --delete-emptydir-data)."
        )
    };
    let remedy = if routed || late {
        format!("Restart the CNI's daemon on {name} first, then on the other hosts named; p{replace}")
    } else {
        format!("P{replace}")
    };
    Some(Claim {
        code: Code::Pool12,
        subject: name.clone(),
        severity: Code::Pool12.entry().severity,
        nodes,
        summary: format!("{name} was made again with {now}; {}", what.join("; ")),
        affected,
        affected_total,
        evidence: own,
        unseen,
        cause,
        remedy,
        changed_at: old.iter().map(|former| former.until).max().or(node.created_at),
        trigger: Trigger::ControlPlane,
    })
}
