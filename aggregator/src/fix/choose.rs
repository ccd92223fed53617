//! A free CIDR for a node, by arithmetic over everybody who could be using it.

use std::net::IpAddr;

use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::ground::Ground;
use crate::netmap::NetMap;
use crate::query::answer::NodeAnswer;
use crate::summary::PoolRange;

/// Most blocks that are looked at in one range. The largest IPv4 range that kube-controller-manager takes has 2^16 blocks
/// of /24 in a /8; an IPv6 range is limited to as many by its own check (reference A).
const BLOCKS: usize = 1 << 17;

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoChoice {
    /// Nobody names the pool.
    #[error("the pool is not known ({0}): --cluster-cidr of the aggregator says it")]
    PoolUnknown(String),
    /// The pool has no range of that family.
    #[error("the pool has no {0} range")]
    NoRange(Family),
    /// Everything is used.
    #[error("no /{mask} of {range} is free of nodes, pods, routes, services and hosts' own networks")]
    Full {
        /// The last range that was looked at.
        range: IpNet,
        /// Length of a node's CIDR in it.
        mask: u8,
    },
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// A prefix's.
    pub fn of(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Whose something is, where it may be in the way of everybody else but not of himself.
type Holder<'a> = Option<&'a str>;

/// Hands out blocks that nobody uses. Also what is only suspected counts: a route that nobody owns may still lead
/// somewhere. Made once for a whole plan: what it handed out is used from then on.
#[derive(Debug)]
pub struct Chooser<'a> {
    ground: &'a Ground,
    /// Who holds what; without a holder: it is in everybody's way.
    used: NetMap<Vec<Holder<'a>>>,
    /// Blocks above this number were handed out or are used, by the range's place in the pool.
    below: Vec<Option<u128>>,
}

impl<'a> Chooser<'a> {
    /// With everything that is seen to be used in `ground`.
    pub fn new(ground: &'a Ground) -> Self {
        let mut chooser = Self {
            ground,
            used: NetMap::default(),
            below: vec![None; ground.pool.ranges.len()],
        };
        for net in &ground.pool.service_ranges {
            chooser.hold(*net, None);
        }
        for (name, node) in &ground.nodes {
            // What a node has now is in its own way, too: packets for it may still come.
            let own = node.cidrs.iter().copied();
            let own = own.chain(node.addresses.iter().map(|&address| IpNet::from(address)));
            own.for_each(|net| chooser.hold(net, None));
            if let Some(view) = &node.view {
                chooser.host(name, view);
            }
        }
        for (name, view) in &ground.strays {
            chooser.host(name, view);
        }
        for net in &ground.plain {
            chooser.hold(*net, None);
        }
        for pod in ground.pods.iter().filter(|pod| !pod.host_network) {
            // Its own pods go with its CIDR.
            for &address in &pod.addresses {
                chooser.hold(address.into(), pod.node.as_deref());
            }
        }
        chooser
    }

    /// What a host shows: its own configuration, bridge and routes to its own pods go with its CIDR.
    fn host(&mut self, name: &'a str, view: &'a NodeAnswer) {
        let facts = view.facts.as_ref();
        let chosen = facts.and_then(|facts| facts.cni.chosen.as_ref());
        for range in chosen.iter().flat_map(|config| &config.ranges) {
            self.hold(*range, Some(name));
        }
        for link in facts.iter().flat_map(|facts| &facts.links) {
            for net in link.addresses.iter().map(IpNet::trunc) {
                if !self.around(&net) {
                    self.hold(net, link.role.of_pods().then_some(name));
                }
            }
        }
        for entry in &view.entries {
            let net = entry.meant_for();
            if net.prefix_len() == 0 || matches!(entry.landing, Landing::NoRoute) || self.around(&net) {
                continue;
            }
            // To its own pods, or to the bridge's own address.
            let own = matches!(
                entry.landing,
                Landing::Onlink { .. } | Landing::Local { .. } | Landing::Host { .. }
            );
            self.hold(net, own.then_some(name));
        }
    }

    /// A route or an interface around all of a range is nobody's block: the longest prefix wins.
    fn around(&self, net: &IpNet) -> bool {
        self.ground.pool.ranges.iter().any(|range| net.contains(&range.range))
    }

    fn hold(&mut self, net: IpNet, who: Holder<'a>) {
        let holders = self.used.or_default(net);
        if !holders.contains(&who) {
            holders.push(who);
        }
    }

    /// Whether nobody but `node` itself has a part of it.
    fn spares(&self, block: &IpNet, node: &str) -> bool {
        let in_the_way = |holders: &Vec<Holder<'_>>| holders.iter().any(|who| *who != Some(node));
        let mut around = self.used.covering(*block);
        let mut inside = self.used.inside(*block);
        !around.any(|(_, holders)| in_the_way(holders)) && !inside.any(|(_, holders)| in_the_way(holders))
    }

    /// A free block of that family for `node`, used from now on. `near`: blocks that the host uses already, taken if they
    /// are free, for then nothing on the host has to change. Else the last free block of the first range that has one: the
    /// allocator goes upwards, so it is the one that it would hand out last.
    ///
    /// # Errors
    ///
    /// There is none; why.
    pub fn give(&mut self, family: Family, node: &str, near: &[IpNet]) -> Result<IpNet, NoChoice> {
        let ground = self.ground;
        if ground.pool.ranges.is_empty() {
            let why = ground.pool.unknown.clone();
            return Err(NoChoice::PoolUnknown(
                why.unwrap_or_else(|| "nobody names it".to_owned()),
            ));
        }
        let ranges = || {
            let all = ground.pool.ranges.iter().enumerate();
            all.filter(|(_, range)| Family::of(&range.range) == family)
        };
        let fits = |block: &&IpNet| {
            let mut ranges = ranges();
            ranges.any(|(_, range)| range.range.contains(*block) && block.prefix_len() == range.node_mask)
        };
        let known = near.iter().filter(fits).find(|block| self.spares(block, node)).copied();
        let mut full = NoChoice::NoRange(family);
        let mut found = known;
        for (place, range) in ranges() {
            if found.is_some() {
                break;
            }
            found = self.last_free(place, range, node);
            full = NoChoice::Full {
                range: range.range,
                mask: range.node_mask,
            };
        }
        let block = found.ok_or(full)?;
        self.hold(block, None);
        Ok(block)
    }

    fn last_free(&mut self, place: usize, range: &PoolRange, node: &str) -> Option<IpNet> {
        let (net, mask) = (range.range, range.node_mask);
        let (width, base): (u32, u128) = match net.network() {
            IpAddr::V4(base) => (32, u128::from(u32::from(base))),
            IpAddr::V6(base) => (128, u128::from(base)),
        };
        let bits = u32::from(mask.checked_sub(net.prefix_len())?);
        let size = 1u128.checked_shl(width.checked_sub(mask.into())?).unwrap_or(0);
        let first = self.below.get(place).copied().flatten();
        let mut number = first.unwrap_or_else(|| 1u128.checked_shl(bits).unwrap_or(u128::MAX));
        let mut left = BLOCKS;
        let found = loop {
            left = left.checked_sub(1)?;
            number = number.checked_sub(1)?;
            let start = base.checked_add(number.checked_mul(size)?)?;
            let address = match net {
                IpNet::V4(_) => IpAddr::V4(u32::try_from(start).ok()?.into()),
                IpNet::V6(_) => IpAddr::V6(start.into()),
            };
            let block = IpNet::new(address, mask).ok()?;
            if self.spares(&block, node) {
                break block;
            }
        };
        if let Some(below) = self.below.get_mut(place) {
            *below = Some(number);
        }
        Some(found)
    }
}
