//! `RTM_NEWROUTE`, `RTM_DELROUTE`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cidrift_proto::landing::Discard;
use ipnet::IpNet;
use netlink_packet_core::{ParseableParametrized, parse_ip, parse_u16, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteNextHop, RouteNextHopFlags, RouteType,
};

use super::{Tally, Undecodable, attributes, need};
use crate::view::{Hop, Hops, Route, RouteKind};

const HEADER: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_NH_ID: u16 = 30;
/// The last one that this build knows of (`RTA_FLOWLABEL`).
const RTA_LAST: u16 = 31;

/// A route message, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Decoded {
    pub(in super::super) route: Route,
    /// `RTM_F_CLONED`: a cached copy of a route, or an answer to a lookup.
    pub(in super::super) cloned: bool,
    /// An IPv6 route for some sources only (`rtm_src_len`): not modelled.
    pub(in super::super) by_source: bool,
}

/// `None` for families that are not IPv4 or IPv6.
pub(in super::super) fn route(payload: &[u8], tally: &mut Tally) -> Result<Option<Decoded>, Undecodable> {
    const M: &str = "route";
    let header = need(M, RouteHeader::parse(payload))?;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return Ok(None),
    };
    let mut destination = any;
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let mut device = None;
    let mut gateway = None;
    let mut object = None;
    let mut encap = None;
    let mut legs = None;
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            RTA_DST => destination = need(M, parse_ip(value))?,
            RTA_OIF => device = Some(need(M, parse_u32(value))?),
            RTA_GATEWAY => gateway = Some(need(M, parse_ip(value))?),
            RTA_VIA => gateway = Some(via(value)?),
            RTA_PRIORITY => metric = need(M, parse_u32(value))?,
            RTA_TABLE => table = need(M, parse_u32(value))?,
            RTA_NH_ID => object = Some(need(M, parse_u32(value))?),
            RTA_ENCAP_TYPE => encap = Some(encap_name(need(M, parse_u16(value))?)),
            RTA_MULTIPATH => {
                // The encapsulation's own attributes are not read: its presence is what counts.
                let parameters = (header.address_family, header.kind, RouteLwEnCapType::None);
                match need(M, RouteAttribute::parse_with_param(&attribute, parameters))? {
                    RouteAttribute::MultiPath(hops) => legs = Some(hops),
                    _ => return Err(Undecodable::new(M, "RTA_MULTIPATH without next hops")),
                }
            }
            kind if kind > RTA_LAST => tally.unknown_attributes += 1,
            _ => {}
        }
    }
    if destination.is_ipv4() != any.is_ipv4() {
        return Err(Undecodable::new(M, "destination of another family"));
    }
    let prefix = IpNet::new(destination, header.destination_prefix_length).map_err(|e| Undecodable::new(M, e))?;
    let kind = kind(header.kind);
    let hops = match (kind, object, legs) {
        (_, Some(id), _) => Hops::Object(id),
        // IPv6 names the loopback as the device of a blackhole.
        (RouteKind::Discard(_) | RouteKind::Throw, ..) => Hops::None,
        (_, None, Some(legs)) => Hops::Many(legs.into_iter().map(leg).collect()),
        (_, None, None) => Hops::One(Hop {
            device,
            gateway,
            weight: 1,
            dead: header.flags.contains(RouteFlags::Dead),
            linkdown: header.flags.contains(RouteFlags::Linkdown),
            onlink: header.flags.contains(RouteFlags::Onlink),
            encap,
        }),
    };
    Ok(Some(Decoded {
        route: Route {
            prefix: prefix.trunc(),
            table,
            metric,
            tos: header.tos,
            protocol: header.protocol.into(),
            scope: header.scope.into(),
            kind,
            hops,
        },
        cloned: header.flags.contains(RouteFlags::Cloned),
        by_source: header.source_prefix_length != 0,
    }))
}

fn kind(kind: RouteType) -> RouteKind {
    match kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast => RouteKind::Host,
        RouteType::Multicast => RouteKind::Multicast,
        RouteType::BlackHole => RouteKind::Discard(Discard::Blackhole),
        RouteType::Unreachable => RouteKind::Discard(Discard::Unreachable),
        RouteType::Prohibit => RouteKind::Discard(Discard::Prohibit),
        RouteType::Throw => RouteKind::Throw,
        other => RouteKind::Other(other.into()),
    }
}

fn leg(hop: RouteNextHop) -> Hop {
    let mut gateway = None;
    let mut encap = None;
    for attribute in hop.attributes {
        match attribute {
            RouteAttribute::Gateway(address) => gateway = address_of(address),
            RouteAttribute::Via(via) => gateway = via_of(via),
            RouteAttribute::EncapType(kind) => encap = Some(encap_name(kind.into())),
            _ => {}
        }
    }
    Hop {
        device: (hop.interface_index != 0).then_some(hop.interface_index),
        gateway,
        weight: u16::from(hop.hops) + 1,
        dead: hop.flags.contains(RouteNextHopFlags::Dead),
        linkdown: hop.flags.contains(RouteNextHopFlags::Linkdown),
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
        encap,
    }
}

fn address_of(address: netlink_packet_route::route::RouteAddress) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteAddress;
    match address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

fn via_of(via: netlink_packet_route::route::RouteVia) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteVia;
    match via {
        RouteVia::Inet(address) => Some(address.into()),
        RouteVia::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

/// `struct rtvia`: family, then the address.
fn via(value: &[u8]) -> Result<IpAddr, Undecodable> {
    need("route", parse_ip(value.get(2..).unwrap_or_default()))
}

/// `LWTUNNEL_ENCAP_*`, as iproute2 names them.
pub(super) fn encap_name(kind: u16) -> String {
    match kind {
        1 => "mpls",
        2 => "ip",
        3 => "ila",
        4 => "ip6",
        5 => "seg6",
        6 => "bpf",
        7 => "seg6local",
        8 => "rpl",
        9 => "ioam6",
        10 => "xfrm",
        other => return format!("encap {other}"),
    }
    .to_owned()
}
