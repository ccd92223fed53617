//! `RTM_NEWNETCONF`: the per-device sysctls, as netlink tells them. Read here
//! and not from `/proc/sys/net`: changes are notified, and the answer is that
//! of the socket's namespace whichever thread asks.

use netlink_packet_core::parse_i32;

use super::{AF_INET, AF_INET6, Tally, Undecodable, attributes, need};

/// `struct netconfmsg`: the family, padded.
const HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN: u16 = 6;
/// The last one that this build knows of (`NETCONFA_FORCE_FORWARDING`).
const NETCONFA_LAST: u16 = 9;
const NETCONFA_IFINDEX_ALL: i32 = -1;

/// One setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Decoded {
    pub(in super::super) ipv6: bool,
    /// `None`: `conf.all`.
    pub(in super::super) device: Option<u32>,
    /// `ignore_routes_with_linkdown`, where the message speaks of it.
    pub(in super::super) ignore_linkdown: Option<bool>,
}

/// `None` for `conf.default`, which decides nothing yet, and for other families.
pub(in super::super) fn netconf(payload: &[u8], tally: &mut Tally) -> Result<Option<Decoded>, Undecodable> {
    const M: &str = "netconf";
    let ipv6 = match payload.first() {
        None => return Err(Undecodable::new(M, "no family")),
        Some(&AF_INET) => false,
        Some(&AF_INET6) => true,
        Some(_) => return Ok(None),
    };
    let mut index = None;
    let mut ignore_linkdown = None;
    for attribute in attributes(M, payload, HEADER) {
        let attribute = attribute?;
        match attribute.kind() {
            NETCONFA_IFINDEX => index = Some(need(M, parse_i32(attribute.value()))?),
            NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN => {
                ignore_linkdown = Some(need(M, parse_i32(attribute.value()))? != 0);
            }
            kind if kind > NETCONFA_LAST => tally.unknown_attributes += 1,
            _ => {}
        }
    }
    let device = match index {
        Some(NETCONFA_IFINDEX_ALL) => None,
        Some(index) => match u32::try_from(index) {
            Ok(index) => Some(index),
            Err(_) => return Ok(None),
        },
        None => return Err(Undecodable::new(M, "no NETCONFA_IFINDEX")),
    };
    Ok(Some(Decoded {
        ipv6,
        device,
        ignore_linkdown,
    }))
}
