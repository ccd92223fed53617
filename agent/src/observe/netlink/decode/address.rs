//! `RTM_NEWADDR`, `RTM_DELADDR`.

use ipnet::IpNet;
use netlink_packet_core::{parse_ip, parse_u32};
use netlink_packet_route::address::AddressHeader;

use super::{Tally, Undecodable, attributes, need};
use crate::view::LinkAddress;

const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
/// The last one that this build knows of (`IFA_PROTO`).
const IFA_LAST: u16 = 11;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// The device's ifindex and the address. `None` for families that are not IPv4 or IPv6.
pub(in super::super) fn address(payload: &[u8], tally: &mut Tally) -> Result<Option<(u32, LinkAddress)>, Undecodable> {
    const M: &str = "address";
    let header = need(M, AddressHeader::parse(payload))?;
    let mut own = None;
    let mut other = None;
    let mut flags = u32::from(header.flags.bits());
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        match attribute.kind() {
            // On a point-to-point device IFA_ADDRESS is the peer's.
            IFA_LOCAL => own = Some(need(M, parse_ip(attribute.value()))?),
            IFA_ADDRESS => other = Some(need(M, parse_ip(attribute.value()))?),
            IFA_FLAGS => flags = need(M, parse_u32(attribute.value()))?,
            kind if kind > IFA_LAST => tally.unknown_attributes += 1,
            _ => {}
        }
    }
    let Some(address) = own.or(other) else { return Ok(None) };
    let net = IpNet::new(address, header.prefix_len).map_err(|error| Undecodable::new(M, error))?;
    // IPv4 uses the same bits for other things; it has no tentative addresses.
    let unusable = address.is_ipv6()
        && (flags & IFA_F_DADFAILED != 0 || (flags & IFA_F_TENTATIVE != 0 && flags & IFA_F_OPTIMISTIC == 0));
    Ok(Some((header.index, LinkAddress { net, unusable })))
}
