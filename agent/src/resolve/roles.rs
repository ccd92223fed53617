//! What each device of a host is to pod traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cidrift_proto::facts::LinkRole;
use ipnet::IpNet;

use crate::view::{Hop, Hops, Kernel, Link, Nexthop};

use super::table::{MAIN, routes_at};

/// Roles by ifindex.
pub type Roles = BTreeMap<u32, LinkRole>;

/// Device kinds that carry packets inside others.
const TUNNELS: &[&str] = &[
    "vxlan",
    "ipip",
    "sit",
    "wireguard",
    "geneve",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "erspan",
    "ip6erspan",
    "vti",
    "vti6",
    "xfrm",
    "bareudp",
    "ppp",
    "l2tp",
];

/// Gives every device its role. An uplink holds one of the Node's InternalIPs;
/// where no device does, or none is known, it is the device of a default route
/// of table main.
pub fn roles(kernel: &Kernel, internal_ips: &[IpAddr]) -> Roles {
    let uplinks = uplinks(kernel, internal_ips);
    kernel
        .links
        .values()
        .map(|link| (link.index, role(kernel, link, &uplinks)))
        .collect()
}

fn role(kernel: &Kernel, link: &Link, uplinks: &BTreeSet<u32>) -> LinkRole {
    let kind = link.kind.as_str();
    if link.loopback {
        LinkRole::Loopback
    } else if uplinks.contains(&link.index) {
        LinkRole::Uplink
    } else if kind == "bridge" {
        LinkRole::Bridge
    } else if TUNNELS.contains(&kind) {
        LinkRole::Tunnel
    } else if matches!(kind, "veth" | "netkit") && (link.peer_elsewhere || on_a_bridge(kernel, link)) {
        LinkRole::PodPort
    } else {
        LinkRole::Other
    }
}

fn on_a_bridge(kernel: &Kernel, link: &Link) -> bool {
    link.master
        .and_then(|master| kernel.links.get(&master))
        .is_some_and(|master| master.kind == "bridge")
}

fn uplinks(kernel: &Kernel, internal_ips: &[IpAddr]) -> BTreeSet<u32> {
    let holders: BTreeSet<u32> = kernel
        .links
        .values()
        .filter(|link| !link.loopback && link.addresses.iter().any(|a| internal_ips.contains(&a.net.addr())))
        .map(|link| link.index)
        .collect();
    if !holders.is_empty() {
        return holders;
    }
    [IpNet::V4(Default::default()), IpNet::V6(Default::default())]
        .into_iter()
        .filter_map(|default| routes_at(&kernel.routes, MAIN, default)?.first())
        .flat_map(|route| devices(kernel, &route.hops))
        .filter(|index| kernel.links.get(index).is_some_and(|link| !link.loopback))
        .collect()
}

/// The devices that hops go out of.
pub(crate) fn devices(kernel: &Kernel, hops: &Hops) -> Vec<u32> {
    let of = |hops: &[Hop]| hops.iter().filter_map(|hop| hop.device).collect();
    match hops {
        Hops::None => Vec::new(),
        Hops::One(hop) => of(std::slice::from_ref(hop)),
        Hops::Many(hops) => of(hops),
        Hops::Object(id) => match kernel.nexthops.get(id) {
            Some(Nexthop::Hop(hop)) => of(std::slice::from_ref(hop)),
            Some(Nexthop::Group(members)) => members
                .iter()
                .filter_map(|(member, _)| match kernel.nexthops.get(member) {
                    Some(Nexthop::Hop(hop)) => hop.device,
                    _ => None,
                })
                .collect(),
            Some(Nexthop::Blackhole | Nexthop::Fdb(_)) | None => Vec::new(),
        },
    }
}
