//! The kernel's networking state of one network namespace.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use cidrift_proto::facts::VxlanFact;
use cidrift_proto::landing::MacAddress;
use ipnet::IpNet;

use super::routes::{Nexthop, Tables};

/// Everything that decides where a packet goes.
#[derive(Debug, Clone, Default)]
pub struct Kernel {
    /// Devices by ifindex.
    pub links: BTreeMap<u32, Link>,
    /// Policy rules of both families, in the kernel's order: by priority, then as dumped.
    pub rules: Vec<Rule>,
    /// Routes of every table.
    pub routes: Tables,
    /// Nexthop objects by id.
    pub nexthops: HashMap<u32, Nexthop>,
    /// Neighbour entries by device and address.
    pub neighbours: HashMap<(u32, IpAddr), Neighbour>,
    /// FDB entries of VXLAN devices (those with `self`), by device and MAC. The
    /// all-zeros MAC is the default destination.
    pub fdb: HashMap<(u32, MacAddress), Vec<FdbEntry>>,
    /// The sysctls that change a lookup.
    pub sysctls: Sysctls,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// ifindex.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND`, empty for a plain device.
    pub kind: String,
    /// `IFF_UP`: administratively up.
    pub up: bool,
    /// `IFF_LOWER_UP`: has a carrier.
    pub carrier: bool,
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// Bytes.
    pub mtu: u32,
    /// Where it is a MAC address.
    pub lladdr: Option<MacAddress>,
    /// ifindex of the bridge (or other master) that it is a port of.
    pub master: Option<u32>,
    /// True when the peer (`IFLA_LINK`) is in another namespace, as a pod's veth is.
    pub peer_elsewhere: bool,
    /// Addresses, in the kernel's order.
    pub addresses: Vec<LinkAddress>,
    /// What its kind adds.
    pub detail: LinkDetail,
}

/// What a device's kind adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LinkDetail {
    /// Nothing of interest.
    #[default]
    Plain,
    /// A VXLAN device.
    Vxlan {
        /// VNI, port, learning, local address.
        fact: VxlanFact,
        /// The default remote (`IFLA_VXLAN_GROUP[6]`) when it is a unicast address.
        remote: Option<IpAddr>,
        /// `external` (collect metadata): the destination is chosen outside the FDB.
        external: bool,
    },
    /// An IPIP or SIT device with its fixed remote, if it has one.
    Ipip {
        /// The remote.
        remote: Option<IpAddr>,
    },
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkAddress {
    /// The address with its prefix length, host bits kept.
    pub net: IpNet,
    /// Not usable (IPv6 tentative or duplicate).
    pub unusable: bool,
}

/// A policy rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// True for an IPv6 rule.
    pub ipv6: bool,
    /// `FRA_PRIORITY`.
    pub priority: u32,
    /// `not`: the selectors must *not* match.
    pub invert: bool,
    /// `from`.
    pub source: Option<IpNet>,
    /// `to`.
    pub destination: Option<IpNet>,
    /// `iif`, by name. "lo" means locally made packets.
    pub iif: Option<String>,
    /// `oif`, by name.
    pub oif: Option<String>,
    /// `fwmark` and its mask.
    pub mark: Option<(u32, u32)>,
    /// `tos`/`dsfield`.
    pub tos: u8,
    /// `ipproto`.
    pub ip_protocol: Option<u8>,
    /// `sport`, inclusive.
    pub source_ports: Option<(u16, u16)>,
    /// `dport`, inclusive.
    pub destination_ports: Option<(u16, u16)>,
    /// `uidrange`, inclusive.
    pub uids: Option<(u32, u32)>,
    /// `suppress_prefixlength`: a match at most this long does not count.
    pub suppress_prefix_length: Option<u32>,
    /// Something this build does not model (l3mdev, tun_id, suppress_ifgroup, …): the rule's effect is not known.
    pub unmodelled: Option<String>,
    /// What it does.
    pub action: RuleAction,
}

/// What a policy rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleAction {
    /// `lookup TABLE`.
    Table(u32),
    /// `goto PRIORITY`.
    Goto(u32),
    /// `nop`.
    Nop,
    /// `blackhole`.
    Blackhole,
    /// `unreachable`.
    Unreachable,
    /// `prohibit`.
    Prohibit,
}

/// A neighbour entry, as far as it decides a landing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The link-layer address, where it is a MAC and known.
    pub lladdr: Option<MacAddress>,
    /// `NUD_PERMANENT`.
    pub permanent: bool,
    /// `NUD_FAILED`: it was asked for and nobody answered.
    pub failed: bool,
}

/// A VXLAN FDB entry's destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// `NDA_DST`: the underlay address.
    pub destination: Option<IpAddr>,
    /// `NDA_NH_ID`: a nexthop group instead of an address.
    pub nexthop: Option<u32>,
    /// `NUD_PERMANENT`: configured, not learned.
    pub permanent: bool,
}

/// The sysctls that change what a route means. Read from `/proc/sys/net`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sysctls {
    /// `net.ipv4.conf.all.ignore_routes_with_linkdown`.
    pub ipv4_ignore_linkdown_all: bool,
    /// Devices with `net.ipv4.conf.DEV.ignore_routes_with_linkdown`, by name.
    pub ipv4_ignore_linkdown: Vec<String>,
    /// `net.ipv6.conf.all.ignore_routes_with_linkdown`.
    pub ipv6_ignore_linkdown_all: bool,
    /// Devices with `net.ipv6.conf.DEV.ignore_routes_with_linkdown`, by name.
    pub ipv6_ignore_linkdown: Vec<String>,
    /// Why they could not be read.
    pub unreadable: Option<String>,
}
