//! `RTM_NEWNEXTHOP`, `RTM_DELNEXTHOP`. netlink-packet-route does not speak
//! them; the layout is that of `include/uapi/linux/nexthop.h`.

use netlink_packet_core::{parse_ip, parse_u16, parse_u32};

use super::{Tally, Undecodable, attributes, need, route::encap_name};
use crate::view::{Hop, Nexthop};

/// `struct nhmsg`: family, scope, protocol, reserved, flags.
const HEADER: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
const NHA_FDB: u16 = 11;
/// The last one that this build knows of (`NHA_HW_STATS_USED`).
const NHA_LAST: u16 = 17;
/// `struct nexthop_grp`: id, weight, weight's high byte, reserved.
const GROUP_ENTRY: usize = 8;
const RTNH_F_DEAD: u32 = 1;
const RTNH_F_ONLINK: u32 = 4;
const RTNH_F_LINKDOWN: u32 = 16;

/// Its id, and what it is.
pub(in super::super) fn nexthop(payload: &[u8], tally: &mut Tally) -> Result<(u32, Nexthop), Undecodable> {
    const M: &str = "nexthop";
    let flags = need(M, parse_u32(payload.get(4..HEADER).unwrap_or_default()))?;
    let mut id = None;
    let mut group = None;
    let mut blackhole = false;
    let mut fdb = false;
    let mut device = None;
    let mut gateway = None;
    let mut encap = None;
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            NHA_ID => id = Some(need(M, parse_u32(value))?),
            NHA_GROUP => group = Some(members(value)?),
            NHA_BLACKHOLE => blackhole = true,
            NHA_OIF => device = Some(need(M, parse_u32(value))?),
            NHA_GATEWAY => gateway = Some(need(M, parse_ip(value))?),
            NHA_ENCAP_TYPE => encap = Some(encap_name(need(M, parse_u16(value))?)),
            NHA_FDB => fdb = true,
            kind if kind > NHA_LAST => tally.unknown_attributes += 1,
            _ => {}
        }
    }
    let id = id.ok_or_else(|| Undecodable::new(M, "no NHA_ID"))?;
    let nexthop = match (group, gateway) {
        (Some(members), _) => Nexthop::Group(members),
        _ if blackhole => Nexthop::Blackhole,
        (None, Some(address)) if fdb => Nexthop::Fdb(address),
        (None, gateway) => Nexthop::Hop(Hop {
            device,
            gateway,
            weight: 1,
            dead: flags & RTNH_F_DEAD != 0,
            linkdown: flags & RTNH_F_LINKDOWN != 0,
            onlink: flags & RTNH_F_ONLINK != 0,
            encap,
        }),
    };
    Ok((id, nexthop))
}

fn members(value: &[u8]) -> Result<Vec<(u32, u16)>, Undecodable> {
    const M: &str = "nexthop";
    if !value.len().is_multiple_of(GROUP_ENTRY) {
        return Err(Undecodable::new(M, format!("a group of {} bytes", value.len())));
    }
    let member = |entry: &[u8]| {
        let id = need(M, parse_u32(&entry[..4]))?;
        // The kernel stores weight - 1; 16 bits of it since Linux 6.12.
        let weight = u16::from_le_bytes([entry[4], entry[5]]).saturating_add(1);
        Ok((id, weight))
    };
    value.chunks_exact(GROUP_ENTRY).map(member).collect()
}
