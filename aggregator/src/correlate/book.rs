//! Who owns which pod CIDR and which underlay address, indexed once per change of
//! the control plane.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::{ControlPlane, PoolConfig};
use crate::netmap::NetMap;

/// A pod CIDR of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The CIDR.
    pub cidr: IpNet,
    /// The node that owns it.
    pub owner: String,
    /// Other nodes whose CIDRs overlap it: whose it is cannot be said.
    pub contested: Vec<String>,
}

/// The index.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Every pod CIDR of every node, by node name and then in the Node's order.
    pub slots: Vec<Slot>,
    /// Positions in `slots` by CIDR.
    pub by_net: NetMap<Vec<usize>>,
    /// Positions in `slots` by owner.
    pub by_owner: BTreeMap<String, Vec<usize>>,
    /// Names of the nodes that own an underlay address: InternalIPs and flannel's public-ip.
    addresses: HashMap<IpAddr, Vec<String>>,
}

impl Book {
    /// Indexes a control plane's state.
    pub fn new(plane: &ControlPlane) -> Self {
        let mut book = Self::default();
        for node in plane.nodes.values() {
            for cidr in &node.pod_cidrs {
                let at = book.slots.len();
                book.slots.push(Slot {
                    cidr: cidr.trunc(),
                    owner: node.name.clone(),
                    contested: Vec::new(),
                });
                book.by_net.or_default(*cidr).push(at);
                book.by_owner.entry(node.name.clone()).or_default().push(at);
            }
            let public = node.flannel.as_ref().and_then(|flannel| flannel.public_ip);
            for address in node.internal_ips.iter().copied().chain(public) {
                let owners = book.addresses.entry(address).or_default();
                if !owners.contains(&node.name) {
                    owners.push(node.name.clone());
                }
            }
        }
        for at in 0..book.slots.len() {
            let Slot { cidr, owner, .. } = &book.slots[at];
            let mut others: Vec<String> = book
                .overlapping(*cidr)
                .filter(|slot| slot.owner != *owner)
                .map(|slot| slot.owner.clone())
                .collect();
            others.sort();
            others.dedup();
            book.slots[at].contested = others;
        }
        book
    }

    /// The slots that have an address in common with this prefix.
    pub fn overlapping(&self, prefix: IpNet) -> impl Iterator<Item = &Slot> {
        let above = self.by_net.covering(prefix).filter(move |(net, _)| *net != prefix);
        above
            .chain(self.by_net.inside(prefix))
            .flat_map(|(_, slots)| slots)
            .map(|at| &self.slots[*at])
    }

    /// The nodes that own an underlay address.
    pub fn owners_of_address(&self, address: IpAddr) -> &[String] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    /// True where a route for `prefix` cannot be meant for `slot` alone: it is wider
    /// than the slot and a default route, as wide as the pool, or covers another node's CIDR too.
    pub fn aggregate(&self, prefix: IpNet, slot: &Slot, pool: &PoolConfig) -> bool {
        prefix.prefix_len() < slot.cidr.prefix_len()
            && (prefix.prefix_len() == 0
                || pool.ranges.iter().any(|range| prefix.contains(range))
                || self.overlapping(prefix).any(|other| other.owner != slot.owner))
    }
}
