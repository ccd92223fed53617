//! The measure for everything else: netlink with nothing but `recv`.

use std::io;
use std::time::Instant;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// RTNLGRP_IPV4_ROUTE.
const GROUP_IPV4_ROUTE: u32 = 7;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// A dump's messages come in pieces of at most 32 KiB, as large as the reader's buffer allows.
const BUFFER: usize = 64 * 1024;

/// Dumps links, addresses, rules, routes, neighbours and FDB of the calling
/// thread's namespace and looks at nothing but message headers. Returns how
/// many messages there were.
pub fn dump() -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let mut buffer = vec![0; BUFFER];
    let mut count = 0;
    for request in requests() {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        loop {
            let length = receive(&socket, &mut buffer)?;
            let (messages, done) = walk(buffer.get(..length).unwrap_or_default())?;
            count += messages;
            if done {
                break;
            }
        }
    }
    Ok(count)
}

fn requests() -> Vec<RouteNetlinkMessage> {
    let mut rules = [RuleMessage::default(), RuleMessage::default()];
    let mut fdb = NeighbourMessage::default();
    fdb.header.family = AddressFamily::Bridge;
    for (rule, family) in rules.iter_mut().zip([AddressFamily::Inet, AddressFamily::Inet6]) {
        rule.header.family = family;
    }
    let mut requests = vec![
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        RouteNetlinkMessage::GetRoute(RouteMessage::default()),
        RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
        RouteNetlinkMessage::GetNeighbour(fdb),
    ];
    requests.extend(rules.map(RouteNetlinkMessage::GetRule));
    requests
}

/// Waits for the next IPv4 route message and returns when it was there.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Listener {
    /// Listens in the calling thread's namespace.
    pub fn new() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP_IPV4_ROUTE)?;
        Ok(Self {
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    /// Blocks until a message is there.
    pub fn wait(&mut self) -> io::Result<Instant> {
        receive(&self.socket, &mut self.buffer)?;
        Ok(Instant::now())
    }
}

fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    let mut space = &mut *buffer;
    socket.recv(&mut space, 0)
}

/// Counts messages by their headers: length (4 bytes), type (2 bytes).
fn walk(mut bytes: &[u8]) -> io::Result<(usize, bool)> {
    let mut count = 0;
    while let (Some(length), Some(kind)) = (bytes.get(..4), bytes.get(4..6)) {
        let length = <[u8; 4]>::try_from(length).map_or(0, u32::from_ne_bytes) as usize;
        let kind = <[u8; 2]>::try_from(kind).map_or(0, u16::from_ne_bytes);
        match kind {
            NLMSG_DONE => return Ok((count, true)),
            NLMSG_ERROR => return Err(io::Error::other("the kernel refused a dump")),
            _ => count += 1,
        }
        // Messages are aligned to four bytes; 16 is a header alone.
        let step = length.max(16).next_multiple_of(4);
        bytes = bytes.get(step..).unwrap_or_default();
    }
    Ok((count, false))
}
