//! `remove-route`: a route of table main of this network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use nix::errno::Errno;
use rtnetlink::{Handle, RouteMessageBuilder};

use super::args::{Dropping, RemoveRoute};
use super::error::Error;
use super::link::says;

/// A prefix by one next hop can be there with several metrics; more than these somebody adds as they are removed.
const MOST: usize = 8;

/// Removes it, with whatever metric, protocol and scope it has.
pub(super) async fn remove(args: &RemoveRoute) -> Result<String, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::io("netlink cannot be opened"))?;
    tokio::spawn(connection);
    match (args.via, args.kind) {
        (Some(via), _) => by_hop(&handle, args.prefix, via).await,
        (None, Some(kind)) => by_type(&handle, args.prefix, kind).await,
        (None, None) => Err(Error::Refused("no next hop and no type".to_owned())),
    }
}

async fn by_hop(handle: &Handle, prefix: IpNet, via: IpAddr) -> Result<String, Error> {
    let message = hop(prefix, via)?;
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

/// What is to be removed is looked for first: of IPv6 routes the kernel does not compare the type (ip6_route_del).
async fn by_type(handle: &Handle, prefix: IpNet, kind: Dropping) -> Result<String, Error> {
    let family = bare(prefix);
    let routes = handle.route().get(family).execute();
    let routes: Vec<RouteMessage> = routes
        .try_filter(|route| std::future::ready(is(route, prefix, kind)))
        .try_collect()
        .await
        .map_err(Error::kernel("the routes cannot be read"))?;
    let mut removed = false;
    for route in routes {
        match handle.route().del(alone(route)).execute().await {
            Ok(()) => removed = true,
            Err(error) if says(&error, Errno::ESRCH) => {}
            Err(error) => {
                return Err(Error::kernel(format!("the route {kind} {prefix} cannot be removed"))(
                    error,
                ));
            }
        }
    }
    Ok(match removed {
        true => format!("removed the route {kind} {prefix}"),
        false => format!("there is no route {kind} {prefix}"),
    })
}

/// A question for all routes of a prefix's family.
fn bare(prefix: IpNet) -> RouteMessage {
    match prefix {
        IpNet::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpNet::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    }
}

/// Whether it is of table main, for exactly this prefix, and of this type.
fn is(route: &RouteMessage, prefix: IpNet, kind: Dropping) -> bool {
    let wanted = match kind {
        Dropping::Blackhole => RouteType::BlackHole,
        Dropping::Unreachable => RouteType::Unreachable,
        Dropping::Prohibit => RouteType::Prohibit,
        Dropping::Throw => RouteType::Throw,
    };
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    });
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let main = u32::from(RouteHeader::RT_TABLE_MAIN);
    table.unwrap_or_else(|| route.header.table.into()) == main
        && route.header.kind == wanted
        && route.header.destination_prefix_length == prefix.prefix_len()
        && destination == Some(prefix.addr())
}

/// What tells a route from others of its prefix: its metric, and of an IPv6 one the device.
fn alone(mut route: RouteMessage) -> RouteMessage {
    route.attributes.retain(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_)
                | RouteAttribute::Table(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::Oif(_)
        )
    });
    route
}

/// What the kernel compares: table, prefix and next hop. Zero stands for any type and protocol, NOWHERE for any scope
/// (fib_table_delete).
fn hop(prefix: IpNet, via: IpAddr) -> Result<RouteMessage, Error> {
    let mut message = match (prefix, via) {
        (IpNet::V4(net), IpAddr::V4(via)) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(net.addr(), net.prefix_len())
            .gateway(via)
            .build(),
        (IpNet::V6(net), IpAddr::V6(via)) => RouteMessageBuilder::<Ipv6Addr>::new()
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
