//! What the present does not show any more and rules need: who owned a CIDR before. Bounded.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::churn::Churn;
use crate::cluster::{ControlPlane, NodeRecord};

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
    /// Nodes that came and went.
    pub churn: Churn,
}

impl Memory {
    /// Takes note of what `new` does not have any more of `old`.
    pub fn note(&mut self, old: &ControlPlane, new: &ControlPlane, now: Timestamp) {
        self.churn.note(old, new, now);
        for (name, before) in &old.nodes {
            self.give_up(name, before, new.nodes.get(name), now);
        }
        for (name, after) in &new.nodes {
            self.take_back(name, after);
        }
    }

    /// The same for one Node that came, changed or went; `seen` is when the Nodes were last known before. Gives the CIDRs that were forgotten to make room.
    pub fn note_node(
        &mut self,
        name: &str,
        (old, seen): (Option<&NodeRecord>, Option<Timestamp>),
        new: Option<&NodeRecord>,
        now: Timestamp,
    ) -> Vec<IpNet> {
        self.churn.note_node(name, old, new, seen, now);
        let mut forgotten = Vec::new();
        if let Some(before) = old {
            forgotten = self.give_up(name, before, new, now);
        }
        if let Some(after) = new {
            self.take_back(name, after);
        }
        forgotten
    }

    fn give_up(&mut self, name: &str, before: &NodeRecord, after: Option<&NodeRecord>, now: Timestamp) -> Vec<IpNet> {
        let mut forgotten = Vec::new();
        for cidr in &before.pod_cidrs {
            if after.is_some_and(|after| after.pod_cidrs.contains(cidr)) {
                continue;
            }
            let former = Former {
                node: name.to_owned(),
                uid: before.uid.clone(),
                cidr: cidr.trunc(),
                addresses: before.internal_ips.clone(),
                until: now,
            };
            self.remember(former, &mut forgotten);
        }
        forgotten
    }

    /// A CIDR that its own node has again was never really given up.
    fn take_back(&mut self, name: &str, after: &NodeRecord) {
        if let Some(list) = self.former.get_mut(name) {
            let before = list.len();
            list.retain(|former| !after.pod_cidrs.contains(&former.cidr));
            self.count -= before - list.len();
            if list.is_empty() {
                self.former.remove(name);
            }
        }
    }

    fn remember(&mut self, former: Former, forgotten: &mut Vec<IpNet>) {
        let list = self.former.entry(former.node.clone()).or_default();
        list.retain(|known| {
            known.cidr != former.cidr || {
                self.count -= 1;
                false
            }
        });
        if list.len() == PER_NODE {
            forgotten.extend(list.pop_front().map(|former| former.cidr));
            self.count -= 1;
        }
        list.push_back(former);
        self.count += 1;
        while self.count > IN_ALL {
            let oldest = self
                .former
                .iter()
                .filter_map(|(name, list)| Some((list.front()?.until, name)))
                .min();
            let Some(name) = oldest.map(|(_, name)| name.clone()) else {
                break;
            };
            if let Some(list) = self.former.get_mut(&name) {
                forgotten.extend(list.pop_front().map(|former| former.cidr));
                self.count -= 1;
                if list.is_empty() {
                    self.former.remove(&name);
                }
            }
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeRecord;

    fn plane(nodes: &[(&str, &str, &str)]) -> ControlPlane {
        let record = |name: &str, uid: &str, cidr: &str| NodeRecord {
            name: name.to_owned(),
            uid: uid.to_owned(),
            pod_cidrs_raw: vec![cidr.to_owned()],
            pod_cidrs: vec![cidr.parse().unwrap()],
            ..NodeRecord::default()
        };
        ControlPlane {
            nodes: nodes
                .iter()
                .map(|(name, uid, cidr)| ((*name).to_owned(), record(name, uid, cidr)))
                .collect(),
            ..ControlPlane::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_last_owner_of_a_cidr_is_remembered() {
        let mut memory = Memory::default();
        let (first, second) = (
            plane(&[("a", "u1", "10.0.1.0/24")]),
            plane(&[("b", "u2", "10.0.1.0/24")]),
        );
        memory.note(&first, &second, at(1));
        memory.note(&second, &plane(&[]), at(2));
        let owner = memory.owner_before("10.0.1.128/25".parse().unwrap()).unwrap();
        assert_eq!((owner.node.as_str(), owner.until), ("b", at(2)));
        assert!(memory.owner_before("10.0.0.0/16".parse().unwrap()).is_none());
    }

    #[test]
    fn a_cidr_that_its_node_has_again_was_not_given_up() {
        let mut memory = Memory::default();
        let with = plane(&[("a", "u1", "10.0.1.0/24")]);
        memory.note(&with, &plane(&[]), at(1));
        memory.note(&plane(&[]), &with, at(2));
        assert_eq!((memory.former().count(), memory.count), (0, 0));
    }

    #[test]
    fn memory_is_bounded_by_node_and_in_all() {
        let mut memory = Memory::default();
        for life in 0..100u8 {
            let before = plane(&[("a", "u", &format!("10.0.{life}.0/24"))]);
            memory.note(&before, &plane(&[]), at(life.into()));
        }
        assert_eq!(memory.former_of("a").count(), PER_NODE);
        for node in 0..IN_ALL + 10 {
            let cidr = format!("10.{}.{}.0/24", node / 256, node % 256);
            let name = format!("n{node}");
            memory.note(
                &plane(&[(&name, "u", &cidr)]),
                &plane(&[]),
                at(1_000 + i64::try_from(node).unwrap()),
            );
        }
        assert_eq!((memory.count, memory.former().count()), (IN_ALL, IN_ALL));
        assert_eq!(memory.former_of("a").count(), 0, "the oldest went first");
    }
}
