//! `RTM_NEWNEIGH`, `RTM_DELNEIGH`: neighbours and, as family AF_BRIDGE, FDB entries.

use std::net::IpAddr;

use cidrift_proto::landing::MacAddress;
use netlink_packet_core::{parse_ip, parse_mac, parse_u32};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourHeader};

use super::{AF_BRIDGE, AF_INET, AF_INET6, Tally, Undecodable, attributes, need};
use crate::view::{FdbEntry, Neighbour};

const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_NH_ID: u16 = 13;
/// The last one that this build knows of (`NDA_NDM_FLAGS_MASK`).
const NDA_LAST: u16 = 17;
const NUD_FAILED: u16 = 0x20;
const NUD_PERMANENT: u16 = 0x80;

/// A neighbour message, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Decoded {
    /// A neighbour. `None`: the entry says nothing (it is being asked for), which is the same as no entry.
    Neighbour(u32, IpAddr, Option<Neighbour>),
    /// An FDB entry that a device keeps for itself (`self`).
    Fdb(u32, MacAddress, FdbEntry),
}

/// `None` for what decides no landing: proxy entries, multicast, a bridge's own FDB.
pub(in super::super) fn neighbour(payload: &[u8], tally: &mut Tally) -> Result<Option<Decoded>, Undecodable> {
    const M: &str = "neighbour";
    let header = need(M, NeighbourHeader::parse(payload))?;
    let family = u8::from(header.family);
    let wanted = match family {
        AF_INET | AF_INET6 => !header.flags.contains(NeighbourFlags::Proxy),
        AF_BRIDGE => header.flags.contains(NeighbourFlags::Own),
        _ => false,
    };
    if !wanted {
        return Ok(None);
    }
    let mut destination = None;
    let mut lladdr = None;
    let mut nexthop = None;
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        match attribute.kind() {
            NDA_DST => destination = Some(need(M, parse_ip(attribute.value()))?),
            // Not a MAC on tunnels and InfiniBand.
            NDA_LLADDR => lladdr = parse_mac(attribute.value()).ok().map(MacAddress),
            NDA_NH_ID => nexthop = Some(need(M, parse_u32(attribute.value()))?),
            kind if kind > NDA_LAST => tally.unknown_attributes += 1,
            _ => {}
        }
    }
    let state = u16::from(header.state);
    let permanent = state & NUD_PERMANENT != 0;
    let failed = state & NUD_FAILED != 0;
    if family == AF_BRIDGE {
        let entry = FdbEntry {
            destination,
            nexthop,
            permanent,
        };
        return Ok(lladdr.map(|mac| Decoded::Fdb(header.ifindex, mac, entry)));
    }
    let Some(address) = destination else { return Ok(None) };
    if address.is_multicast() {
        return Ok(None);
    }
    let known = (lladdr.is_some() || permanent || failed).then_some(Neighbour {
        // A failed entry may still carry the address that no longer answers.
        lladdr: lladdr.filter(|_| !failed),
        permanent,
        failed,
    });
    Ok(Some(Decoded::Neighbour(header.ifindex, address, known)))
}
