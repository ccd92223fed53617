//! Small facts about a host, as the agent hands them on.

mod compared;
mod leaks;
mod program;
mod setups;
mod traffic;

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::landing::MacAddress;
use crate::prefix::{address_from_wire, address_to_wire, interface_from_wire, prefix_from_wire, prefix_to_wire};
use crate::time::{from_wire, to_wire};
use crate::{Malformed, v1};

pub use self::compared::{Agrees, Compared};
pub use self::leaks::{LeakedLease, LeakedLeases, LeakedNetwork};
pub use self::program::{ProgramFact, RuntimeFact, SettingFact};
pub use self::setups::{CountedSetups, GrownSetups, LoggedSetups, SetupCounts, SetupFacts, SetupSpan, seconds};
pub use self::traffic::{Counted, Direction, LinkTraffic, TrafficFact};

/// What a host says of itself besides its forwarding table. By default it has told nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// When the newest of it was read.
    pub observed_at: Timestamp,
    /// `uname -r`.
    pub kernel: String,
    /// Links that say something about pod traffic.
    pub links: Vec<LinkFact>,
    /// Pods' own ports and the like, which are only counted.
    pub links_omitted: u32,
    /// CNI configuration.
    pub cni: CniFacts,
    /// What could not be looked at.
    pub gaps: Vec<Gap>,
    /// What was held against the Node's pod CIDRs, one row a witness, the Node first.
    pub compared: Vec<Compared>,
    /// Programs of Kubernetes that run in this host's network namespace.
    pub programs: Vec<ProgramFact>,
    /// The container runtime; `None`: there is none, or it was not heard of yet.
    pub runtime: Option<RuntimeFact>,
    /// What the kernel counted on the way of pods' packets; `None`: it could not be read, or was not yet.
    pub traffic: Option<TrafficFact>,
    /// How pod sandboxes are set up; `None`: neither a log nor metrics tell of it.
    pub setups: Option<SetupFacts>,
    /// Leases of sandboxes that are gone (HOST05); `None`: none is known.
    pub leaks: Option<LeakedLeases>,
}

/// Something that could not be looked at, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// "routes", "/etc/cni/net.d", …
    pub what: String,
    /// The reason, for people.
    pub why: String,
}

/// What a link is to pod traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkRole {
    /// `lo`.
    Loopback,
    /// Carries the underlay: it holds the Node's InternalIP or, where that is not known, the default route.
    Uplink,
    /// A bridge that pods hang on.
    Bridge,
    /// VXLAN, IPIP, WireGuard …
    Tunnel,
    /// A pod's own port (veth on the host's side).
    PodPort,
    /// Anything else.
    Other,
}

impl LinkRole {
    /// Whether it is there for pods, and goes with their addresses.
    pub fn of_pods(self) -> bool {
        matches!(self, Self::Bridge | Self::Tunnel | Self::PodPort)
    }
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkFact {
    /// ifindex.
    pub index: u32,
    /// Name.
    pub name: String,
    /// `IFLA_INFO_KIND` ("bridge", "vxlan", …); empty for a plain device.
    pub kind: String,
    /// `IFF_UP`.
    pub up: bool,
    /// `IFF_LOWER_UP`.
    pub carrier: bool,
    /// Bytes.
    pub mtu: u32,
    /// Link-layer address, where it is a MAC.
    pub lladdr: Option<MacAddress>,
    /// Addresses with prefix length, host bits kept.
    pub addresses: Vec<IpNet>,
    /// What it is to pod traffic.
    pub role: LinkRole,
    /// Set on VXLAN devices.
    pub vxlan: Option<VxlanFact>,
}

/// What matters of a VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct VxlanFact {
    /// VNI.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// Learns FDB entries from traffic.
    pub learning: bool,
    /// Its local underlay address.
    pub local: Option<IpAddr>,
}

/// CNI configuration of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct CniFacts {
    /// The directory that was read.
    pub directory: String,
    /// The configuration that the runtime uses: the first valid file in lexical order.
    pub chosen: Option<CniConfig>,
    /// The other configuration files.
    pub others: Vec<String>,
    /// flannel's subnet.env.
    pub flannel: Option<FlannelSubnet>,
    /// Why nothing could be chosen, or what was wrong with a file on the way.
    pub problem: Option<String>,
}

/// One CNI network configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CniConfig {
    /// File.
    pub path: String,
    /// Network name.
    pub network: String,
    /// `cniVersion`.
    pub cni_version: String,
    /// Plugin types in chain order; the first is primary.
    pub plugins: Vec<String>,
    /// IPAM type ("host-local", "calico-ipam", …).
    pub ipam: Option<String>,
    /// Ranges that the IPAM block hands out of. Where `rangeStart` and `rangeEnd`
    /// narrow a subnet, the smallest prefix that holds both.
    pub ranges: Vec<IpNet>,
    /// The subnets that `ranges` are parts of, in the same order: a bridge carries their mask.
    pub subnets: Vec<IpNet>,
    /// Bridge that the primary plugin uses.
    pub bridge: Option<String>,
    /// "containerd template" where the file is containerd's own rendering.
    pub generated_by: Option<String>,
    /// mtime.
    pub modified_at: Option<Timestamp>,
}

/// flannel's subnet.env.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlannelSubnet {
    /// File.
    pub path: String,
    /// `FLANNEL_NETWORK`, `FLANNEL_IPV6_NETWORK`.
    pub networks: Vec<IpNet>,
    /// `FLANNEL_SUBNET`, `FLANNEL_IPV6_SUBNET`, host bits cut off.
    pub subnets: Vec<IpNet>,
    /// `FLANNEL_MTU`, bytes.
    pub mtu: u32,
    /// `FLANNEL_IPMASQ`.
    pub ipmasq: bool,
}

fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl From<&HostFacts> for v1::HostFacts {
    fn from(facts: &HostFacts) -> Self {
        Self {
            observed_at: Some(to_wire(facts.observed_at)),
            kernel: facts.kernel.clone(),
            links: facts.links.iter().map(Into::into).collect(),
            links_omitted: facts.links_omitted,
            cni: Some((&facts.cni).into()),
            gaps: facts
                .gaps
                .iter()
                .map(|gap| v1::Gap {
                    what: gap.what.clone(),
                    why: gap.why.clone(),
                })
                .collect(),
            compared: facts.compared.iter().map(Into::into).collect(),
            programs: facts.programs.iter().map(Into::into).collect(),
            runtime: facts.runtime.as_ref().map(Into::into),
            traffic: facts.traffic.as_ref().map(Into::into),
            setups: facts.setups.as_ref().map(Into::into),
            leaks: facts.leaks.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<&v1::HostFacts> for HostFacts {
    type Error = Malformed;

    fn try_from(wire: &v1::HostFacts) -> Result<Self, Malformed> {
        Ok(Self {
            observed_at: wire
                .observed_at
                .and_then(from_wire)
                .ok_or(Malformed::Missing("facts.observed_at"))?,
            kernel: wire.kernel.clone(),
            links: wire.links.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            links_omitted: wire.links_omitted,
            cni: wire
                .cni
                .as_ref()
                .map(TryInto::try_into)
                .transpose()?
                .unwrap_or_default(),
            gaps: wire
                .gaps
                .iter()
                .map(|gap| Gap {
                    what: gap.what.clone(),
                    why: gap.why.clone(),
                })
                .collect(),
            compared: wire.compared.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            programs: wire.programs.iter().map(Into::into).collect(),
            runtime: wire.runtime.as_ref().map(Into::into),
            traffic: wire.traffic.as_ref().map(TryInto::try_into).transpose()?,
            setups: wire.setups.as_ref().map(TryInto::try_into).transpose()?,
            leaks: wire.leaks.as_ref().map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<LinkRole> for v1::LinkRole {
    fn from(role: LinkRole) -> Self {
        match role {
            LinkRole::Loopback => Self::Loopback,
            LinkRole::Uplink => Self::Uplink,
            LinkRole::Bridge => Self::Bridge,
            LinkRole::Tunnel => Self::Tunnel,
            LinkRole::PodPort => Self::PodPort,
            LinkRole::Other => Self::Other,
        }
    }
}

fn role_from_wire(value: i32, field: &'static str) -> Result<LinkRole, Malformed> {
    use v1::LinkRole as Wire;
    Ok(match Wire::try_from(value).unwrap_or(Wire::Unspecified) {
        Wire::Unspecified => {
            return Err(Malformed::UnknownValue {
                field,
                value: value.into(),
            });
        }
        Wire::Loopback => LinkRole::Loopback,
        Wire::Uplink => LinkRole::Uplink,
        Wire::Bridge => LinkRole::Bridge,
        Wire::Tunnel => LinkRole::Tunnel,
        Wire::PodPort => LinkRole::PodPort,
        Wire::Other => LinkRole::Other,
    })
}

impl From<&LinkFact> for v1::LinkFact {
    fn from(link: &LinkFact) -> Self {
        Self {
            index: link.index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            up: link.up,
            carrier: link.carrier,
            mtu: link.mtu,
            lladdr: link.lladdr.map(|mac| mac.0.to_vec()).unwrap_or_default(),
            addresses: link
                .addresses
                .iter()
                .map(|net| v1::InterfaceAddress {
                    address: address_to_wire(net.addr()),
                    length: net.prefix_len().into(),
                })
                .collect(),
            role: v1::LinkRole::from(link.role).into(),
            vxlan: link.vxlan.map(|vxlan| v1::VxlanFact {
                vni: vxlan.vni,
                port: vxlan.port.into(),
                learning: vxlan.learning,
                local: vxlan.local.map(address_to_wire).unwrap_or_default(),
            }),
        }
    }
}

impl TryFrom<&v1::LinkFact> for LinkFact {
    type Error = Malformed;

    fn try_from(wire: &v1::LinkFact) -> Result<Self, Malformed> {
        let lladdr = match wire.lladdr.as_slice() {
            [] => None,
            bytes => Some(MacAddress(<[u8; 6]>::try_from(bytes).map_err(|_| {
                Malformed::LinkAddress {
                    field: "link.lladdr",
                    length: bytes.len(),
                }
            })?)),
        };
        let vxlan = match &wire.vxlan {
            None => None,
            Some(vxlan) => Some(VxlanFact {
                vni: vxlan.vni,
                port: u16::try_from(vxlan.port).map_err(|_| Malformed::Range {
                    field: "vxlan.port",
                    value: vxlan.port.into(),
                })?,
                learning: vxlan.learning,
                local: match vxlan.local.as_slice() {
                    [] => None,
                    bytes => Some(address_from_wire(bytes, "vxlan.local")?),
                },
            }),
        };
        Ok(Self {
            index: wire.index,
            name: wire.name.clone(),
            kind: wire.kind.clone(),
            up: wire.up,
            carrier: wire.carrier,
            mtu: wire.mtu,
            lladdr,
            addresses: wire
                .addresses
                .iter()
                .map(|a| interface_from_wire(&a.address, a.length, "link.addresses"))
                .collect::<Result<_, _>>()?,
            role: role_from_wire(wire.role, "link.role")?,
            vxlan,
        })
    }
}

impl From<&CniFacts> for v1::CniFacts {
    fn from(cni: &CniFacts) -> Self {
        Self {
            directory: cni.directory.clone(),
            chosen: cni.chosen.as_ref().map(|config| v1::CniConfig {
                path: config.path.clone(),
                network: config.network.clone(),
                cni_version: config.cni_version.clone(),
                plugins: config.plugins.clone(),
                ipam: config.ipam.clone().unwrap_or_default(),
                ranges: config.ranges.iter().copied().map(prefix_to_wire).collect(),
                bridge: config.bridge.clone().unwrap_or_default(),
                generated_by: config.generated_by.clone().unwrap_or_default(),
                modified_at: config.modified_at.map(to_wire),
                subnets: config.subnets.iter().copied().map(prefix_to_wire).collect(),
            }),
            others: cni.others.clone(),
            flannel: cni.flannel.as_ref().map(|flannel| v1::FlannelSubnet {
                path: flannel.path.clone(),
                networks: flannel.networks.iter().copied().map(prefix_to_wire).collect(),
                subnets: flannel.subnets.iter().copied().map(prefix_to_wire).collect(),
                mtu: flannel.mtu,
                ipmasq: flannel.ipmasq,
            }),
            problem: cni.problem.clone().unwrap_or_default(),
        }
    }
}

impl TryFrom<&v1::CniFacts> for CniFacts {
    type Error = Malformed;

    fn try_from(wire: &v1::CniFacts) -> Result<Self, Malformed> {
        let nets = |prefixes: &[v1::Prefix], field| {
            prefixes
                .iter()
                .map(|p| prefix_from_wire(p, field))
                .collect::<Result<Vec<IpNet>, _>>()
        };
        let chosen = match &wire.chosen {
            None => None,
            Some(config) => Some(CniConfig {
                path: config.path.clone(),
                network: config.network.clone(),
                cni_version: config.cni_version.clone(),
                plugins: config.plugins.clone(),
                ipam: optional(&config.ipam),
                ranges: nets(&config.ranges, "cni.ranges")?,
                subnets: nets(&config.subnets, "cni.subnets")?,
                bridge: optional(&config.bridge),
                generated_by: optional(&config.generated_by),
                modified_at: config.modified_at.and_then(from_wire),
            }),
        };
        let flannel = match &wire.flannel {
            None => None,
            Some(flannel) => Some(FlannelSubnet {
                path: flannel.path.clone(),
                networks: nets(&flannel.networks, "flannel.networks")?,
                subnets: nets(&flannel.subnets, "flannel.subnets")?,
                mtu: flannel.mtu,
                ipmasq: flannel.ipmasq,
            }),
        };
        Ok(Self {
            directory: wire.directory.clone(),
            chosen,
            others: wire.others.clone(),
            flannel,
            problem: optional(&wire.problem),
        })
    }
}
