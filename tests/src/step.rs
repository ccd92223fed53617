//! Single changes to the lab, as data: each can be printed as the command that
//! a person would type, and applied.

use std::fmt;
use std::net::IpAddr;

use cidrift_proto::landing::MacAddress;
use ipnet::IpNet;

use crate::ip::{Error, Ip};
use crate::route::Route;
use crate::snapshot::Node;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// In a host's kernel.
    Kernel {
        /// Which host.
        host: String,
        /// What.
        verb: Verb,
    },
    /// A file of a host is written.
    WriteFile {
        /// Which host.
        host: String,
        /// Absolute, as on the host.
        path: String,
        /// Its text.
        text: String,
    },
    /// A file of a host is removed.
    RemoveFile {
        /// Which host.
        host: String,
        /// Absolute, as on the host.
        path: String,
    },
    /// A Node object is created, or takes the place of the one of that name.
    PutNode(Node),
    /// A Node object is deleted.
    DeleteNode(String),
}

/// A change in a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// `ip route replace`.
    ReplaceRoute(Route),
    /// `ip route del`.
    DelRoute(Route),
    /// `ip neigh replace … nud permanent`.
    ReplaceNeigh {
        /// Device.
        device: String,
        /// The neighbour.
        address: IpAddr,
        /// Its MAC.
        lladdr: MacAddress,
    },
    /// `ip neigh del`.
    DelNeigh {
        /// Device.
        device: String,
        /// The neighbour.
        address: IpAddr,
    },
    /// `bridge fdb replace … self permanent`.
    ReplaceFdb {
        /// VXLAN device.
        device: String,
        /// Inner destination.
        lladdr: MacAddress,
        /// Outer destination.
        destination: IpAddr,
    },
    /// `bridge fdb del … self`.
    DelFdb {
        /// VXLAN device.
        device: String,
        /// Inner destination.
        lladdr: MacAddress,
        /// Outer destination.
        destination: IpAddr,
    },
    /// `ip link set DEV up`.
    Up(String),
    /// `ip link set DEV down`.
    Down(String),
    /// `ip addr replace ADDRESS dev DEV`.
    AddAddr {
        /// Device.
        device: String,
        /// Address.
        address: IpNet,
    },
}

impl Step {
    /// A change in a host's kernel.
    pub fn on(host: &str, verb: Verb) -> Self {
        Self::Kernel {
            host: host.to_owned(),
            verb,
        }
    }
}

impl Verb {
    /// Does it.
    pub fn apply(&self, ip: &Ip) -> Result<(), Error> {
        match self {
            Self::ReplaceRoute(route) => ip.replace_route(route),
            Self::DelRoute(route) => ip.del_route(route),
            Self::ReplaceNeigh {
                device,
                address,
                lladdr,
            } => ip.replace_neigh(device, *address, *lladdr),
            Self::DelNeigh { device, address } => ip.del_neigh(device, *address),
            Self::ReplaceFdb {
                device,
                lladdr,
                destination,
            } => ip.replace_fdb(device, *lladdr, *destination),
            Self::DelFdb {
                device,
                lladdr,
                destination,
            } => ip.del_fdb(device, *lladdr, *destination),
            Self::Up(device) => ip.set_up(device),
            Self::Down(device) => ip.set_down(device),
            Self::AddAddr { device, address } => ip.replace_addr(device, *address),
        }
    }

    /// What takes it back, where the verb alone says so.
    pub(crate) fn opposite(self) -> Option<Self> {
        Some(match self {
            Self::ReplaceRoute(route) => Self::DelRoute(route),
            Self::ReplaceNeigh { device, address, .. } => Self::DelNeigh { device, address },
            Self::ReplaceFdb {
                device,
                lladdr,
                destination,
            } => Self::DelFdb {
                device,
                lladdr,
                destination,
            },
            Self::Up(device) => Self::Down(device),
            Self::Down(device) => Self::Up(device),
            Self::DelRoute(_) | Self::DelNeigh { .. } | Self::DelFdb { .. } | Self::AddAddr { .. } => return None,
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplaceRoute(route) => write!(f, "ip route replace {route}"),
            Self::DelRoute(route) => write!(f, "ip route del {route}"),
            Self::ReplaceNeigh {
                device,
                address,
                lladdr,
            } => write!(
                f,
                "ip neigh replace {address} lladdr {lladdr} dev {device} nud permanent"
            ),
            Self::DelNeigh { device, address } => write!(f, "ip neigh del {address} dev {device}"),
            Self::ReplaceFdb {
                device,
                lladdr,
                destination,
            } => write!(
                f,
                "bridge fdb replace {lladdr} dev {device} dst {destination} self permanent"
            ),
            Self::DelFdb {
                device,
                lladdr,
                destination,
            } => write!(f, "bridge fdb del {lladdr} dev {device} dst {destination} self"),
            Self::Up(device) => write!(f, "ip link set {device} up"),
            Self::Down(device) => write!(f, "ip link set {device} down"),
            Self::AddAddr { device, address } => write!(f, "ip addr replace {address} dev {device}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { host, verb } => write!(f, "{host}# {verb}"),
            Self::WriteFile { host, path, text } => {
                write!(
                    f,
                    "{host}# cat > {path}  # {}",
                    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
                )
            }
            Self::RemoveFile { host, path } => write!(f, "{host}# rm {path}"),
            Self::PutNode(node) => {
                let cidrs: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
                write!(
                    f,
                    "kubectl replace --force -f -  # Node {}, uid {}, podCIDRs {}",
                    node.name,
                    node.uid,
                    cidrs.join(",")
                )
            }
            Self::DeleteNode(name) => write!(f, "kubectl delete node {name}"),
        }
    }
}
