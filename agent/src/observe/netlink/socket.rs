//! Sockets: one for dumps, two for events.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket};
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::time::TimeVal;

use super::ObserveError;

/// Links, addresses, routes, rules, nexthop objects, sysctls: `RTNLGRP_LINK`,
/// `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV4_RULE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`,
/// `_IPV6_RULE`, `_IPV4_NETCONF`, `_IPV6_NETCONF`, `_NEXTHOP`.
pub(super) const ROUTE_GROUPS: &[u32] = &[1, 5, 7, 8, 9, 11, 19, 24, 25, 32];
/// Neighbours and FDBs, apart from the rest: their churn must not crowd routes out. `RTNLGRP_NEIGH`.
pub(super) const NEIGHBOUR_GROUPS: &[u32] = &[3];
/// `RTNLGRP_NEXTHOP`: Linux 5.3.
const NEXTHOP_GROUP: u32 = 32;

/// The kernel fills dump datagrams up to 32 KiB and no further, however large
/// the reader's buffer; single messages (a device with many VFs) may be larger,
/// and the buffer then grows.
pub(super) const DATAGRAM: usize = 32 * 1024;

/// A dump is answered from within the reader's own system call; one that takes
/// this long is stuck behind a lock that no healthy kernel holds.
const DUMP_TIMEOUT_SECONDS: i64 = 10;

/// A blocking socket for dumps.
pub(super) fn for_dumps(receive_buffer: usize) -> Result<Socket, ObserveError> {
    let mut socket = Socket::new(NETLINK_ROUTE).map_err(ObserveError::socket("open"))?;
    prepare(&mut socket, receive_buffer)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(DUMP_TIMEOUT_SECONDS, 0))
        .map_err(|errno| ObserveError::socket("set the receive timeout")(errno.into()))?;
    Ok(socket)
}

/// A socket that gets the groups' messages. `NETLINK_NO_ENOBUFS` stays off: a
/// lost message must be told.
pub(super) fn for_events(groups: &[u32], receive_buffer: usize) -> Result<TokioSocket, ObserveError> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(ObserveError::socket("open"))?;
    prepare(socket.socket_mut(), receive_buffer)?;
    for group in groups {
        match socket.socket_ref().add_membership(*group) {
            // A kernel without nexthop objects has nothing to tell of them.
            Err(_) if *group == NEXTHOP_GROUP => {}
            result => result.map_err(ObserveError::socket("subscribe"))?,
        }
    }
    Ok(socket)
}

/// A socket for single requests.
pub(super) fn for_requests() -> Result<TokioSocket, ObserveError> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(ObserveError::socket("open"))?;
    prepare(socket.socket_mut(), DATAGRAM)?;
    Ok(socket)
}

fn prepare(socket: &mut Socket, receive_buffer: usize) -> Result<(), ObserveError> {
    socket.bind_auto().map_err(ObserveError::socket("bind"))?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .map_err(ObserveError::socket("connect to the kernel"))?;
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN; without it, what is allowed.
    if setsockopt(socket, RcvBufForce, &receive_buffer).is_err() {
        let wanted = i32::try_from(receive_buffer).unwrap_or(i32::MAX);
        socket
            .set_rx_buf_sz(wanted)
            .map_err(ObserveError::socket("size the receive buffer"))?;
    }
    // Before Linux 4.20 it is unknown and nothing here depends on it.
    let _ = socket.set_netlink_get_strict_chk(true);
    Ok(())
}

/// Reads one datagram. Returns its true length: more than the buffer's when it was cut.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(&mut &mut *buffer, libc::MSG_TRUNC) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
