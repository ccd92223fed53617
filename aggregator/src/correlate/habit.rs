//! What a node's data plane is seen to do, which says what may be expected of it:
//! a missing route is a fault only where routes to peers are programmed.

use std::collections::{BTreeMap, BTreeSet};

use cidrift_proto::landing::{ForwardingEntry, Landing, Via};
use ipnet::IpNet;

use super::Scene;
use super::words;
use crate::cluster::around::Around;
use crate::cluster::{HostState, NodeRecord};
use crate::ipam::{self, Ipam};

/// What was seen of a node's routes to peers, now or earlier. Kept by the engine
/// for as long as the Node exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Pod CIDRs of peers that it had a route of their own for.
    pub cidrs: BTreeSet<IpNet>,
    /// One of them went through a tunnel, so a peer's segment does not matter.
    pub tunnel: bool,
    /// One of them landed on the node that owned exactly that CIDR.
    pub exact: bool,
}

/// Most CIDRs remembered of one node: as many as a cluster of the largest supported size (15,000 nodes) has, twice.
const SEEN: usize = 30_000;

/// What may be expected of a node as a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Habit {
    /// Its IPAM.
    pub ipam: Ipam,
    /// Primary plugin, where known.
    pub plugin: Option<String>,
    /// What shows that its data plane programs routes to peers: who says so, and what.
    pub programs: Option<(String, String)>,
    /// Peers are reached through tunnels, whatever segment they are on.
    pub tunnel: bool,
    /// flannel's annotations stand on it: a peer without them has not registered yet.
    pub flannel: bool,
}

impl Default for Habit {
    fn default() -> Self {
        Self {
            ipam: Ipam::Unclear("its CNI configuration was not seen".into()),
            plugin: None,
            programs: None,
            tunnel: false,
            flannel: false,
        }
    }
}

impl Seen {
    /// Adds what one entry of a host shows.
    pub fn observe(&mut self, scene: &Scene<'_>, node: &str, entry: &ForwardingEntry) {
        let (tunnel, address) = match &entry.landing {
            Landing::Underlay { address, via } => (!matches!(via, Via::Gateway { .. }), Some(*address)),
            Landing::UnresolvedNeighbour { .. } => (false, None),
            Landing::Multipath { legs } if legs.iter().any(|leg| matches!(leg.landing, Landing::Underlay { .. })) => {
                (false, None)
            }
            _ => return,
        };
        let prefix = entry.meant_for();
        for slot in scene.book.overlapping(prefix) {
            if slot.owner == node || self.cidrs.len() >= SEEN {
                continue;
            }
            if scene.book.aggregate(prefix, slot, scene.pool) {
                // As wide as several nodes: so are all that it overlaps.
                return;
            }
            self.cidrs.insert(slot.cidr);
            self.tunnel |= tunnel;
            self.exact |= prefix == slot.cidr
                && address.is_some_and(|address| scene.book.owners_of_address(address).contains(&slot.owner));
        }
    }

    /// Forgets CIDRs that no node has any more.
    pub fn prune(&mut self, scene: &Scene<'_>) {
        self.cidrs.retain(|cidr| scene.book.by_net.get(*cidr).is_some());
    }
}

/// Which plugins are seen to program routes to peers on most of the nodes that use them.
pub fn majorities<'a>(nodes: impl Iterator<Item = (&'a str, bool)>) -> BTreeSet<String> {
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for (plugin, programs) in nodes {
        let (all, yes) = counts.entry(plugin).or_default();
        *all += 1;
        *yes += u32::from(programs);
    }
    let most = counts.into_iter().filter(|(_, (all, yes))| *yes >= 2 && yes * 2 > *all);
    most.map(|(plugin, _)| plugin.to_owned()).collect()
}

/// Primary plugin of a host.
pub fn plugin(host: Option<&HostState>) -> Option<&str> {
    let config = host?.facts.as_ref()?.cni.chosen.as_ref()?;
    config.plugins.first().map(String::as_str)
}

/// What may be expected of this node.
pub fn of(
    node: &NodeRecord,
    host: Option<&HostState>,
    seen: &Seen,
    majorities: &BTreeSet<String>,
    around: &Around,
) -> Habit {
    let facts = host.and_then(|host| host.facts.as_ref());
    let mut ipam = ipam::classify(node, facts, around);
    if seen.exact && matches!(ipam, Ipam::Unclear(_)) {
        // Routes that name peers' spec.podCIDR and land on those peers: the field is in use.
        ipam = Ipam::PodCidr;
    }
    let plugin = plugin(host).map(str::to_owned);
    let backend = node.flannel.as_ref().map(|flannel| flannel.backend.as_str());
    let subnet_env = facts.and_then(|facts| facts.cni.flannel.as_ref());
    let mut tunnel = seen.tunnel;
    let name = &node.name;
    let programs = if let Some(backend @ ("vxlan" | "host-gw" | "ipip" | "udp")) = backend {
        tunnel |= backend != "host-gw";
        Some((format!("Node {name}"), format!("flannel's backend is {backend}")))
    } else if let (Some(env), Some("flannel"), None) = (subnet_env, plugin.as_deref(), backend) {
        Some((format!("{} on {name}", env.path), "flannel runs here".to_owned()))
    } else if let Some(cidr) = seen.cidrs.first() {
        let which = match seen.cidrs.len() {
            1 => cidr.to_string(),
            more => format!("{more} peers' CIDRs"),
        };
        Some((
            format!("kernel of {name}"),
            format!("it has or had routes of its own for {which}"),
        ))
    } else {
        let most = plugin.as_ref().filter(|plugin| majorities.contains(*plugin));
        most.map(|plugin| {
            let text = format!("most other nodes with {plugin} have routes to their peers");
            ("kernels of other nodes".to_owned(), text)
        })
    };
    Habit {
        ipam,
        plugin,
        programs,
        tunnel,
        flannel: backend.is_some(),
    }
}

/// Whether this source should have a route of its own for a CIDR of `owner`; or why that cannot be said.
pub fn expects(source: &HostState, habit: &Habit, seen: &Seen, owner: &NodeRecord, cidr: IpNet) -> Result<(), String> {
    if habit.programs.is_none() {
        return Err(format!(
            "nothing shows that the data plane of {} programs routes to peers",
            source.node
        ));
    }
    let name = &owner.name;
    if owner.deleting {
        return Err(format!("Node {name} is being deleted"));
    }
    if owner.ready == Some(false) {
        return Err(format!("Node {name} is not Ready"));
    }
    if habit.flannel && owner.flannel.is_none() {
        return Err(format!("{name} has not registered with flannel yet"));
    }
    if habit.tunnel || seen.cidrs.contains(&cidr) || on_link(source, owner, cidr) {
        return Ok(());
    }
    let addresses = words::list(&owner.internal_ips);
    Err(format!(
        "{name} ({addresses}) is not on a segment of {}, where nothing says that routes to it are programmed",
        source.node
    ))
}

/// Whether an address of `owner`, of the CIDR's family, is on a segment that `source` is on.
/// A /32 on an uplink, as clouds give, is no segment.
pub fn on_link(source: &HostState, owner: &NodeRecord, cidr: IpNet) -> bool {
    let Some(facts) = &source.facts else { return false };
    let nets = facts.links.iter().flat_map(|link| &link.addresses);
    let mut segments = nets.filter(|net| net.prefix_len() < net.max_prefix_len());
    let public = owner.flannel.as_ref().and_then(|flannel| flannel.public_ip);
    let addresses: Vec<_> = owner.internal_ips.iter().copied().chain(public).collect();
    // An IPv6 pod CIDR can be reached through an IPv4 next hop only by tunnel, so the family must be the CIDR's.
    segments.any(|net| {
        addresses
            .iter()
            .any(|address| address.is_ipv4() == cidr.addr().is_ipv4() && net.contains(address))
    })
}
