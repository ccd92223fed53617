//! `RTM_GETROUTE`: the kernel's own answer to "where would this packet go".

use std::net::IpAddr;

use cidrift_proto::landing::Discard;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{AsyncSocketExt, TokioSocket};
use nix::errno::Errno;

use super::decode::{Tally, route};
use super::frame::{errno, frames};
use super::request::RTM_NEWROUTE;
use super::{ObserveError, socket};
use crate::view::{Hops, RouteKind};

/// A lookup to ask the kernel for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Where to.
    pub destination: IpAddr,
    /// Where from.
    pub source: Option<IpAddr>,
    /// ifindex of the device that it comes in by. Without it, the packet is the host's own.
    pub iif: Option<u32>,
    /// ifindex of the device that it must leave by.
    pub oif: Option<u32>,
    /// fwmark.
    pub mark: u32,
    /// TOS byte.
    pub tos: u8,
    /// IP protocol, for rules that select by it.
    pub ip_protocol: Option<u8>,
    /// Source port, likewise.
    pub source_port: Option<u16>,
    /// Destination port, likewise.
    pub destination_port: Option<u16>,
    /// Ask for the FIB entry that matches (`RTM_F_FIB_MATCH`), not for the resolved route to the address.
    pub fib_match: bool,
}

impl Query {
    /// A packet of the host's own to this address; the FIB entry is asked for.
    pub fn to(destination: IpAddr) -> Self {
        Self {
            destination,
            source: None,
            iif: None,
            oif: None,
            mark: 0,
            tos: 0,
            ip_protocol: None,
            source_port: None,
            destination_port: None,
            fib_match: true,
        }
    }
}

/// The kernel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It would be routed.
    Route {
        /// `rtm_type`.
        kind: RouteKind,
        /// Table of the matching route.
        table: u32,
        /// The matching route's destination. `None` where the kernel answered with a
        /// resolved route instead: `fib_match` was not asked for, or is older than this kernel.
        prefix: Option<IpNet>,
        /// ifindex of the device; of the first next hop where there are several.
        device: Option<u32>,
        /// The gateway, likewise.
        gateway: Option<IpAddr>,
        /// The nexthop object.
        nexthop_id: Option<u32>,
        /// All next hops, as the route names them.
        hops: Hops,
        /// `RTA_PRIORITY`.
        metric: u32,
        /// `rtm_protocol`.
        protocol: u8,
    },
    /// A discarding route matched. With `iif`, [`Discard::Blackhole`] (EINVAL) may also
    /// mean that the source is martian: the kernel's error is the same.
    Discard(Discard),
    /// None matched (ENETUNREACH).
    NoRoute,
    /// The kernel would not say: the error's text. EXDEV is reverse path filtering.
    Refused(String),
}

/// Asks the kernel for lookups.
pub struct Referee {
    socket: TokioSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Referee {
    /// Opens its socket, in the namespace of the thread that polls this first.
    pub async fn new() -> Result<Self, ObserveError> {
        Ok(Self {
            socket: socket::for_requests()?,
            sequence: 0,
            // One answer is one route; a multipath one with 256 legs still fits.
            buffer: Vec::with_capacity(16 * 1024),
        })
    }

    /// Asks once. Cancel-safe: a late answer is not taken for the next one's.
    pub async fn lookup(&mut self, query: &Query) -> Result<Answer, ObserveError> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(query, self.sequence);
        self.socket.send(&request).await.map_err(ObserveError::socket("send"))?;
        loop {
            self.buffer.clear();
            self.socket
                .recv(&mut self.buffer)
                .await
                .map_err(ObserveError::socket("receive"))?;
            for frame in frames(&self.buffer) {
                let frame = frame.map_err(|error| ObserveError::Answer(error.to_string()))?;
                if frame.sequence != self.sequence {
                    continue;
                }
                match frame.kind {
                    RTM_NEWROUTE => return answer(frame.payload, query.fib_match),
                    NLMSG_ERROR => return Ok(refusal(errno(frame.payload))),
                    _ => {}
                }
            }
        }
    }
}

fn request(query: &Query, sequence: u32) -> Vec<u8> {
    let (family, bits) = match query.destination {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = bits;
    message.header.tos = query.tos;
    message.header.flags = RouteFlags::LookupTable;
    if query.fib_match {
        message.header.flags |= RouteFlags::FibMatch;
    }
    let address = |address| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(address(query.destination)));
    if let Some(source) = query.source {
        message.header.source_prefix_length = bits;
        attributes.push(RouteAttribute::Source(address(source)));
    }
    attributes.extend(query.iif.map(RouteAttribute::Iif));
    attributes.extend(query.oif.map(RouteAttribute::Oif));
    if query.mark != 0 {
        attributes.push(RouteAttribute::Mark(query.mark));
    }
    attributes.extend(query.ip_protocol.map(RouteAttribute::IpProto));
    attributes.extend(query.source_port.map(RouteAttribute::Sport));
    attributes.extend(query.destination_port.map(RouteAttribute::Dport));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence;
    let payload = NetlinkPayload::InnerMessage(RouteNetlinkMessage::GetRoute(message));
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn answer(payload: &[u8], fib_match: bool) -> Result<Answer, ObserveError> {
    let found = route::route(payload, &mut Tally::default())
        .map_err(|error| ObserveError::Answer(error.to_string()))?
        .ok_or_else(|| ObserveError::Answer("a route of another family".to_owned()))?;
    let route = found.route;
    if let RouteKind::Discard(discard) = route.kind {
        return Ok(Answer::Discard(discard));
    }
    let first = match &route.hops {
        Hops::One(hop) => Some(hop),
        Hops::Many(hops) => hops.first(),
        Hops::None | Hops::Object(_) => None,
    };
    Ok(Answer::Route {
        kind: route.kind,
        table: route.table,
        prefix: (fib_match && !found.cloned).then_some(route.prefix),
        device: first.and_then(|hop| hop.device),
        gateway: first.and_then(|hop| hop.gateway),
        nexthop_id: match route.hops {
            Hops::Object(id) => Some(id),
            _ => None,
        },
        metric: route.metric,
        protocol: route.protocol,
        hops: route.hops,
    })
}

/// The error is the route's type.
fn refusal(code: i32) -> Answer {
    match Errno::from_raw(code) {
        Errno::EINVAL => Answer::Discard(Discard::Blackhole),
        Errno::EHOSTUNREACH => Answer::Discard(Discard::Unreachable),
        Errno::EACCES => Answer::Discard(Discard::Prohibit),
        Errno::ENETUNREACH => Answer::NoRoute,
        other => Answer::Refused(format!("{other:?}: {}", other.desc())),
    }
}
