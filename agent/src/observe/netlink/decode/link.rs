//! `RTM_NEWLINK`, `RTM_DELLINK`.

use std::net::IpAddr;

use cidrift_proto::facts::VxlanFact;
use cidrift_proto::landing::MacAddress;
use netlink_packet_core::{NlaBuffer, NlasIterator, Parseable, parse_ip, parse_mac, parse_string, parse_u8, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{InfoKind, InfoVxlan, LinkFlags, LinkHeader};

use super::{Tally, Undecodable, attributes, need};
use crate::view::{Link, LinkDetail};

const HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
/// The last one that this build knows of (`IFLA_NETNS_IMMUTABLE` and a few after it).
const IFLA_LAST: u16 = 70;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;

/// A link message, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Decoded {
    /// Without addresses: they come in messages of their own.
    pub(in super::super) link: Link,
    /// What moves routes without a message when it changes.
    pub(in super::super) state: LinkState,
}

/// The state whose change makes the kernel drop, kill or revive routes silently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct LinkState {
    up: bool,
    running: bool,
    carrier: bool,
    /// `IF_OPER_*`.
    operstate: u8,
}

/// `None` for messages that do not describe a whole device: a bridge port's
/// own (AF_BRIDGE; its RTM_DELLINK means that the port left the bridge) and
/// wireless events.
pub(in super::super) fn link(payload: &[u8], tally: &mut Tally) -> Result<Option<Decoded>, Undecodable> {
    const M: &str = "link";
    let header = need(M, LinkHeader::parse(payload))?;
    if header.interface_family != AddressFamily::Unspec {
        return Ok(None);
    }
    let mut name = None;
    let mut mtu = 0;
    let mut lladdr = None;
    let mut master = None;
    let mut peer_elsewhere = false;
    let mut operstate = 0;
    let mut kind = String::new();
    let mut detail = LinkDetail::Plain;
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            IFLA_IFNAME => name = Some(need(M, parse_string(value))?),
            IFLA_MTU => mtu = need(M, parse_u32(value))?,
            // An IPIP device's is its local IPv4 address: no MAC.
            IFLA_ADDRESS => lladdr = parse_mac(value).ok().map(MacAddress),
            IFLA_MASTER => master = Some(need(M, parse_u32(value))?).filter(|index| *index != 0),
            IFLA_OPERSTATE => operstate = need(M, parse_u8(value))?,
            IFLA_LINK_NETNSID => peer_elsewhere = true,
            IFLA_LINKINFO => (kind, detail) = info(value, tally)?,
            other if other > IFLA_LAST => tally.unknown_attributes += 1,
            _ => {}
        }
    }
    let Some(name) = name else { return Ok(None) };
    let flags = header.flags;
    let state = LinkState {
        up: flags.contains(LinkFlags::Up),
        running: flags.contains(LinkFlags::Running),
        carrier: flags.contains(LinkFlags::LowerUp),
        operstate,
    };
    Ok(Some(Decoded {
        link: Link {
            index: header.index,
            name,
            kind,
            up: state.up,
            carrier: state.carrier,
            loopback: flags.contains(LinkFlags::Loopback),
            mtu,
            lladdr,
            master,
            peer_elsewhere,
            addresses: Vec::new(),
            detail,
        },
        state,
    }))
}

/// `IFLA_LINKINFO`.
fn info(value: &[u8], tally: &mut Tally) -> Result<(String, LinkDetail), Undecodable> {
    const M: &str = "link";
    let mut kind = String::new();
    let mut detail = LinkDetail::Plain;
    for attribute in NlasIterator::new(value) {
        let attribute = need(M, attribute)?;
        match attribute.kind() {
            IFLA_INFO_KIND => {
                kind = need(M, parse_string(attribute.value()))?;
                if matches!(InfoKind::parse(&attribute), Ok(InfoKind::Other(_)) | Err(_)) {
                    tally.unknown_link_kinds += 1;
                }
            }
            // The kernel puts the kind first.
            IFLA_INFO_DATA => match kind.as_str() {
                "vxlan" => detail = vxlan(&attribute, tally)?,
                "ipip" | "sit" => detail = ipip(&attribute)?,
                _ => {}
            },
            _ => {}
        }
    }
    Ok((kind, detail))
}

fn vxlan(data: &NlaBuffer<&[u8]>, tally: &mut Tally) -> Result<LinkDetail, Undecodable> {
    let mut fact = VxlanFact {
        vni: 0,
        port: 0,
        learning: false,
        local: None,
    };
    let mut remote: Option<IpAddr> = None;
    let mut external = false;
    for attribute in NlasIterator::new(data.value()) {
        match InfoVxlan::parse(&need("link", attribute)?) {
            Ok(InfoVxlan::Id(vni)) => fact.vni = vni,
            Ok(InfoVxlan::Port(port)) => fact.port = port,
            Ok(InfoVxlan::Learning(learning)) => fact.learning = learning,
            Ok(InfoVxlan::Local(address)) => fact.local = Some(address.into()),
            Ok(InfoVxlan::Local6(address)) => fact.local = Some(address.into()),
            Ok(InfoVxlan::Group(address)) => remote = Some(address.into()),
            Ok(InfoVxlan::Group6(address)) => remote = Some(address.into()),
            Ok(InfoVxlan::CollectMetadata(on)) => external = on,
            Ok(InfoVxlan::Other(_)) => tally.unknown_attributes += 1,
            Ok(_) => {}
            Err(_) => tally.bad_attributes += 1,
        }
    }
    Ok(LinkDetail::Vxlan {
        fact,
        remote: remote.filter(|address| !address.is_multicast() && !address.is_unspecified()),
        external,
    })
}

fn ipip(data: &NlaBuffer<&[u8]>) -> Result<LinkDetail, Undecodable> {
    let mut remote = None;
    for attribute in NlasIterator::new(data.value()) {
        let attribute = need("link", attribute)?;
        if attribute.kind() == IFLA_IPTUN_REMOTE {
            remote = Some(need("link", parse_ip(attribute.value()))?).filter(|address| !address.is_unspecified());
        }
    }
    Ok(LinkDetail::Ipip { remote })
}
