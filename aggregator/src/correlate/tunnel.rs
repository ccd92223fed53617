//! PATH06: the layers of a VXLAN landing (route, neighbour, FDB) against each other,
//! against flannel's annotations and against the peer's own device.

use std::net::IpAddr;

use cidrift_proto::facts::LinkFact;
use cidrift_proto::landing::{Landing, MacAddress, Via};

use super::Scene;
use crate::cluster::{HostState, NodeRecord};

/// Which node each layer of a VXLAN landing names; `None`: no node that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The VXLAN device.
    pub device: String,
    /// The route's gateway, and whose it is: by tunnel address or pod CIDR.
    pub route: (IpAddr, Option<String>),
    /// The neighbour's MAC, and whose it is: by device or annotation.
    pub neighbour: (MacAddress, Option<String>),
    /// The FDB's destination, and whose it is.
    pub fdb: (IpAddr, Option<String>),
}

/// The layers of a landing, if it is on VXLAN.
pub fn layers(scene: &Scene<'_>, landing: &Landing) -> Option<Layers> {
    let Landing::Underlay {
        address,
        via: Via::Vxlan {
            device,
            vni,
            gateway,
            lladdr,
        },
    } = landing
    else {
        return None;
    };
    let by_cidr = scene.book.overlapping((*gateway).into()).next();
    let by_mac = scene.plane.nodes.values().find(|node| {
        mac(scene, node, device, *vni).is_some_and(|(mac, _)| mac == *lladdr)
            || node.flannel.as_ref().and_then(|flannel| flannel.vtep_mac) == Some(*lladdr)
    });
    Some(Layers {
        device: device.clone(),
        route: (*gateway, by_cidr.map(|slot| slot.owner.clone())),
        neighbour: (*lladdr, by_mac.map(|node| node.name.clone())),
        fdb: (*address, scene.book.owners_of_address(*address).first().cloned()),
    })
}

impl Layers {
    /// One line for each layer.
    pub fn lines(&self) -> [String; 3] {
        let whose = |node: &Option<String>| node.as_ref().map_or("no known node".to_owned(), Clone::clone);
        let Self {
            device,
            route: (gateway, route),
            neighbour: (lladdr, neighbour),
            fdb: (address, fdb),
        } = self;
        [
            format!("route: via {gateway} dev {device}, which is {}", whose(route)),
            format!(
                "neighbour: {gateway} dev {device} lladdr {lladdr}, which is {}",
                whose(neighbour)
            ),
            format!("fdb: {lladdr} dev {device} dst {address}, which is {}", whose(fdb)),
        ]
    }
}

/// The FDB hands packets for `owner` to somebody else though the route or the
/// neighbour entry names `owner`: which layer is off, in words.
pub fn disagrees(scene: &Scene<'_>, owner: &NodeRecord, landing: &Landing) -> Option<String> {
    let layers = layers(scene, landing)?;
    let is_owner = |node: &Option<String>| node.as_deref() == Some(owner.name.as_str());
    if is_owner(&layers.neighbour.1) {
        return Some(format!(
            "the FDB of {} sends {}'s MAC {} to {}",
            layers.device, owner.name, layers.neighbour.0, layers.fdb.0
        ));
    }
    is_owner(&layers.route.1).then(|| {
        format!(
            "the route's gateway {} is {}'s, but its neighbour entry leads to {}",
            layers.route.0, owner.name, layers.fdb.0
        )
    })
}

/// Packets reach `owner`'s underlay address, but its tunnel device will not take
/// them: why, or `None` where all that is known agrees.
pub fn agrees(scene: &Scene<'_>, source: &HostState, owner: &NodeRecord, landing: &Landing) -> Option<String> {
    let Landing::Underlay {
        via: Via::Vxlan {
            device,
            vni,
            gateway,
            lladdr,
        },
        ..
    } = landing
    else {
        return None;
    };
    if let Some((mac, witness)) = mac(scene, owner, device, *vni)
        && mac != *lladdr
    {
        return Some(format!(
            "neighbour {gateway} dev {device} has lladdr {lladdr}, but {witness} says {mac}"
        ));
    }
    let peer = peer_device(scene, owner, device, *vni).and_then(|link| Some((link, link.vxlan?)));
    let annotated = owner.flannel.as_ref().and_then(|flannel| flannel.vni);
    match (peer, annotated) {
        (Some((link, fact)), _) if fact.vni != *vni => {
            return Some(format!(
                "{device} sends with VNI {vni}, but {} on {} takes VNI {}",
                link.name, owner.name, fact.vni
            ));
        }
        (None, Some(annotated)) if annotated != *vni => {
            return Some(format!(
                "{device} sends with VNI {vni}, but flannel's annotation of {} says {annotated}",
                owner.name
            ));
        }
        _ => {}
    }
    let (link, fact) = peer?;
    let own = source.facts.as_ref()?.links.iter().find(|link| link.name == *device)?;
    let port = own.vxlan?.port;
    (port != fact.port).then(|| {
        format!(
            "{device} sends to UDP port {port}, but {} on {} listens on {}",
            link.name, owner.name, fact.port
        )
    })
}

/// Why `owner` cannot take packets that reach its underlay address by this landing, as
/// its own agent sees it: its tunnel device is gone or down. That is told as that
/// host's own trouble; for its peers it only means that nothing is delivered for sure.
pub fn closed(scene: &Scene<'_>, owner: &NodeRecord, landing: &Landing) -> Option<String> {
    let Landing::Underlay {
        via: Via::Vxlan { device, vni, .. },
        ..
    } = landing
    else {
        return None;
    };
    let facts = scene.host(&owner.name)?.facts.as_ref()?;
    match peer_device(scene, owner, device, *vni) {
        Some(link) if !link.up => Some(format!("{} on {} is down and takes no packets", link.name, owner.name)),
        None if !facts.links.is_empty() => Some(format!("{} has no VXLAN device that takes VNI {vni}", owner.name)),
        _ => None,
    }
}

/// Whether `owner`'s own agent sees this address on a link of its host: `None` where
/// that cannot be said, for there is no whole list of its addresses.
pub fn holds(scene: &Scene<'_>, owner: &NodeRecord, address: IpAddr) -> Option<bool> {
    let facts = scene.host(&owner.name)?.facts.as_ref()?;
    let held = facts
        .links
        .iter()
        .flat_map(|link| &link.addresses)
        .any(|net| net.addr() == address);
    if held {
        return Some(true);
    }
    let whole = facts.gaps.is_empty() && facts.links.iter().any(|link| !link.addresses.is_empty());
    whole.then_some(false)
}

/// A node's VXLAN device as its agent reports it: the one of the same VNI, or else of the same name.
fn peer_device<'a>(scene: &Scene<'a>, node: &NodeRecord, device: &str, vni: u32) -> Option<&'a LinkFact> {
    let facts = scene.host(&node.name)?.facts.as_ref()?;
    let vxlans = || facts.links.iter().filter(|link| link.vxlan.is_some());
    vxlans()
        .find(|link| link.name == device && link.vxlan.is_some_and(|fact| fact.vni == vni))
        .or_else(|| vxlans().find(|link| link.vxlan.is_some_and(|fact| fact.vni == vni)))
        .or_else(|| vxlans().find(|link| link.name == device))
}

/// A node's tunnel MAC and who says so: its own device before its annotation, which
/// is only what it announces.
fn mac(scene: &Scene<'_>, node: &NodeRecord, device: &str, vni: u32) -> Option<(MacAddress, String)> {
    if let Some(link) = peer_device(scene, node, device, vni)
        && let Some(mac) = link.lladdr
    {
        return Some((mac, format!("{} on {}", link.name, node.name)));
    }
    let mac = node.flannel.as_ref()?.vtep_mac?;
    Some((mac, format!("flannel's annotation of {}", node.name)))
}

/// The neighbour entry that a VXLAN landing to `owner` should have: device, gateway and
/// MAC. `None` where the gateway is not known to be the owner's, or its MAC is not known.
pub fn right_neighbour(
    scene: &Scene<'_>,
    owner: &NodeRecord,
    landing: &Landing,
) -> Option<(String, IpAddr, MacAddress)> {
    let Landing::Underlay {
        via: Via::Vxlan {
            device, vni, gateway, ..
        },
        ..
    } = landing
    else {
        return None;
    };
    let slot = scene.book.overlapping((*gateway).into()).next()?;
    if slot.owner != owner.name {
        return None;
    }
    let (mac, _) = mac(scene, owner, device, *vni)?;
    Some((device.clone(), *gateway, mac))
}
