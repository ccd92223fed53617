//! Who owns which pod CIDR and which underlay address: an index that follows each
//! change of a Node.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::{ControlPlane, NodeRecord, PoolConfig};
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

/// How positions of slots changed, one step after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The slot here is gone, and the last one has taken its place.
    Gone(usize),
    /// One was added behind all others.
    New,
}

/// What became of the slots when a Node changed.
#[derive(Debug, Default)]
pub struct Moved {
    /// The steps.
    pub moves: Vec<Move>,
    /// Slots that are new, or of which it may have changed who else claims them.
    pub touched: BTreeSet<usize>,
}

/// The index.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Every pod CIDR of every node, in no order: see [`Book::in_order`].
    pub slots: Vec<Slot>,
    /// Positions in `slots` by CIDR; several of one CIDR stand in the order of their owners' names.
    pub by_net: NetMap<Vec<usize>>,
    /// Positions in `slots` by owner, in the Node's order.
    pub by_owner: BTreeMap<String, Vec<usize>>,
    /// Names of the nodes that own an underlay address (InternalIPs and flannel's public-ip), sorted.
    addresses: HashMap<IpAddr, Vec<String>>,
    /// Slots that others claim too.
    contests: usize,
}

/// Underlay addresses of a node.
pub fn addresses(node: &NodeRecord) -> impl Iterator<Item = IpAddr> {
    let public = node.flannel.as_ref().and_then(|flannel| flannel.public_ip);
    node.internal_ips.iter().copied().chain(public)
}

impl Book {
    /// Indexes a control plane's state.
    pub fn new(plane: &ControlPlane) -> Self {
        let mut book = Self::default();
        for node in plane.nodes.values() {
            let at = node.pod_cidrs.iter().map(|cidr| book.push(&node.name, cidr.trunc()));
            let at: Vec<usize> = at.collect();
            if !at.is_empty() {
                book.by_owner.insert(node.name.clone(), at);
            }
            book.add_addresses(node);
        }
        for at in 0..book.slots.len() {
            book.contest(at);
        }
        book
    }

    /// Follows a Node that came (`before` is `None`), changed, or went (`after` is `None`).
    pub fn replace(&mut self, name: &str, before: Option<&NodeRecord>, after: Option<&NodeRecord>) -> Moved {
        for address in before.into_iter().flat_map(addresses) {
            if let Some(owners) = self.addresses.get_mut(&address) {
                owners.retain(|owner| owner != name);
                if owners.is_empty() {
                    self.addresses.remove(&address);
                }
            }
        }
        if let Some(node) = after {
            self.add_addresses(node);
        }
        let wanted: Vec<IpNet> = after
            .iter()
            .flat_map(|node| &node.pod_cidrs)
            .map(IpNet::trunc)
            .collect();
        let mut missing = wanted.clone();
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for at in self.by_owner.remove(name).unwrap_or_default() {
            let cidr = self.slots[at].cidr;
            match missing.iter().position(|wanted| *wanted == cidr) {
                Some(found) => {
                    missing.remove(found);
                    kept.push(at);
                }
                None => gone.push(at),
            }
        }
        let mut moved = Moved::default();
        let mut changed: Vec<IpNet> = missing.clone();
        // From behind: what takes a gone one's place is then never one that is still to go.
        gone.sort_unstable();
        for at in gone.into_iter().rev() {
            changed.push(self.remove(at, &mut kept));
            moved.moves.push(Move::Gone(at));
        }
        for cidr in missing {
            kept.push(self.push(name, cidr));
            moved.moves.push(Move::New);
        }
        let mut ordered = Vec::new();
        for cidr in wanted {
            if let Some(found) = kept.iter().position(|at| self.slots[*at].cidr == cidr) {
                ordered.push(kept.remove(found));
            }
        }
        if !ordered.is_empty() {
            self.by_owner.insert(name.to_owned(), ordered);
        }
        for cidr in changed {
            moved.touched.extend(self.positions(cidr));
        }
        for at in &moved.touched {
            self.contest(*at);
        }
        moved
    }

    fn add_addresses(&mut self, node: &NodeRecord) {
        for address in addresses(node) {
            let owners = self.addresses.entry(address).or_default();
            if let Err(at) = owners.binary_search(&node.name) {
                owners.insert(at, node.name.clone());
            }
        }
    }

    /// Adds a slot behind all others; `by_owner` is the caller's.
    fn push(&mut self, owner: &str, cidr: IpNet) -> usize {
        let at = self.slots.len();
        let slots = &self.slots;
        let places = self.by_net.or_default(cidr);
        let place = places.partition_point(|other| slots[*other].owner.as_str() <= owner);
        places.insert(place, at);
        self.slots.push(Slot {
            cidr,
            owner: owner.to_owned(),
            contested: Vec::new(),
        });
        at
    }

    /// Takes a slot out; `rest` are the positions of its owner's other slots, which `by_owner` does not have now.
    fn remove(&mut self, at: usize, rest: &mut [usize]) -> IpNet {
        let gone = self.slots.swap_remove(at);
        self.contests -= usize::from(!gone.contested.is_empty());
        let last = self.slots.len();
        if let Some(places) = self.by_net.get_mut(gone.cidr) {
            places.retain(|place| *place != at);
            if places.is_empty() {
                self.by_net.remove(gone.cidr);
            }
        }
        if at < last {
            let Slot { cidr, owner, .. } = &self.slots[at];
            let in_net = self.by_net.get_mut(*cidr).into_iter().flatten();
            let of_owner = self.by_owner.get_mut(owner).into_iter().flatten();
            for place in in_net.chain(of_owner).chain(rest).filter(|place| **place == last) {
                *place = at;
            }
        }
        gone.cidr
    }

    /// Says anew who else claims a slot.
    fn contest(&mut self, at: usize) {
        let Slot { cidr, owner, .. } = &self.slots[at];
        let mut others: Vec<String> = self
            .overlapping(*cidr)
            .filter(|slot| slot.owner != *owner)
            .map(|slot| slot.owner.clone())
            .collect();
        others.sort();
        others.dedup();
        self.contests += usize::from(!others.is_empty());
        let before = std::mem::replace(&mut self.slots[at].contested, others);
        self.contests -= usize::from(!before.is_empty());
    }

    /// Whether any two nodes claim the same address.
    pub fn contested(&self) -> bool {
        self.contests > 0
    }

    /// Every slot, by node name and then in the Node's order.
    pub fn in_order(&self) -> impl Iterator<Item = &Slot> {
        self.by_owner.values().flatten().map(|at| &self.slots[*at])
    }

    /// Positions of the slots that have an address in common with this prefix.
    pub fn positions(&self, prefix: IpNet) -> impl Iterator<Item = usize> {
        let above = self.by_net.covering(prefix).filter(move |(net, _)| *net != prefix);
        above
            .chain(self.by_net.inside(prefix))
            .flat_map(|(_, slots)| slots)
            .copied()
    }

    /// The slots that have an address in common with this prefix.
    pub fn overlapping(&self, prefix: IpNet) -> impl Iterator<Item = &Slot> {
        self.positions(prefix).map(|at| &self.slots[at])
    }

    /// The nodes that own an underlay address.
    pub fn owners_of_address(&self, address: IpAddr) -> &[String] {
        self.addresses.get(&address).map_or(&[], Vec::as_slice)
    }

    /// True where a route for `prefix` cannot be meant for `slot` alone: it is wider
    /// than the slot and a default route, as wide as the pool, or covers another node's CIDR too.
    pub fn aggregate(&self, prefix: IpNet, slot: &Slot, pool: &PoolConfig) -> bool {
        prefix.prefix_len() < slot.cidr.prefix_len()
            && (always_aggregate(prefix, pool) || self.overlapping(prefix).any(|other| other.owner != slot.owner))
    }
}

/// A route for this prefix is meant for many, whoever owns what: a default route, or one as wide as the pool.
pub fn always_aggregate(prefix: IpNet, pool: &PoolConfig) -> bool {
    prefix.prefix_len() == 0 || pool.ranges.iter().any(|range| prefix.contains(range))
}
