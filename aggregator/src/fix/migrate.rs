//! What it would mean to change `--cluster-cidr`: sizes, conflicts, the order of the nodes, and what must not be restarted.
//!
//! kube-controller-manager exits at its start while a Node has a CIDR outside of its range (reference A), so a changed flag is
//! a matter of order, not of one restart. It changes nothing and knows no clock.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::choose::{Chooser, Family};
use super::drain::{Allowed, Drains};
use super::ground::{Ground, NodeGround};
use super::planner::wanted;
use crate::correlate::words::list;
use crate::netmap::overlap;
use crate::summary::PoolRange;

/// How many bits kube-controller-manager lets an IPv6 range and a node's CIDR differ by (reference A).
const V6_BITS: u8 = 16;

/// Twice what is used, in percent: room to grow by the same again.
const ENOUGH: u64 = 200;

/// Nodes named of which something was not seen.
const NAMED: usize = 5;

/// A new `--cluster-cidr`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// The ranges, at most one a family.
    pub ranges: Vec<IpNet>,
    /// `--node-cidr-mask-size-ipv4`; `None`: as now.
    pub mask_v4: Option<u8>,
    /// `--node-cidr-mask-size-ipv6`; `None`: as now.
    pub mask_v6: Option<u8>,
    /// What one node takes, for the duration in all.
    pub per_node: Duration,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// Ranges now.
    pub from: Vec<IpNet>,
    /// Each new range.
    pub to: Vec<NewRange>,
    /// Every node's CIDR lies in the new ranges already.
    pub contains_old: bool,
    /// What makes it wrong or impossible.
    pub conflicts: Vec<String>,
    /// What is to be thought of.
    pub warnings: Vec<String>,
    /// What to do, in this order.
    pub steps: Vec<String>,
    /// Nodes that must be swapped, in their order.
    pub nodes: Vec<Moved>,
    /// What they take together, one after the other, in seconds.
    pub seconds: u64,
    /// What could not be seen.
    pub unseen: Vec<String>,
}

impl Migration {
    /// Whether a family of the Nodes' CIDRs is in none of the new ranges, or one of them cannot be one.
    pub(super) fn lacks(&self, now: &Ground, asked: usize) -> bool {
        let has = |cidr: &IpNet| self.to.iter().any(|new| Family::of(&new.range) == Family::of(cidr));
        self.to.len() < asked || !now.nodes.values().flat_map(|node| &node.cidrs).all(has)
    }

    /// The ground as it would be if the new ranges were the pool.
    pub(super) fn ground(&self, now: &Ground) -> Ground {
        let mut there = now.clone();
        let ranges = self.to.iter().map(|new| PoolRange {
            range: new.range,
            node_mask: new.node_mask,
            ..PoolRange::default()
        });
        there.pool.ranges = ranges.collect();
        there
    }
}

/// A new range in blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRange {
    /// The range.
    pub range: IpNet,
    /// Length of a node's CIDR.
    pub node_mask: u8,
    /// Blocks in all; saturating.
    pub capacity: u64,
    /// Nodes that want one.
    pub needed: u64,
    /// How many times they fit, in percent.
    pub headroom: u64,
}

/// A node that gets another CIDR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Its name.
    pub node: String,
    /// What it has.
    pub from: Vec<IpNet>,
    /// What it would get; none where nothing is free.
    pub to: Vec<IpNet>,
    /// Pods that are evicted.
    pub pods: usize,
    /// What its drain would meet.
    pub blocked: Vec<String>,
}

/// What the change would mean.
pub fn what_if(ground: &Ground, target: &Target, allowed: Allowed) -> Migration {
    let mut migration = Migration {
        from: ground.pool.ranges.iter().map(|range| range.range).collect(),
        to: Vec::new(),
        contains_old: ground
            .nodes
            .values()
            .flat_map(|node| &node.cidrs)
            .all(|cidr| target.ranges.iter().any(|range| range.contains(cidr))),
        conflicts: Vec::new(),
        warnings: Vec::new(),
        steps: Vec::new(),
        nodes: Vec::new(),
        seconds: 0,
        unseen: ground.gaps.clone(),
    };
    families(ground, target, &mut migration);
    for range in &target.ranges {
        sizes(ground, *range, target, &mut migration);
        migration.conflicts.extend(conflicts(ground, *range));
    }
    unseen(ground, &mut migration);
    migration.unseen.push(
        "routes of hosts to the new range: agents tell only what overlaps today's pool. On the hosts: ip route get ADDRESS".to_owned(),
    );
    if !migration.contains_old {
        moved(ground, allowed, &mut migration);
    }
    migration.seconds = target.per_node.as_secs().saturating_mul(migration.nodes.len() as u64);
    steps(ground, target, &mut migration);
    migration
}

fn families(ground: &Ground, target: &Target, migration: &mut Migration) {
    let of = |nets: &mut dyn Iterator<Item = &IpNet>| nets.map(Family::of).collect::<BTreeSet<_>>();
    let new = of(&mut target.ranges.iter());
    if new.len() < target.ranges.len() {
        let text = "--cluster-cidr takes one range a family, and no more than two".to_owned();
        migration.conflicts.push(text);
    }
    for missing in of(&mut ground.nodes.values().flat_map(|node| &node.cidrs)).difference(&new) {
        migration.conflicts.push(format!(
            "Nodes have {missing} CIDRs, and the new ranges have no {missing}: the controller manager exits over those"
        ));
    }
    if let [first, second] = target.ranges.as_slice()
        && overlap(first, second)
    {
        migration.conflicts.push(format!("{first} and {second} overlap"));
    }
}

fn mask_now(ground: &Ground, family: Family) -> Option<u8> {
    let mut ranges = ground.pool.ranges.iter();
    ranges
        .find(|range| Family::of(&range.range) == family)
        .map(|range| range.node_mask)
}

fn sizes(ground: &Ground, range: IpNet, target: &Target, migration: &mut Migration) {
    let family = Family::of(&range);
    let now = mask_now(ground, family);
    let (asked, usual) = match family {
        Family::V4 => (target.mask_v4, 24),
        Family::V6 => (target.mask_v6, 64),
    };
    let node_mask = asked.or(now).unwrap_or(usual);
    if range.trunc() != range {
        migration
            .conflicts
            .push(format!("{range} has host bits: {} is meant?", range.trunc()));
    }
    let Some(bits) = node_mask.checked_sub(range.prefix_len()) else {
        let text = format!("a node's /{node_mask} is wider than {range}");
        return migration.conflicts.push(text);
    };
    if node_mask > range.max_prefix_len() {
        return migration
            .conflicts
            .push(format!("/{node_mask} is no length of an {family} prefix"));
    }
    if family == Family::V6 && bits > V6_BITS {
        migration.conflicts.push(format!(
            "{range} in /{node_mask} is more than 2^{V6_BITS} blocks: the controller manager refuses that (\"the node CIDR size is too big\")"
        ));
    }
    if let Some(now) = now
        && now != node_mask
        && ground.pool.ranges.iter().any(|old| overlap(&old.range, &range))
    {
        migration.conflicts.push(format!(
            "{range} overlaps the old range and its blocks are /{node_mask} instead of /{now}: the allocator counts in blocks of \
             one size, and would hand out parts of what nodes have"
        ));
    }
    let needed = ground.nodes.len() as u64;
    let capacity = 1u64.checked_shl(bits.into()).unwrap_or(u64::MAX);
    let headroom = capacity.saturating_mul(100).checked_div(needed).unwrap_or(u64::MAX);
    if headroom < 100 {
        migration.conflicts.push(format!(
            "{range} has {capacity} blocks of /{node_mask}, and there are {needed} nodes"
        ));
    } else if headroom < ENOUGH {
        migration.warnings.push(format!(
            "{range} has {capacity} blocks of /{node_mask} for {needed} nodes: less than twice what is used leaves no room to grow"
        ));
    }
    migration.to.push(NewRange {
        range,
        node_mask,
        capacity,
        needed,
        headroom,
    });
}

fn unseen(ground: &Ground, migration: &mut Migration) {
    if ground.pool.service_ranges.is_empty() {
        migration.unseen.push("the service range".to_owned());
    }
    let told = |node: &NodeGround| node.view.as_ref().is_some_and(|view| view.facts.is_some());
    let silent = ground
        .nodes
        .iter()
        .filter(|(_, node)| !told(node))
        .map(|(name, _)| name.as_str());
    let silent: Vec<&str> = silent.collect();
    match silent.as_slice() {
        [] => {}
        few if few.len() <= NAMED => migration.unseen.push(format!("interfaces of {}", few.join(", "))),
        [first, rest @ ..] => {
            let text = format!("interfaces of {first} and {} more nodes", rest.len());
            migration.unseen.push(text);
        }
    }
}

/// Who has a part of it already and would keep it.
fn conflicts(ground: &Ground, range: IpNet) -> Vec<String> {
    let mut found = Vec::new();
    for service in ground.pool.service_ranges.iter().filter(|net| overlap(net, &range)) {
        found.push(format!(
            "{range} overlaps the service range {service}: what is sent to a service would be a pod's, and those blocks are not \
             handed out"
        ));
    }
    for (name, node) in &ground.nodes {
        for address in node.addresses.iter().filter(|address| range.contains(*address)) {
            found.push(format!("{range} contains {name}'s own address {address}"));
        }
        let facts = node.view.as_ref().and_then(|view| view.facts.as_ref());
        let links = facts.iter().flat_map(|facts| &facts.links);
        for link in links.filter(|link| !link.role.of_pods()) {
            // The Node's own address was named already.
            let others = link
                .addresses
                .iter()
                .filter(|net| !node.addresses.contains(&net.addr()));
            for net in others.filter(|net| overlap(&net.trunc(), &range)) {
                found.push(format!("{range} overlaps {net} of {} on {name}", link.name));
            }
        }
    }
    found
}

/// Every node with a CIDR outside, the control plane last, those with the fewest pods first.
fn moved(ground: &Ground, allowed: Allowed, migration: &mut Migration) {
    let there = migration.ground(ground);
    let drains = Drains::new(ground);
    let mut rows = Vec::new();
    for (name, node) in &ground.nodes {
        let outside = node
            .cidrs
            .iter()
            .any(|cidr| !there.pool.ranges.iter().any(|range| range.range.contains(cidr)));
        if outside {
            let drain = drains.look(name, allowed);
            rows.push(((node.control_plane(), drain.evicted.len(), name.clone()), drain));
        }
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut chooser = Chooser::new(&there);
    for ((_, pods, name), drain) in rows {
        let Some(node) = ground.nodes.get(&name) else { continue };
        let mut blocked = drain.blocked;
        let mut to = Vec::new();
        // Ranges that are none were said already.
        if !there.pool.ranges.is_empty() {
            match wanted(&there, &name, node, &mut chooser) {
                Ok(cidrs) => to = cidrs,
                Err(why) => blocked.push(why),
            }
        }
        migration.nodes.push(Moved {
            node: name,
            from: node.cidrs.clone(),
            to,
            pods,
            blocked,
        });
    }
}

fn steps(ground: &Ground, target: &Target, migration: &mut Migration) {
    let ranges = target
        .ranges
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let names = "what else names the range follows: kubeadm-config, kube-proxy's clusterCIDR, the CNI's network, firewalls, masquerading \
                 (kubectl cidrift pool -o wide shows who names it)";
    let both = both(ground, target, &migration.to);
    let steps = &mut migration.steps;
    if migration.contains_old {
        steps.push(format!(
            "start kube-controller-manager with --cluster-cidr={ranges}: every Node's CIDR lies in it, so it starts, and no node has to \
             be touched"
        ));
        steps.push(names.to_owned());
        return;
    }
    steps.push(format!(
        "do not start any kube-controller-manager with --cluster-cidr={ranges} yet: it exits while one Node has a CIDR outside, and \
         with it every controller is gone. A restart or a change of leader is enough, if the flag is changed already"
    ));
    if let Some(both) = both {
        steps.push(format!(
            "or give it a range that contains both meanwhile: --cluster-cidr={both} starts with old and new nodes; it may hand out \
             any block of that, so add no node until the end"
        ));
    }
    steps.push(names.to_owned());
    steps.push(format!(
        "let the CNI route old and new CIDRs at a time ({}): pods of both reach each other until the last node is done",
        list(&target.ranges)
    ));
    steps.push(format!(
        "swap the nodes below, one after the other: kubectl cidrift fix --migrate {ranges} shows how, and does it with --yes"
    ));
    steps.push(format!("start kube-controller-manager with --cluster-cidr={ranges} when the last old CIDR is gone (kubectl cidrift pool)"));
}

/// For each new range the smallest one around it and what is there, if nobody else has a part of it and the controller
/// manager takes one as large.
fn both(ground: &Ground, target: &Target, new: &[NewRange]) -> Option<String> {
    // Of ranges that cannot be it was said already.
    if new.len() != target.ranges.len() {
        return None;
    }
    let mut wide: Vec<IpNet> = new.iter().map(|new| new.range.trunc()).collect();
    for cidr in ground.nodes.values().flat_map(|node| &node.cidrs) {
        let of_family = |net: &&mut IpNet| Family::of(net) == Family::of(cidr);
        let around = wide.iter_mut().find(of_family)?;
        while !around.contains(cidr) {
            *around = around.supernet()?;
        }
    }
    let taken = |(wide, new): (&IpNet, &NewRange)| {
        let bits = new.node_mask.saturating_sub(wide.prefix_len());
        (Family::of(wide) == Family::V4 || bits <= V6_BITS) && conflicts(ground, *wide).is_empty()
    };
    let all = wide.iter().zip(new).all(taken);
    all.then(|| wide.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
}
