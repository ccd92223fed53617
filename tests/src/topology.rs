//! Hosts as network namespaces on one underlay segment, with pods behind
//! bridges. The machine's own network is never touched.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use cidrift_proto::landing::MacAddress;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::dataplane;
use crate::ip::{Error, Ip};
use crate::netns::Netns;
use crate::route::Route;

/// Pods on each host: two, so that a host has local traffic as well.
const PODS: u8 = 2;

/// How pod traffic gets from host to host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dataplane {
    /// As flannel's vxlan backend programs it.
    Vxlan,
    /// As flannel's host-gw backend does: the peer's underlay address is the next hop.
    HostGw,
}

impl fmt::Display for Dataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        })
    }
}

impl FromStr for Dataplane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "vxlan" => Ok(Self::Vxlan),
            "host-gw" => Ok(Self::HostGw),
            other => Err(format!("{other:?} is not a dataplane: vxlan or host-gw")),
        }
    }
}

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many hosts, 2 to 99.
    pub hosts: u8,
    /// How they reach each other's pods.
    pub dataplane: Dataplane,
    /// IPv6 pods beside IPv4.
    pub dual_stack: bool,
}

/// The hosts, their pods and the segment between them.
#[derive(Debug)]
pub struct Topology {
    /// What it was built from.
    pub plan: Plan,
    /// The segment: a bridge with address 172.30.0.1. The aggregator lives here.
    pub underlay: Netns,
    /// The hosts, h1 first.
    pub hosts: Vec<Host>,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    /// Its names and addresses.
    pub identity: Identity,
    /// Its namespace.
    pub netns: Netns,
    /// A netlink socket in it.
    pub ip: Ip,
    /// Its pods.
    pub pods: Vec<Pod>,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// "h1-pod1".
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

/// Everything that follows from a host's number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// 1 for h1.
    pub number: u8,
    /// "h1".
    pub name: String,
    /// Its addresses on the underlay, IPv4 first.
    pub underlay: Vec<IpAddr>,
    /// Its pod CIDRs, IPv4 first.
    pub cidrs: Vec<IpNet>,
}

/// The underlay bridge's own address, the hosts' default gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 1);

impl Identity {
    /// Of host `number`, with or without IPv6 pods.
    pub fn new(number: u8, dual_stack: bool) -> Self {
        let v4 = Ipv4Addr::new(172, 30, 0, 10 + number);
        let v6 = Ipv6Addr::new(0xfd00, 0x30, 0, 0, 0, 0, 0, 10 + u16::from(number));
        let mut underlay = vec![IpAddr::V4(v4)];
        let mut cidrs = vec![pod_cidr(number)];
        if dual_stack {
            underlay.push(IpAddr::V6(v6));
            let prefix = Ipv6Addr::new(0xfd00, 0x244, 0, number.into(), 0, 0, 0, 0);
            cidrs.push(IpNet::V6(Ipv6Net::new_assert(prefix, 64)));
        }
        Self {
            number,
            name: format!("h{number}"),
            underlay,
            cidrs,
        }
    }

    /// Its address on the underlay in that CIDR's family.
    pub fn underlay_for(&self, cidr: IpNet) -> Option<IpAddr> {
        let ipv4 = cidr.addr().is_ipv4();
        self.underlay.iter().copied().find(|address| address.is_ipv4() == ipv4)
    }

    /// The MAC of its VXLAN device for that CIDR's family: locally
    /// administered, and telling its host's number.
    pub fn vtep(&self, cidr: IpNet) -> MacAddress {
        let family = if cidr.addr().is_ipv4() { 4 } else { 6 };
        MacAddress([0x0a, 0x58, 0x0a, 0xf4, self.number, family])
    }
}

/// The IPv4 pod CIDR that belongs to a number: 10.244.N.0/24.
pub fn pod_cidr(number: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 244, number, 0), 24))
}

/// The first address of a CIDR after the network's: the bridge's.
pub fn first_address(cidr: IpNet) -> IpNet {
    nth_address(cidr, 1)
}

fn nth_address(cidr: IpNet, n: u8) -> IpNet {
    let address = match cidr.network() {
        IpAddr::V4(network) => IpAddr::V4(Ipv4Addr::from_bits(network.to_bits() | u32::from(n))),
        IpAddr::V6(network) => IpAddr::V6(Ipv6Addr::from_bits(network.to_bits() | u128::from(n))),
    };
    IpNet::new(address, cidr.prefix_len()).unwrap_or(cidr)
}

impl Topology {
    /// Builds it, ready for traffic.
    pub fn build(plan: Plan) -> Result<Self, Error> {
        if !(2..=99).contains(&plan.hosts) {
            return Err(Error::Malformed(format!("{} hosts: 2 to 99 are possible", plan.hosts)));
        }
        let underlay = namespace("underlay")?;
        let ip = Ip::new(&underlay)?;
        ip.set_up("lo")?;
        ip.add_bridge("br0")?;
        ip.add_addr("br0", net(GATEWAY.into(), 24))?;
        if plan.dual_stack {
            ip.add_addr("br0", net(GATEWAY6.into(), 64))?;
        }
        ip.set_up("br0")?;
        let hosts = (1..=plan.hosts)
            .map(|number| host(Identity::new(number, plan.dual_stack), plan.dataplane, &underlay, &ip))
            .collect::<Result<Vec<_>, Error>>()?;
        let topology = Self { plan, underlay, hosts };
        for host in &topology.hosts {
            dataplane::prepare(plan.dataplane, host)?;
            for peer in topology.hosts.iter().filter(|peer| peer.identity != host.identity) {
                dataplane::add_peer(plan.dataplane, host, &peer.identity)?;
            }
        }
        Ok(topology)
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Result<&Host, Error> {
        self.hosts
            .iter()
            .find(|host| host.identity.name == name)
            .ok_or_else(|| Error::Malformed(format!("no host {name}")))
    }
}

fn host(identity: Identity, dataplane: Dataplane, underlay: &Netns, underlay_ip: &Ip) -> Result<Host, Error> {
    let netns = namespace(&identity.name)?;
    forward(&netns)?;
    let ip = Ip::new(&netns)?;
    ip.set_up("lo")?;
    ip.add_veth("eth0", &identity.name, underlay)?;
    underlay_ip.set_master(&identity.name, "br0")?;
    underlay_ip.set_up(&identity.name)?;
    for &address in &identity.underlay {
        ip.add_addr("eth0", underlay_net(address))?;
    }
    ip.set_up("eth0")?;
    for route in default_routes(&identity) {
        ip.add_route(&route)?;
    }
    ip.add_bridge("cni0")?;
    for &cidr in &identity.cidrs {
        ip.add_addr("cni0", first_address(cidr))?;
    }
    ip.set_up("cni0")?;
    let mut host = Host {
        identity,
        netns,
        ip,
        pods: Vec::new(),
    };
    for number in 1..=PODS {
        let pod = pod(&host, number, dataplane::pod_mtu(dataplane))?;
        host.pods.push(pod);
    }
    Ok(host)
}

/// A host's default routes: through the underlay's gateway, as on a real
/// machine, so that a packet without a better route leaves that way.
pub(crate) fn default_routes(identity: &Identity) -> Vec<Route> {
    let route = |address: &IpAddr| match address {
        IpAddr::V4(_) => Route::via(net(Ipv4Addr::UNSPECIFIED.into(), 0), GATEWAY.into(), "eth0"),
        IpAddr::V6(_) => Route::via(net(Ipv6Addr::UNSPECIFIED.into(), 0), GATEWAY6.into(), "eth0"),
    };
    identity.underlay.iter().map(route).collect()
}

/// An underlay address with the segment's prefix length.
pub(crate) fn underlay_net(address: IpAddr) -> IpNet {
    net(address, if address.is_ipv4() { 24 } else { 64 })
}

fn pod(host: &Host, number: u8, mtu: u32) -> Result<Pod, Error> {
    let name = format!("{}-pod{number}", host.identity.name);
    let netns = namespace(&name)?;
    let ip = Ip::new(&netns)?;
    ip.set_up("lo")?;
    let port = format!("veth{number}");
    ip.add_veth("eth0", &port, &host.netns)?;
    // Both ends have what flannel's plugin gives its delegate; the bridge follows its ports.
    ip.set_mtu("eth0", mtu)?;
    host.ip.set_mtu(&port, mtu)?;
    host.ip.set_master(&port, "cni0")?;
    host.ip.set_up(&port)?;
    let mut addresses = Vec::new();
    for &cidr in &host.identity.cidrs {
        // .1 is the bridge; pods follow.
        let address = nth_address(cidr, number + 1);
        ip.add_addr("eth0", address)?;
        addresses.push(address.addr());
    }
    ip.set_up("eth0")?;
    for &cidr in &host.identity.cidrs {
        let everywhere = if cidr.addr().is_ipv4() {
            net(Ipv4Addr::UNSPECIFIED.into(), 0)
        } else {
            net(Ipv6Addr::UNSPECIFIED.into(), 0)
        };
        ip.add_route(&Route::via(everywhere, first_address(cidr).addr(), "eth0"))?;
    }
    Ok(Pod { name, netns, addresses })
}

/// Makes a host forward, and lets nothing of the machine's defaults into it:
/// new namespaces inherit rp_filter, and with redirects a detour would mend itself.
pub(crate) fn forward(netns: &Netns) -> Result<(), Error> {
    let settings = [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
    ];
    for (key, value) in settings {
        sysctl(netns, key, value)?;
    }
    // Where the kernel has no IPv6 there is nothing to forward.
    if has_ipv6(netns) {
        sysctl(netns, "ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}

/// Writes `/proc/sys/net/KEY` as a thread inside the namespace sees it.
pub fn sysctl(netns: &Netns, key: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/{key}");
    let write = netns.run(|| std::fs::write(&path, value)).and_then(|written| written);
    write.map_err(|source| Error::Io {
        what: format!(
            "{}: write {value} to {path} (is /proc/sys writable here?)",
            netns.name()
        ),
        source,
    })
}

pub(crate) fn namespace(name: &str) -> Result<Netns, Error> {
    let netns = Netns::new(name).map_err(|source| Error::Io {
        what: format!("{name}: make a network namespace"),
        source,
    })?;
    if has_ipv6(&netns) {
        // Nobody else is on these links: no second of duplicate address
        // detection before link-local addresses can be used.
        sysctl(&netns, "ipv6/conf/default/accept_dad", "0")?;
    }
    Ok(netns)
}

fn has_ipv6(netns: &Netns) -> bool {
    let settings = std::path::Path::new("/proc/sys/net/ipv6");
    netns.run(|| settings.exists()).unwrap_or(false)
}

fn net(address: IpAddr, length: u8) -> IpNet {
    IpNet::new_assert(address, length)
}
