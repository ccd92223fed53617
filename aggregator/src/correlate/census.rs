//! What is counted of all Nodes, kept up as each of them changes: so that judging a change of one of them takes no walk
//! over the others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{manager, pool};
use crate::cluster::NodeRecord;
use crate::cluster::around::Around;
use crate::ipam::Ipam;
use crate::ipam::witness::Users;

/// Nodes of one IPAM model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub all: usize,
    /// Those without any pod CIDR.
    pub without: usize,
    /// Those with exactly one.
    pub one: usize,
    /// Those with CIDRs of both families.
    pub both: usize,
    /// Those with more than one.
    pub several: usize,
}

/// The census.
#[derive(Debug, Clone, Default)]
pub struct Census {
    nodes: HashMap<String, Part>,
    /// By [`place`].
    tallies: [Tally; 4],
    gke: usize,
    flannel: usize,
    waiting: BTreeSet<String>,
    allocators: BTreeMap<String, usize>,
    created: BTreeMap<Timestamp, usize>,
    undated: usize,
    addresses: BTreeMap<IpAddr, usize>,
    cidrs: BTreeMap<IpNet, usize>,
    /// How many of `cidrs` have which length, by whether they are IPv4.
    lengths: [BTreeMap<u8, usize>; 2],
}

/// One Node's share, as it was counted: it is taken off as such.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    ipam: Ipam,
    tally: Tally,
    gke: bool,
    flannel: bool,
    waits: bool,
    allocators: Vec<String>,
    created: Option<Timestamp>,
    addresses: Vec<IpAddr>,
    cidrs: Vec<IpNet>,
}

/// Whether a Node has no pod CIDR in either field.
pub fn lacks(node: &NodeRecord) -> bool {
    node.pod_cidrs_raw.is_empty() && node.pod_cidr.as_ref().is_none_or(String::is_empty)
}

fn both(node: &NodeRecord) -> bool {
    let v4 = |cidr: &IpNet| cidr.addr().is_ipv4();
    node.pod_cidrs.iter().any(v4) && !node.pod_cidrs.iter().all(v4)
}

/// Where the tally of a model stands.
fn place(ipam: &Ipam) -> usize {
    match ipam {
        Ipam::PodCidr => 0,
        Ipam::Delegated(_) => 1,
        Ipam::Unclear(_) => 2,
        Ipam::NoDataPlane(_) => 3,
    }
}

impl Part {
    fn of(node: &NodeRecord, ipam: Ipam, around: &Around) -> Self {
        let lacks = lacks(node);
        let writers = node.cidr_writers.iter();
        let daemons = around.daemons.get(&node.name).into_iter().flatten();
        Self {
            tally: Tally {
                all: 1,
                without: usize::from(lacks),
                one: usize::from(node.pod_cidrs.len() == 1),
                both: usize::from(both(node)),
                several: usize::from(node.pod_cidrs.len() > 1),
            },
            gke: pool::on_gke(node),
            flannel: node.flannel.is_some() || daemons.into_iter().any(|daemon| daemon.kind == "flannel"),
            waits: lacks && !node.deleting && matches!(ipam, Ipam::PodCidr | Ipam::Unclear(_)),
            allocators: writers
                .filter(|writer| manager::is_allocator(writer))
                .cloned()
                .collect(),
            created: node.created_at,
            addresses: node.internal_ips.clone(),
            cidrs: node.pod_cidrs.iter().map(IpNet::trunc).collect(),
            ipam,
        }
    }
}

/// Adds one to, or takes one off, what is counted of a key.
fn count<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, more: bool) {
    let count = counts.entry(key);
    if more {
        *count.or_default() += 1;
    } else if let std::collections::btree_map::Entry::Occupied(mut held) = count {
        *held.get_mut() -= 1;
        if *held.get() == 0 {
            held.remove();
        }
    }
}

impl Census {
    /// Counts a Node as it is now, in place of what it was; `None`: it is gone. True where its share changed.
    pub fn note(&mut self, name: &str, node: Option<(&NodeRecord, Ipam)>, around: &Around) -> bool {
        let after = node.map(|(node, ipam)| Part::of(node, ipam, around));
        if self.nodes.get(name) == after.as_ref() {
            return false;
        }
        if let Some(before) = self.nodes.remove(name) {
            self.weigh(name, &before, false);
        }
        if let Some(after) = after {
            self.weigh(name, &after, true);
            self.nodes.insert(name.to_owned(), after);
        }
        true
    }

    fn weigh(&mut self, name: &str, part: &Part, more: bool) {
        let step = |sum: &mut usize, by: usize| *sum = if more { *sum + by } else { *sum - by };
        let tally = &mut self.tallies[place(&part.ipam)];
        step(&mut tally.all, part.tally.all);
        step(&mut tally.without, part.tally.without);
        step(&mut tally.one, part.tally.one);
        step(&mut tally.both, part.tally.both);
        step(&mut tally.several, part.tally.several);
        step(&mut self.gke, usize::from(part.gke));
        step(&mut self.flannel, usize::from(part.flannel));
        match part.created {
            Some(created) => count(&mut self.created, created, more),
            None => step(&mut self.undated, 1),
        }
        for writer in &part.allocators {
            count(&mut self.allocators, writer.clone(), more);
        }
        for address in &part.addresses {
            count(&mut self.addresses, *address, more);
        }
        for cidr in &part.cidrs {
            let before = self.cidrs.len();
            count(&mut self.cidrs, *cidr, more);
            if self.cidrs.len() != before {
                count(
                    &mut self.lengths[usize::from(cidr.addr().is_ipv4())],
                    cidr.prefix_len(),
                    more,
                );
            }
        }
        if part.waits {
            if more {
                self.waiting.insert(name.to_owned());
            } else {
                self.waiting.remove(name);
            }
        }
    }

    /// Names of the Nodes that are counted, in no order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.nodes.keys()
    }

    /// What the IPAM of a Node makes of its `spec.podCIDR`; `None`: there is no such Node.
    pub fn ipam(&self, name: &str) -> Option<&Ipam> {
        self.nodes.get(name).map(|part| &part.ipam)
    }

    /// Nodes whose pods get addresses of `spec.podCIDR`.
    pub fn pod_cidr(&self) -> Tally {
        self.tallies[0]
    }

    /// Those on which another allocator decides.
    pub fn delegated(&self) -> Tally {
        self.tallies[1]
    }

    /// Those of which neither is known.
    pub fn unclear(&self) -> Tally {
        self.tallies[2]
    }

    /// Who relies on the field.
    pub fn users(&self) -> Users {
        Users {
            pod_cidr: self.pod_cidr().all,
            delegated: self.delegated().all,
            unclear: self.unclear().all,
            gke: self.gke > 0,
            flannel: self.flannel > 0,
        }
    }

    /// Names of the Nodes that have no CIDR, may need one and are not being deleted, sorted.
    pub fn waiting(&self) -> impl ExactSizeIterator<Item = &String> {
        self.waiting.iter()
    }

    /// Whether this Node is one of them.
    pub fn waits(&self, name: &str) -> bool {
        self.waiting.contains(name)
    }

    /// Controllers that wrote Nodes' CIDRs, sorted.
    pub fn allocators(&self) -> impl Iterator<Item = &str> {
        self.allocators.keys().map(String::as_str)
    }

    /// How many Nodes were made when, and how many of which that is not known.
    pub fn created(&self) -> (&BTreeMap<Timestamp, usize>, usize) {
        (&self.created, self.undated)
    }

    /// Nodes with more than one CIDR.
    pub fn several(&self) -> usize {
        self.tallies.iter().map(|tally| tally.several).sum()
    }

    /// The lengths that pod CIDRs of a family have, with how many of each; doubles are one.
    pub fn lengths(&self, v4: bool) -> &BTreeMap<u8, usize> {
        &self.lengths[usize::from(v4)]
    }

    /// The smallest range that holds every pod CIDR of a family; `None`: there is none.
    pub fn supernet(&self, v4: bool) -> Option<IpNet> {
        let mut net = *self.first(v4)?;
        let last = self.last(v4)?;
        while !net.contains(last) {
            net = net.supernet()?;
        }
        Some(net)
    }

    fn first(&self, v4: bool) -> Option<&IpNet> {
        let mut from = self.cidrs.range(bound(v4)..);
        from.next()
            .map(|(cidr, _)| cidr)
            .filter(|cidr| cidr.addr().is_ipv4() == v4)
    }

    fn last(&self, v4: bool) -> Option<&IpNet> {
        let last = match v4 {
            true => self.cidrs.range(..bound(false)).next_back(),
            false => self.cidrs.range(bound(false)..).next_back(),
        };
        last.map(|(cidr, _)| cidr)
    }

    /// The pod CIDRs of all Nodes, in the order of their addresses and without doubles.
    pub fn cidrs(&self) -> impl Iterator<Item = IpNet> + Clone {
        self.cidrs.keys().copied()
    }

    /// Whether any Node's InternalIP lies inside any Node's pod CIDR.
    pub fn address_inside(&self) -> bool {
        let apart = |v4: bool| {
            let Some(net) = self.supernet(v4) else { return true };
            self.addresses.range(net.network()..=net.broadcast()).next().is_none()
        };
        if apart(true) && apart(false) {
            return false;
        }
        // Both are sorted, and prefixes nest or are disjoint: the widest in front of an address is enough.
        let mut addresses = self.addresses.keys().peekable();
        let mut widest: Option<IpNet> = None;
        for cidr in self.cidrs.keys() {
            if widest.is_some_and(|widest| widest.contains(cidr)) {
                continue;
            }
            widest = Some(*cidr);
            while addresses.next_if(|address| **address < cidr.network()).is_some() {}
            if addresses.peek().is_some_and(|address| cidr.contains(*address)) {
                return true;
            }
        }
        false
    }
}

/// Where a family begins among prefixes: IPv4 is sorted first.
fn bound(v4: bool) -> IpNet {
    match v4 {
        true => IpNet::V4(ipnet::Ipv4Net::default()),
        false => IpNet::V6(ipnet::Ipv6Net::default()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: usize, cidrs: &[IpNet], address: Option<IpAddr>) -> NodeRecord {
        NodeRecord {
            name: format!("n{name}"),
            pod_cidr: cidrs.first().map(IpNet::to_string),
            pod_cidrs_raw: cidrs.iter().map(IpNet::to_string).collect(),
            pod_cidrs: cidrs.to_vec(),
            internal_ips: address.into_iter().collect(),
            ..NodeRecord::default()
        }
    }

    fn model() -> impl Strategy<Value = Ipam> {
        prop_oneof![
            Just(Ipam::PodCidr),
            Just(Ipam::Delegated("d".into())),
            Just(Ipam::Unclear("u".into())),
            Just(Ipam::NoDataPlane("n".into())),
        ]
    }

    fn cidr() -> impl Strategy<Value = IpNet> {
        (0u8..4, 22u8..26, any::<bool>()).prop_map(|(at, length, v4)| {
            let text = if v4 {
                format!("10.244.{at}.0/{length}")
            } else {
                format!("fd00:0:0:{at}::/{}", length + 38)
            };
            let net: IpNet = text.parse().expect("a prefix");
            net.trunc()
        })
    }

    fn address() -> impl Strategy<Value = Option<IpAddr>> {
        proptest::option::of((0u8..8, any::<bool>()).prop_map(|(at, v4)| {
            let text = if v4 {
                format!("10.244.{at}.7")
            } else {
                format!("fd00:0:0:{at}::7")
            };
            text.parse().expect("an address")
        }))
    }

    proptest! {
        /// However Nodes came, changed and went: what is counted is what a count of those that are there now gives.
        #[test]
        fn counted_one_by_one_is_counted_at_once(
            steps in proptest::collection::vec(
                (0usize..6, proptest::option::of((proptest::collection::vec(cidr(), 0..3), address(), model()))),
                0..40,
            )
        ) {
            let around = Around::default();
            let mut census = Census::default();
            let mut nodes: BTreeMap<usize, (NodeRecord, Ipam)> = BTreeMap::new();
            for (name, after) in steps {
                match after {
                    Some((cidrs, address, ipam)) => _ = nodes.insert(name, (node(name, &cidrs, address), ipam)),
                    None => _ = nodes.remove(&name),
                }
                let after = nodes.get(&name).map(|(node, ipam)| (node, ipam.clone()));
                census.note(&format!("n{name}"), after, &around);
            }
            let mut fresh = Census::default();
            for (node, ipam) in nodes.values() {
                fresh.note(&node.name, Some((node, ipam.clone())), &around);
            }
            prop_assert_eq!(census.tallies, fresh.tallies);
            prop_assert_eq!(&census.waiting, &fresh.waiting);
            prop_assert_eq!(&census.cidrs, &fresh.cidrs);
            prop_assert_eq!(&census.addresses, &fresh.addresses);
            prop_assert_eq!(census.created(), fresh.created());
            prop_assert_eq!(&census.lengths, &fresh.lengths);
            for v4 in [true, false] {
                let of_family: Vec<IpNet> = census.cidrs().filter(|cidr| cidr.addr().is_ipv4() == v4).collect();
                let held = |net: IpNet| of_family.iter().all(|cidr| net.contains(cidr));
                match census.supernet(v4) {
                    Some(net) => {
                        let halves = net.subnets(net.prefix_len() + 1).ok();
                        let halved = halves.is_some_and(|mut halves| halves.any(held));
                        prop_assert!(held(net), "{} holds all", net);
                        prop_assert!(of_family.contains(&net) || !halved, "{} is the smallest", net);
                    }
                    None => prop_assert!(of_family.is_empty()),
                }
            }
            let all = || nodes.values().map(|(node, _)| node);
            let inside = all().flat_map(|node| &node.internal_ips).any(|address| {
                all().flat_map(|node| &node.pod_cidrs).any(|cidr| cidr.contains(address))
            });
            prop_assert_eq!(census.address_inside(), inside);
        }
    }
}
