//! Landings: where a packet ends up when a host forwards it.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::prefix::{address_from_wire, address_to_wire, prefix_from_wire, prefix_to_wire};
use crate::time::{from_wire, to_wire};
use crate::{Malformed, v1};

/// A link-layer (MAC) address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl std::str::FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2);
            *octet = part
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| format!("{text:?} is not a MAC address"))?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(format!("{text:?} is not a MAC address")),
        }
    }
}

impl Serialize for MacAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a packet ends up, in the kernel's own terms, whichever CNI made it so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Landing {
    /// An address of the host itself, or a broadcast address of one of its links.
    Host {
        /// The device that holds it.
        device: String,
    },
    /// On-link out of a device that carries pods: bridge, veth, tun …
    Local {
        /// The device.
        device: String,
        /// False on a bridge without ports: normal on a node without pods.
        carrier: bool,
    },
    /// On-link on the underlay: the host asks the underlay for the destination itself.
    Onlink {
        /// The uplink.
        device: String,
    },
    /// Handed to whoever owns this underlay address.
    Underlay {
        /// The underlay address.
        address: IpAddr,
        /// How it gets there.
        #[serde(flatten)]
        via: Via,
    },
    /// Dropped by a route of that type.
    Discard {
        /// Which type.
        how: Discard,
    },
    /// No route, or a `throw` that no later rule caught.
    NoRoute,
    /// The route's device cannot carry it.
    DeadDevice {
        /// The device, "if7" where it has no known name.
        device: String,
        /// Down, no carrier, gone …
        reason: String,
    },
    /// The next hop's link-layer address or tunnel destination is not known and will not be.
    UnresolvedNeighbour {
        /// The device.
        device: String,
        /// The next hop.
        gateway: IpAddr,
        /// What is missing.
        reason: String,
    },
    /// The decision is not in the FIB. Never counted as healthy.
    Opaque {
        /// The device, where one is named.
        device: Option<String>,
        /// Where the decision is: eBPF, OVN, WireGuard peers …
        reason: String,
    },
    /// Several at once, by weight.
    Multipath {
        /// The legs.
        legs: Vec<Leg>,
    },
}

/// One leg of a multipath landing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Leg {
    /// The kernel's weight, 1 to 256 (`rtnh_hops + 1`).
    pub weight: u16,
    /// Never itself multipath.
    pub landing: Landing,
}

/// How a packet gets to an underlay address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "via", rename_all = "kebab-case")]
pub enum Via {
    /// A next hop on a plain device: the gateway is the underlay address.
    Gateway {
        /// The device.
        device: String,
    },
    /// gateway → neighbour's MAC → FDB destination on a VXLAN device.
    Vxlan {
        /// The VXLAN device.
        device: String,
        /// Its VNI.
        vni: u32,
        /// The route's gateway.
        gateway: IpAddr,
        /// What the neighbour table says of the gateway.
        lladdr: MacAddress,
    },
    /// An IPIP device; the gateway (or the device's remote) is the outer destination.
    Ipip {
        /// The IPIP device.
        device: String,
    },
}

/// Route types that drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discard {
    /// Silently.
    Blackhole,
    /// With ICMP host unreachable.
    Unreachable,
    /// With ICMP administratively prohibited.
    Prohibit,
}

/// The FIB entry that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct RouteMatch {
    /// Its destination.
    pub prefix: IpNet,
    /// Its table (254 main, 255 local).
    pub table: u32,
    /// Its metric (`RTA_PRIORITY`).
    pub metric: u32,
    /// Its `rtm_protocol`. Informative only: CNIs share values.
    pub protocol: u8,
}

/// One row of the effective forwarding table for pod traffic, rules applied:
/// every address in `prefix` that no longer entry covers lands so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ForwardingEntry {
    /// What it covers.
    pub prefix: IpNet,
    /// Where that lands.
    pub landing: Landing,
    /// The route that decided; `None`: no route matched.
    pub route: Option<RouteMatch>,
    /// When this landing was first seen, host clock.
    pub changed_at: Timestamp,
}

impl ForwardingEntry {
    /// What the route that decided is meant for. Wider than `prefix` where no
    /// route is for exactly that: an entry may stand for the part of a default
    /// route that somebody asked about.
    pub fn meant_for(&self) -> IpNet {
        match self.route {
            Some(route) if route.prefix.contains(&self.prefix) => route.prefix,
            _ => self.prefix,
        }
    }
}

/// The route that decided, as iproute2 would put it: "default via 172.30.0.1 dev eth0".
impl fmt::Display for ForwardingEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meant = self.meant_for();
        if matches!(self.landing, Landing::NoRoute) {
            write!(f, "{}: {}", self.prefix, self.landing)
        } else if meant.prefix_len() == 0 {
            write!(f, "default {}", self.landing)
        } else {
            write!(f, "{meant} {}", self.landing)
        }
    }
}

impl fmt::Display for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        })
    }
}

/// As iproute2 would put it, as far as it goes: for evidence and tables.
impl fmt::Display for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { device } => write!(f, "local dev {device}"),
            Self::Local { device, carrier: true } => write!(f, "on-link dev {device}"),
            Self::Local { device, carrier: false } => write!(f, "on-link dev {device} (no carrier)"),
            Self::Onlink { device } => write!(f, "on-link dev {device} (underlay)"),
            Self::Underlay { address, via } => match via {
                Via::Gateway { device } => write!(f, "via {address} dev {device}"),
                Via::Vxlan {
                    device,
                    vni,
                    gateway,
                    lladdr,
                } => {
                    write!(
                        f,
                        "via {gateway} dev {device}, lladdr {lladdr}, vni {vni} dst {address}"
                    )
                }
                Via::Ipip { device } => write!(f, "via {address} dev {device} (ipip)"),
            },
            Self::Discard { how } => how.fmt(f),
            Self::NoRoute => f.write_str("no route"),
            Self::DeadDevice { device, reason } => write!(f, "dev {device} is dead: {reason}"),
            Self::UnresolvedNeighbour {
                device,
                gateway,
                reason,
            } => {
                write!(f, "via {gateway} dev {device}: {reason}")
            }
            Self::Opaque {
                device: Some(device),
                reason,
            } => write!(f, "dev {device}: not in the FIB ({reason})"),
            Self::Opaque { device: None, reason } => write!(f, "not in the FIB ({reason})"),
            Self::Multipath { legs } => {
                for (at, leg) in legs.iter().enumerate() {
                    let comma = if at == 0 { "" } else { "; " };
                    write!(f, "{comma}nexthop {} weight {}", leg.landing, leg.weight)?;
                }
                Ok(())
            }
        }
    }
}

impl From<&Landing> for v1::Landing {
    fn from(landing: &Landing) -> Self {
        use v1::LandingKind as Kind;
        let mut wire = Self::default();
        let kind = match landing {
            Landing::Host { device } => {
                wire.device.clone_from(device);
                Kind::Host
            }
            Landing::Local { device, carrier } => {
                wire.device.clone_from(device);
                wire.no_carrier = !carrier;
                Kind::Local
            }
            Landing::Onlink { device } => {
                wire.device.clone_from(device);
                Kind::Onlink
            }
            Landing::Underlay { address, via } => {
                wire.underlay = address_to_wire(*address);
                let via = match via {
                    Via::Gateway { device } => {
                        wire.device.clone_from(device);
                        v1::ViaKind::Gateway
                    }
                    Via::Vxlan {
                        device,
                        vni,
                        gateway,
                        lladdr,
                    } => {
                        wire.device.clone_from(device);
                        wire.vni = *vni;
                        wire.gateway = address_to_wire(*gateway);
                        wire.lladdr = lladdr.0.to_vec();
                        v1::ViaKind::Vxlan
                    }
                    Via::Ipip { device } => {
                        wire.device.clone_from(device);
                        v1::ViaKind::Ipip
                    }
                };
                wire.via = via.into();
                Kind::Underlay
            }
            Landing::Discard { how } => match how {
                Discard::Blackhole => Kind::Blackhole,
                Discard::Unreachable => Kind::Unreachable,
                Discard::Prohibit => Kind::Prohibit,
            },
            Landing::NoRoute => Kind::NoRoute,
            Landing::DeadDevice { device, reason } => {
                wire.device.clone_from(device);
                wire.reason.clone_from(reason);
                Kind::DeadDevice
            }
            Landing::UnresolvedNeighbour {
                device,
                gateway,
                reason,
            } => {
                wire.device.clone_from(device);
                wire.gateway = address_to_wire(*gateway);
                wire.reason.clone_from(reason);
                Kind::UnresolvedNeighbour
            }
            Landing::Opaque { device, reason } => {
                wire.device = device.clone().unwrap_or_default();
                wire.reason.clone_from(reason);
                Kind::Opaque
            }
            Landing::Multipath { legs } => {
                wire.legs = legs
                    .iter()
                    .map(|leg| v1::Leg {
                        weight: leg.weight.into(),
                        landing: Some((&leg.landing).into()),
                    })
                    .collect();
                Kind::Multipath
            }
        };
        wire.kind = kind.into();
        wire
    }
}

impl TryFrom<&v1::Landing> for Landing {
    type Error = Malformed;

    fn try_from(wire: &v1::Landing) -> Result<Self, Malformed> {
        landing_from_wire(wire, true)
    }
}

fn landing_from_wire(wire: &v1::Landing, legs_allowed: bool) -> Result<Landing, Malformed> {
    use v1::LandingKind as Kind;
    let device = wire.device.clone();
    let reason = wire.reason.clone();
    let unknown = |field, value: i32| Malformed::UnknownValue {
        field,
        value: value.into(),
    };
    Ok(match Kind::try_from(wire.kind).unwrap_or(Kind::Unspecified) {
        Kind::Unspecified => return Err(unknown("landing.kind", wire.kind)),
        Kind::Host => Landing::Host { device },
        Kind::Local => Landing::Local {
            device,
            carrier: !wire.no_carrier,
        },
        Kind::Onlink => Landing::Onlink { device },
        Kind::Underlay => Landing::Underlay {
            address: address_from_wire(&wire.underlay, "landing.underlay")?,
            via: match v1::ViaKind::try_from(wire.via).unwrap_or(v1::ViaKind::Unspecified) {
                v1::ViaKind::Unspecified => return Err(unknown("landing.via", wire.via)),
                v1::ViaKind::Gateway => Via::Gateway { device },
                v1::ViaKind::Ipip => Via::Ipip { device },
                v1::ViaKind::Vxlan => Via::Vxlan {
                    device,
                    vni: wire.vni,
                    gateway: address_from_wire(&wire.gateway, "landing.gateway")?,
                    lladdr: MacAddress(<[u8; 6]>::try_from(wire.lladdr.as_slice()).map_err(|_| {
                        Malformed::LinkAddress {
                            field: "landing.lladdr",
                            length: wire.lladdr.len(),
                        }
                    })?),
                },
            },
        },
        Kind::Blackhole => Landing::Discard {
            how: Discard::Blackhole,
        },
        Kind::Unreachable => Landing::Discard {
            how: Discard::Unreachable,
        },
        Kind::Prohibit => Landing::Discard { how: Discard::Prohibit },
        Kind::NoRoute => Landing::NoRoute,
        Kind::DeadDevice => Landing::DeadDevice { device, reason },
        Kind::UnresolvedNeighbour => Landing::UnresolvedNeighbour {
            device,
            gateway: address_from_wire(&wire.gateway, "landing.gateway")?,
            reason,
        },
        Kind::Opaque => Landing::Opaque {
            device: Some(device).filter(|d| !d.is_empty()),
            reason,
        },
        Kind::Multipath if !legs_allowed => return Err(Malformed::Depth("landing.legs")),
        Kind::Multipath => Landing::Multipath {
            legs: wire.legs.iter().map(leg_from_wire).collect::<Result<_, _>>()?,
        },
    })
}

fn leg_from_wire(leg: &v1::Leg) -> Result<Leg, Malformed> {
    let landing = leg.landing.as_ref().ok_or(Malformed::Missing("leg.landing"))?;
    Ok(Leg {
        weight: u16::try_from(leg.weight).map_err(|_| Malformed::Range {
            field: "leg.weight",
            value: leg.weight.into(),
        })?,
        landing: landing_from_wire(landing, false)?,
    })
}

impl From<&ForwardingEntry> for v1::ForwardingEntry {
    fn from(entry: &ForwardingEntry) -> Self {
        Self {
            prefix: Some(prefix_to_wire(entry.prefix)),
            landing: Some((&entry.landing).into()),
            route: entry.route.map(|route| v1::RouteMatch {
                prefix: Some(prefix_to_wire(route.prefix)),
                table: route.table,
                metric: route.metric,
                protocol: route.protocol.into(),
            }),
            changed_at: Some(to_wire(entry.changed_at)),
        }
    }
}

impl TryFrom<&v1::ForwardingEntry> for ForwardingEntry {
    type Error = Malformed;

    fn try_from(wire: &v1::ForwardingEntry) -> Result<Self, Malformed> {
        let prefix = wire.prefix.as_ref().ok_or(Malformed::Missing("entry.prefix"))?;
        let landing = wire.landing.as_ref().ok_or(Malformed::Missing("entry.landing"))?;
        let route = match &wire.route {
            None => None,
            Some(route) => {
                let prefix = route.prefix.as_ref().ok_or(Malformed::Missing("route.prefix"))?;
                Some(RouteMatch {
                    prefix: prefix_from_wire(prefix, "route.prefix")?,
                    table: route.table,
                    metric: route.metric,
                    protocol: u8::try_from(route.protocol).map_err(|_| Malformed::Range {
                        field: "route.protocol",
                        value: route.protocol.into(),
                    })?,
                })
            }
        };
        Ok(Self {
            prefix: prefix_from_wire(prefix, "entry.prefix")?,
            landing: landing.try_into()?,
            route,
            changed_at: wire
                .changed_at
                .and_then(from_wire)
                .ok_or(Malformed::Missing("entry.changed_at"))?,
        })
    }
}
