//! What the present does not show any more and rules need: who owned a CIDR
//! before, and what a node's routes were like. Bounded.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::cluster::ControlPlane;
use crate::correlate::habit::Seen;
use crate::netmap::overlap;

/// A CIDR that a Node object had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// The node.
    pub node: String,
    /// The Node object's UID.
    pub uid: String,
    /// What it had.
    pub cidr: IpNet,
    /// Its InternalIPs then.
    pub addresses: Vec<IpAddr>,
    /// When it was seen to be gone, aggregator's clock.
    pub until: Timestamp,
}

/// CIDRs remembered of one node name: it has at most two at a time (one per
/// family), so this is four lives.
const PER_NODE: usize = 8;

/// CIDRs remembered in all: a cluster of the largest supported size (15,000
/// nodes) recreated once, rounded up.
const IN_ALL: usize = 16_384;

/// What is remembered.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    former: BTreeMap<String, VecDeque<Former>>,
    count: usize,
    /// What nodes' routes were like, by name; as long as the Node exists.
    pub seen: BTreeMap<String, Seen>,
}

impl Memory {
    /// Takes note of what `new` does not have any more of `old`.
    pub fn note(&mut self, old: &ControlPlane, new: &ControlPlane, now: Timestamp) {
        for (name, before) in &old.nodes {
            let after = new.nodes.get(name);
            for cidr in &before.pod_cidrs {
                if after.is_some_and(|after| after.pod_cidrs.contains(cidr)) {
                    continue;
                }
                self.remember(Former {
                    node: name.clone(),
                    uid: before.uid.clone(),
                    cidr: cidr.trunc(),
                    addresses: before.internal_ips.clone(),
                    until: now,
                });
            }
            if after.is_none() {
                self.seen.remove(name);
            }
        }
        // A CIDR that its own node has again was never really given up.
        for (name, after) in &new.nodes {
            if let Some(list) = self.former.get_mut(name) {
                let before = list.len();
                list.retain(|former| !after.pod_cidrs.contains(&former.cidr));
                self.count -= before - list.len();
            }
        }
    }

    fn remember(&mut self, former: Former) {
        let list = self.former.entry(former.node.clone()).or_default();
        list.retain(|known| {
            known.cidr != former.cidr || {
                self.count -= 1;
                false
            }
        });
        if list.len() == PER_NODE {
            list.pop_front();
            self.count -= 1;
        }
        list.push_back(former);
        self.count += 1;
        while self.count > IN_ALL {
            let oldest = self
                .former
                .iter()
                .filter_map(|(name, list)| Some((list.front()?.until, name.clone())))
                .min();
            let Some((_, name)) = oldest else { break };
            if let Some(list) = self.former.get_mut(&name) {
                list.pop_front();
                self.count -= 1;
            }
        }
        self.former.retain(|_, list| !list.is_empty());
    }

    /// Everything remembered, by node name, oldest first.
    pub fn former(&self) -> impl Iterator<Item = &Former> {
        self.former.values().flatten()
    }

    /// What this node had before.
    pub fn former_of(&self, node: &str) -> impl Iterator<Item = &Former> {
        self.former.get(node).into_iter().flatten()
    }

    /// The last owner of a CIDR that overlaps `prefix` and is no longer than it.
    pub fn owner_before(&self, prefix: IpNet) -> Option<&Former> {
        let owners = self.former().filter(|former| former.cidr.contains(&prefix));
        owners.max_by_key(|former| former.until)
    }

    /// Whether anything is remembered that overlaps `prefix`.
    pub fn knows(&self, prefix: IpNet) -> bool {
        self.former().any(|former| overlap(&former.cidr, &prefix))
    }
}
