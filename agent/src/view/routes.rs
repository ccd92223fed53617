//! Routes, tables and nexthop objects.

use std::collections::HashMap;
use std::net::IpAddr;

use cidrift_proto::landing::Discard;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// The routes of every table, by table id, both families.
#[derive(Debug, Clone, Default)]
pub struct Tables {
    /// IPv4: every prefix with its routes in the order that the kernel tries them.
    pub v4: HashMap<u32, PrefixMap<Ipv4Net, Vec<Route>>>,
    /// IPv6, likewise.
    pub v6: HashMap<u32, PrefixMap<Ipv6Net, Vec<Route>>>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Table id.
    pub table: u32,
    /// `RTA_PRIORITY`, 0 where absent (IPv6 routes carry 1024 by default).
    pub metric: u32,
    /// `rtm_tos`.
    pub tos: u8,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// `rtm_scope`.
    pub scope: u8,
    /// `rtm_type`.
    pub kind: RouteKind,
    /// Where to.
    pub hops: Hops,
}

/// `rtm_type`, as far as it matters to a landing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// RTN_UNICAST.
    Unicast,
    /// RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST: stays on the host.
    Host,
    /// RTN_MULTICAST.
    Multicast,
    /// RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT.
    Discard(Discard),
    /// RTN_THROW: go on with the next rule.
    Throw,
    /// A type that this build does not know.
    Other(u8),
}

/// A route's next hops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hops {
    /// None: a discard route.
    None,
    /// One.
    One(Hop),
    /// `RTA_MULTIPATH`.
    Many(Vec<Hop>),
    /// `RTA_NH_ID`: a nexthop object; what it is stands in [`super::Kernel::nexthops`].
    Object(u32),
}

/// One next hop.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// ifindex; `None` where the kernel named none.
    pub device: Option<u32>,
    /// `RTA_GATEWAY` or `RTA_VIA`.
    pub gateway: Option<IpAddr>,
    /// The kernel's weight: `rtnh_hops + 1`.
    pub weight: u16,
    /// `RTNH_F_DEAD`.
    pub dead: bool,
    /// `RTNH_F_LINKDOWN`.
    pub linkdown: bool,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// `RTA_ENCAP_TYPE`: a lightweight tunnel (MPLS, SRv6, BPF …) decides further.
    pub encap: Option<String>,
}

/// A nexthop object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nexthop {
    /// A single next hop.
    Hop(Hop),
    /// `blackhole`.
    Blackhole,
    /// A group of objects: id and weight. Resilient groups too.
    Group(Vec<(u32, u16)>),
    /// An FDB nexthop (for VXLAN), with its address.
    Fdb(IpAddr),
}
