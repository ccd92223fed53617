//! Routes as the lab makes and breaks them, written as iproute2 writes them.

use std::fmt;
use std::net::IpAddr;

use cidrift_proto::landing::Discard;
use ipnet::IpNet;
use netlink_packet_route::route::{RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::RouteMessageBuilder;

use crate::ip::Error;

/// A route of table main.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub prefix: IpNet,
    /// Where to.
    pub to: Target,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `via GATEWAY dev DEV [onlink]`.
    Via {
        /// The next hop.
        gateway: IpAddr,
        /// The device.
        device: String,
        /// The gateway counts as a neighbour though no address of the device says so.
        onlink: bool,
    },
    /// `blackhole`, `unreachable`, `prohibit`: dropped.
    Drop(Discard),
}

impl Route {
    /// `PREFIX via GATEWAY dev DEVICE`.
    pub fn via(prefix: IpNet, gateway: IpAddr, device: &str) -> Self {
        Self {
            prefix,
            to: Target::Via {
                gateway,
                device: device.to_owned(),
                onlink: false,
            },
        }
    }

    /// The same with `onlink`.
    pub fn onlink(prefix: IpNet, gateway: IpAddr, device: &str) -> Self {
        Self {
            prefix,
            to: Target::Via {
                gateway,
                device: device.to_owned(),
                onlink: true,
            },
        }
    }

    /// `blackhole PREFIX`.
    pub fn blackhole(prefix: IpNet) -> Self {
        Self::dropped(prefix, Discard::Blackhole)
    }

    /// The same of any type that drops.
    pub fn dropped(prefix: IpNet, how: Discard) -> Self {
        Self {
            prefix,
            to: Target::Drop(how),
        }
    }

    /// As a netlink message. `index` finds a device's ifindex. The protocol is
    /// boot, as flannel's netlink library leaves it.
    pub(crate) fn message(&self, index: impl Fn(&str) -> Result<u32, Error>) -> Result<RouteMessage, Error> {
        let builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(self.prefix.addr(), self.prefix.prefix_len())
            .map_err(malformed)?
            .protocol(RouteProtocol::Boot)
            .scope(RouteScope::Universe);
        Ok(match &self.to {
            Target::Via {
                gateway,
                device,
                onlink,
            } => {
                let builder = builder
                    .gateway(*gateway)
                    .map_err(malformed)?
                    .output_interface(index(device)?);
                if *onlink { builder.onlink() } else { builder }.build()
            }
            Target::Drop(how) => builder
                .kind(match how {
                    Discard::Blackhole => RouteType::BlackHole,
                    Discard::Unreachable => RouteType::Unreachable,
                    Discard::Prohibit => RouteType::Prohibit,
                })
                .build(),
        })
    }
}

fn malformed(error: impl fmt::Display) -> Error {
    Error::Malformed(error.to_string())
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Target::Via {
                gateway,
                device,
                onlink,
            } => {
                let onlink = if *onlink { " onlink" } else { "" };
                write!(f, "{} via {gateway} dev {device}{onlink}", self.prefix)
            }
            Target::Drop(how) => write!(f, "{how} {}", self.prefix),
        }
    }
}
