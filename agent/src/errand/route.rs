//! `remove-route`: a route of table main of this network namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::route::{RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;

use super::args::RemoveRoute;
use super::error::Error;
use super::link::says;

/// A prefix by one next hop can be there with several metrics; more than these somebody adds as they are removed.
const MOST: usize = 8;

/// Removes it, with whatever metric, protocol and scope it has.
pub(super) async fn remove(args: &RemoveRoute) -> Result<String, Error> {
    let (prefix, via) = (args.prefix, args.via);
    let message = message(prefix, via)?;
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::io("netlink cannot be opened"))?;
    tokio::spawn(connection);
    for removed in 0..MOST {
        match handle.route().del(message.clone()).execute().await {
            Ok(()) => {}
            Err(error) if says(&error, Errno::ESRCH) => {
                return Ok(match removed {
                    0 => format!("there is no route {prefix} via {via}"),
                    _ => format!("removed the route {prefix} via {via}"),
                });
            }
            Err(error) => {
                return Err(Error::kernel(format!("the route {prefix} via {via} cannot be removed"))(error));
            }
        }
    }
    Err(Error::Refused(format!(
        "the route {prefix} via {via} was removed {MOST} times and is there still: somebody makes it again and again"
    )))
}

/// What the kernel compares: table, prefix and next hop. Zero stands for any type and protocol, NOWHERE for any scope
/// (fib_table_delete).
fn message(prefix: IpNet, via: IpAddr) -> Result<RouteMessage, Error> {
    let mut message = match (prefix, via) {
        (IpNet::V4(net), IpAddr::V4(via)) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(net.addr(), net.prefix_len())
            .gateway(via)
            .build(),
        (IpNet::V6(net), IpAddr::V6(via)) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(net.addr(), net.prefix_len())
            .gateway(via)
            .build(),
        _ => {
            return Err(Error::Refused(format!("{prefix} and {via} are of different families")));
        }
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = RouteType::Unspec;
    Ok(message)
}
