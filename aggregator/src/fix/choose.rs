//! A free CIDR for a node, by arithmetic over everybody who could be using it.

use std::net::IpAddr;

use cidrift_proto::landing::Landing;
use ipnet::IpNet;

use super::ground::Ground;
use crate::netmap::NetMap;
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

/// What somebody uses, so that nobody else is given it.
#[derive(Debug, Clone, Default)]
pub struct Used(NetMap<()>);

impl Used {
    /// Everything that is seen to be used by anybody but `node` itself. Also what is only suspected counts: a route that
    /// nobody owns may still lead somewhere.
    pub fn by_others(ground: &Ground, node: &str) -> Self {
        let mut nets = Vec::new();
        nets.extend(ground.pool.service_ranges.iter().copied());
        for (name, other) in &ground.nodes {
            // Its own old CIDR, too: packets for it may still come.
            nets.extend(other.cidrs.iter().copied());
            nets.extend(other.addresses.iter().map(|&address| IpNet::from(address)));
            let Some(view) = &other.view else { continue };
            if name != node {
                let chosen = view.facts.as_ref().and_then(|facts| facts.cni.chosen.as_ref());
                nets.extend(chosen.iter().flat_map(|config| config.ranges.iter().copied()));
            }
            let links = view.facts.iter().flat_map(|facts| &facts.links);
            let foreign = links.filter(|link| name != node || !of_pods(link.role));
            nets.extend(foreign.flat_map(|link| link.addresses.iter().map(IpNet::trunc)));
            // On the node itself what leads to its own pods is what it has now, and goes with them.
            let leads = view.entries.iter().filter(|entry| {
                entry.meant_for().prefix_len() > 0
                    && !matches!(entry.landing, Landing::NoRoute)
                    && (name != node || !matches!(entry.landing, Landing::Onlink { .. } | Landing::Local { .. }))
            });
            nets.extend(leads.map(|entry| entry.meant_for()));
        }
        let pods = ground.pods.iter().filter(|pod| !pod.host_network);
        let others = pods.filter(|pod| pod.node.as_deref() != Some(node));
        nets.extend(others.flat_map(|pod| pod.addresses.iter().map(|&address| IpNet::from(address))));
        // A route to all of the pool (flannel's WireGuard, an aggregate) is nobody's block.
        let ranges: Vec<IpNet> = ground.pool.ranges.iter().map(|range| range.range).collect();
        nets.retain(|net| net.prefix_len() > 0 && !ranges.iter().any(|range| net.contains(range)));
        let mut used = Self::default();
        nets.into_iter().for_each(|net| used.and(net));
        used
    }

    /// Also that one.
    pub fn and(&mut self, net: IpNet) {
        self.0.insert(net, ());
    }

    /// Whether nobody has a part of it.
    pub fn spares(&self, block: &IpNet) -> bool {
        self.0.covering(*block).next().is_none() && self.0.inside(*block).next().is_none()
    }
}

fn of_pods(role: cidrift_proto::facts::LinkRole) -> bool {
    use cidrift_proto::facts::LinkRole;
    matches!(role, LinkRole::Bridge | LinkRole::Tunnel | LinkRole::PodPort)
}

/// A free block of that family. `near`: one that the host uses already, taken if it is free, for then nothing on the host
/// has to change. Else the last free block of the last range: the allocator goes upwards, so it is the one that it would
/// hand out last.
///
/// # Errors
///
/// There is none; why.
pub fn choose(ground: &Ground, family: Family, near: &[IpNet], used: &Used) -> Result<IpNet, NoChoice> {
    if ground.pool.ranges.is_empty() {
        let why = ground.pool.unknown.clone();
        return Err(NoChoice::PoolUnknown(
            why.unwrap_or_else(|| "nobody names it".to_owned()),
        ));
    }
    let ranges = || {
        ground
            .pool
            .ranges
            .iter()
            .filter(|range| Family::of(&range.range) == family)
    };
    let fits = |block: &IpNet| {
        let mut ranges = ranges();
        ranges.any(|range| range.range.contains(block) && block.prefix_len() == range.node_mask)
    };
    if let Some(block) = near.iter().find(|block| fits(block) && used.spares(block)) {
        return Ok(*block);
    }
    let mut full = NoChoice::NoRange(family);
    for range in ranges() {
        if let Some(block) = last_free(range, used) {
            return Ok(block);
        }
        full = NoChoice::Full {
            range: range.range,
            mask: range.node_mask,
        };
    }
    Err(full)
}

fn last_free(range: &PoolRange, used: &Used) -> Option<IpNet> {
    let (net, mask) = (range.range, range.node_mask);
    let bits = u32::from(mask.checked_sub(net.prefix_len())?);
    let (width, base) = match net.network() {
        IpAddr::V4(base) => (32, u128::from(u32::from(base))),
        IpAddr::V6(base) => (128, u128::from(base)),
    };
    if u32::from(mask) > width {
        return None;
    }
    let size = 1u128.checked_shl(width - u32::from(mask)).unwrap_or(0);
    let blocks = 1u128.checked_shl(bits).unwrap_or(u128::MAX);
    let mut number = blocks;
    for _ in 0..BLOCKS {
        number = number.checked_sub(1)?;
        let start = base.checked_add(number.checked_mul(size)?)?;
        let address = match net {
            IpNet::V4(_) => IpAddr::V4(u32::try_from(start).ok()?.into()),
            IpNet::V6(_) => IpAddr::V6(start.into()),
        };
        let block = IpNet::new(address, mask).ok()?;
        if used.spares(&block) {
            return Some(block);
        }
    }
    None
}
