//! POOL06: a node of a dual-stack cluster with a pod CIDR of one family only.

use cidrift_proto::catalogue::Code;
use cidrift_proto::finding::{Affected, Claim, Severity};

use super::Scene;
use super::pool::{Ground, family};
use super::words::list;
use crate::cluster::NodeRecord;
use crate::ledger::Fate;

/// How many nodes have one family and how many both, of those that rely on the field.
fn families(scene: &Scene<'_>, ground: &Ground) -> (usize, usize) {
    let (users, unclear) = (scene.census.pod_cidr(), scene.census.unclear());
    match ground.built_in() {
        true => (users.one + unclear.one, users.both + unclear.both),
        false => (users.one, users.both),
    }
}

/// Whether the cluster is dual-stack, and who says so: the pool, or most nodes where the pool is not known.
fn dual(scene: &Scene<'_>, ground: &Ground) -> Option<(String, String)> {
    let pool = &scene.pool.ranges;
    if !pool.is_empty() {
        let v4 = pool.iter().filter(|range| range.addr().is_ipv4()).count();
        return (v4 > 0 && v4 < pool.len())
            .then(|| (scene.pool.witness.clone(), format!("the pool is {}", list(pool))));
    }
    let (one, two) = families(scene, ground);
    (two > 1 && two > one).then(|| {
        (
            "Nodes".to_owned(),
            format!("{two} have pod CIDRs of both families, {one} of one"),
        )
    })
}

/// A claim for each such node.
pub fn claims(scene: &Scene<'_>, ground: &Ground) -> Vec<Claim> {
    let Some((source, text)) = dual(scene, ground) else {
        return Vec::new();
    };
    let (one, two) = families(scene, ground);
    let single = |node: &NodeRecord| node.pod_cidrs.len() == 1 && node.pod_cidrs_raw.len() == 1 && !node.deleting;
    // Who owns exactly one, by the index: most Nodes are not looked at.
    let owners = scene.book.by_owner.iter().filter(|(_, slots)| slots.len() == 1);
    let nodes = owners
        .filter_map(|(name, _)| scene.node(name))
        .filter(|node| single(node) && ground.relies(&scene.ipam(node)));
    nodes
        .filter_map(|node| {
            let has = *node.pod_cidrs.first()?;
            let missing = if has.addr().is_ipv4() { "IPv6" } else { "IPv4" };
            let other = if has.addr().is_ipv4() { "ipv6" } else { "ipv4" };
            let name = &node.name;
            let mut claim = scene.claim_of(Code::Pool06, node);
            claim.summary = format!("{name} has {has} and no {missing} pod CIDR, in a dual-stack cluster");
            claim.affected = vec![Affected {
                prefix: Some(has),
                node: Some(name.clone()),
                detail: format!("its only pod CIDR: {missing} is missing"),
            }];
            claim.affected_total = 1;
            claim.evidence.push(scene.plane_evidence(source.clone(), text.clone()));
            // Where most nodes have one, the second range came to a living cluster.
            if one > two {
                claim.severity = Severity::Warning;
            }
            let full = ground.of_family(other).any(|space| space.count.free == 0);
            let addresses = node.internal_ips.iter();
            let one_ip = addresses.clone().count() > 0 && addresses.clone().all(|ip| ip.is_ipv4() == has.addr().is_ipv4());
            claim.cause = if full {
                format!("No {missing} block is left in the pool (POOL04).")
            } else if one > two {
                "The second range was added to a living cluster: Nodes keep what they have, for pod CIDRs cannot be added to."
                    .to_owned()
            } else if one_ip {
                format!("It registered while the cluster, or its own --node-ip, had one family: it has no {missing} address either.")
            } else {
                "It registered while the cluster had one family, or its CIDR was written by hand.".to_owned()
            };
            claim.remedy = format!(
                "Swap the Node with both CIDRs: drain {name}, delete the Node and create it again at once with {has} and a free \
                 {missing} block in spec.podCIDRs, in the order of --cluster-cidr, and its old labels, taints and annotations. \
                 New pods get both families; the CNI's own dual-stack switch must be on first."
            );
            Some(claim)
        })
        .collect()
}

/// What became of it.
pub fn fate(scene: &Scene<'_>, claim: &Claim) -> Fate {
    let over = |what: String| Fate::Gone(format!("{}: {what}", scene.plane.source));
    let name = &claim.subject;
    let Some(node) = scene.node(name) else {
        return over(format!("Node {name} is gone"));
    };
    if node.pod_cidrs.len() != 1 {
        return over(format!("{name} has {}", list(&node.pod_cidrs_raw)));
    }
    if scene.ipam(node).authoritative() == Some(false) {
        return over(format!("spec.podCIDR means nothing on {name}"));
    }
    let pool = &scene.pool.ranges;
    match pool.first() {
        Some(first) if pool.iter().all(|range| family(range) == family(first)) => {
            over(format!("the pool is {}, of one family", list(pool)))
        }
        Some(_) => Fate::Unseen(format!("whether {name} relies on its pod CIDR cannot be told now")),
        None => Fate::Unseen("whether the cluster is dual-stack cannot be told: the pool is not known".to_owned()),
    }
}
