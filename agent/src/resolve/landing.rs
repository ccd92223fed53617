//! From a route's hop to where the packet lands.

use std::collections::HashSet;
use std::net::IpAddr;

use cidrift_proto::facts::LinkRole;
use cidrift_proto::landing::{Landing, Leg, Via};

use crate::view::{Hop, Hops, Kernel, Link, LinkDetail, Route};

use super::roles::Roles;
use super::table::{Chosen, Outcome};
use super::vxlan;

/// What landings are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ground<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) roles: &'a Roles,
    /// The host's own addresses.
    pub(crate) own: &'a HashSet<IpAddr>,
}

impl Ground<'_> {
    /// Where the packet lands.
    pub(crate) fn landing(&self, outcome: &Outcome<'_>) -> Landing {
        match outcome {
            Outcome::Forward(route, Chosen::One(hop)) => self.hop(route, hop),
            Outcome::Forward(route, Chosen::Many { hops, group }) => self.several(route, hops, *group),
            Outcome::Host(route) => Landing::Host {
                device: self.route_device(route).unwrap_or_else(|| "lo".to_owned()),
            },
            Outcome::Discard(how, _) => Landing::Discard { how: *how },
            Outcome::Unknown(reason, _) => opaque(None, reason),
            Outcome::NoRoute(None) => Landing::NoRoute,
            Outcome::NoRoute(Some(dead)) => self.dead(dead),
        }
    }

    fn several(&self, route: &Route, hops: &[(u16, &Hop)], group: bool) -> Landing {
        let mut legs: Vec<Leg> = hops
            .iter()
            .map(|(weight, hop)| Leg {
                weight: *weight,
                landing: self.hop(route, hop),
            })
            .collect();
        // `nexthop_select_path` passes over members whose neighbour has failed while another one is good.
        let failed = |leg: &Leg| matches!(leg.landing, Landing::UnresolvedNeighbour { .. });
        if group && !legs.iter().all(failed) {
            legs.retain(|leg| !failed(leg));
        }
        match legs.first() {
            Some(first) if legs.iter().all(|leg| leg.landing == first.landing) => first.landing.clone(),
            _ => Landing::Multipath { legs },
        }
    }

    /// A route that the kernel passes over; nothing else matched.
    fn dead(&self, route: &Route) -> Landing {
        let index = first_hop(self.kernel, &route.hops).and_then(|hop| hop.device);
        let Some(link) = index.and_then(|index| self.kernel.links.get(&index)) else {
            return Landing::DeadDevice {
                device: index.map_or_else(|| "unknown".to_owned(), |index| format!("if{index}")),
                reason: "gone".to_owned(),
            };
        };
        let reason = if !link.up {
            "down"
        } else if !link.carrier {
            "no carrier, and ignore_routes_with_linkdown is set"
        } else {
            "the kernel marks the route's next hop as dead"
        };
        dead(&link.name, reason)
    }

    fn route_device(&self, route: &Route) -> Option<String> {
        let index = first_hop(self.kernel, &route.hops)?.device?;
        Some(self.kernel.links.get(&index)?.name.clone())
    }

    /// One live hop.
    pub(crate) fn hop(&self, route: &Route, hop: &Hop) -> Landing {
        let Some(index) = hop.device else {
            return opaque(None, "the route names no device");
        };
        let Some(link) = self.kernel.links.get(&index) else {
            return dead(&format!("if{index}"), "gone");
        };
        if !link.up {
            return dead(&link.name, "down");
        }
        if let Some(encap) = &hop.encap {
            return opaque(Some(link), &format!("the route encapsulates ({encap}) on its own"));
        }
        if let Some(reason) = beyond_the_fib(link) {
            return opaque(Some(link), &reason);
        }
        if let Some(gateway) = hop.gateway
            && self.own.contains(&gateway)
        {
            // `rt_set_nexthop` passes over a gateway of scope host: every address is asked for on the device itself.
            // On an uplink only other hosts could answer; flannel's host-gw leaves such routes for its own Node's
            // new CIDR. On other devices programs are known to take the packets (Cilium on cilium_host).
            if self.roles.get(&link.index) == Some(&LinkRole::Uplink) {
                return self.on_link(link);
            }
            let reason = format!("the gateway {gateway} is an address of this host: eBPF or a proxy decides");
            return opaque(Some(link), &reason);
        }
        match (link.detail, hop.gateway) {
            (LinkDetail::Vxlan { .. } | LinkDetail::Ipip { .. }, _) if !link.carrier => dead(&link.name, "no carrier"),
            (LinkDetail::Vxlan { fact, remote, .. }, Some(gateway)) => {
                vxlan::landing(self.kernel, link, &fact, remote, gateway)
            }
            (LinkDetail::Vxlan { .. }, None) => opaque(
                Some(link),
                "on-link on a VXLAN device: every destination has a neighbour of its own",
            ),
            (LinkDetail::Ipip { remote }, gateway) => self.ipip(link, remote, gateway),
            (LinkDetail::Plain, Some(gateway)) => self.gateway(route, link, gateway),
            (LinkDetail::Plain, None) => self.on_link(link),
        }
    }

    fn ipip(&self, link: &Link, remote: Option<IpAddr>, gateway: Option<IpAddr>) -> Landing {
        // `ip_tunnel_xmit`: a fixed remote wins, else the route's gateway is the outer destination.
        let outer = remote.or(gateway.filter(|gateway| gateway.is_ipv4()));
        match outer {
            Some(address) => Landing::Underlay {
                address,
                via: Via::Ipip {
                    device: link.name.clone(),
                },
            },
            None => opaque(
                Some(link),
                "neither the tunnel nor the route names the outer destination",
            ),
        }
    }

    fn on_link(&self, link: &Link) -> Landing {
        let device = link.name.clone();
        if self.is_underlay(link) {
            return if link.carrier {
                Landing::Onlink { device }
            } else {
                dead(&link.name, "no carrier")
            };
        }
        Landing::Local {
            device,
            carrier: link.carrier,
        }
    }

    /// Uplinks, and other hardware or what is stacked on it: no pod is behind it.
    fn is_underlay(&self, link: &Link) -> bool {
        self.roles.get(&link.index) == Some(&LinkRole::Uplink)
            || matches!(
                link.kind.as_str(),
                "" | "vlan" | "bond" | "team" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap"
            )
    }

    fn gateway(&self, route: &Route, link: &Link, gateway: IpAddr) -> Landing {
        if !link.carrier {
            return dead(&link.name, "no carrier");
        }
        let neighbour = self.kernel.neighbours.get(&(link.index, gateway));
        if neighbour.is_some_and(|neighbour| neighbour.failed) {
            return Landing::UnresolvedNeighbour {
                device: link.name.clone(),
                gateway,
                reason: "nobody answers for it (neighbour FAILED)".to_owned(),
            };
        }
        let address = match gateway {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                let known = neighbour
                    .and_then(|neighbour| neighbour.lladdr)
                    .and_then(|lladdr| self.same_station(link, gateway, lladdr));
                match known {
                    Some(address) => address,
                    // A default route's router is no node as a rule; whose address a
                    // link-local next hop of a longer route is cannot be seen from here.
                    None if route.prefix.prefix_len() == 0 => gateway,
                    None => {
                        let reason = format!("whose link-local address {gateway} is cannot be seen from here");
                        return opaque(Some(link), &reason);
                    }
                }
            }
            _ => gateway,
        };
        Landing::Underlay {
            address,
            via: Via::Gateway {
                device: link.name.clone(),
            },
        }
    }

    /// The one global address that the same station has on the same device.
    fn same_station(&self, link: &Link, gateway: IpAddr, lladdr: cidrift_proto::landing::MacAddress) -> Option<IpAddr> {
        let mut found = self
            .kernel
            .neighbours
            .iter()
            .filter(|((index, address), neighbour)| {
                *index == link.index
                    && *address != gateway
                    && neighbour.lladdr == Some(lladdr)
                    && matches!(address, IpAddr::V6(v6) if !v6.is_unicast_link_local() && !v6.is_multicast())
            })
            .map(|((_, address), _)| *address);
        let one = found.next()?;
        found.next().is_none().then_some(one)
    }
}

/// Why a device's own machinery, not the FIB, decides where its packets go.
fn beyond_the_fib(link: &Link) -> Option<String> {
    if link.loopback {
        return Some("a unicast route to the loopback device".to_owned());
    }
    if let LinkDetail::Vxlan { external: true, .. } = link.detail {
        return Some("VXLAN with external control: eBPF or Open vSwitch sets the destination".to_owned());
    }
    Some(match link.kind.as_str() {
        "" | "bridge" | "veth" | "netkit" | "tun" | "tap" | "vlan" | "bond" | "team" | "macvlan" | "macvtap"
        | "ipvlan" | "ipvtap" => return None,
        "vxlan" | "ipip" | "sit" if link.detail != LinkDetail::Plain => return None,
        "wireguard" => "WireGuard: its peers' allowed IPs decide".to_owned(),
        "openvswitch" => "Open vSwitch: its flows decide".to_owned(),
        "geneve" => "Geneve: its own configuration decides".to_owned(),
        "dummy" => "a dummy device: packets vanish unless eBPF takes them".to_owned(),
        "vrf" => "a VRF: its own table decides".to_owned(),
        kind => format!("devices of kind {kind} are not modelled"),
    })
}

fn first_hop<'k>(kernel: &'k Kernel, hops: &'k Hops) -> Option<&'k Hop> {
    use crate::view::Nexthop;
    match hops {
        Hops::None => None,
        Hops::One(hop) => Some(hop),
        Hops::Many(hops) => hops.first(),
        Hops::Object(id) => match kernel.nexthops.get(id)? {
            Nexthop::Hop(hop) => Some(hop),
            Nexthop::Group(members) => match kernel.nexthops.get(&members.first()?.0)? {
                Nexthop::Hop(hop) => Some(hop),
                _ => None,
            },
            Nexthop::Blackhole | Nexthop::Fdb(_) => None,
        },
    }
}

pub(crate) fn opaque(link: Option<&Link>, reason: &str) -> Landing {
    Landing::Opaque {
        device: link.map(|link| link.name.clone()),
        reason: reason.to_owned(),
    }
}

fn dead(device: &str, reason: &str) -> Landing {
    Landing::DeadDevice {
        device: device.to_owned(),
        reason: reason.to_owned(),
    }
}
