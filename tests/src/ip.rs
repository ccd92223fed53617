//! What `ip` and `bridge` do, over rtnetlink: the lab needs no iproute2.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use cidrift_proto::landing::MacAddress;
use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::{AddressAddRequest, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan};
use tokio::runtime::{Builder, Runtime};

use crate::netns::Netns;
use crate::route::Route;

/// Why the kernel or the machine refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's answer.
    #[error("{namespace}: {what}: {source}")]
    Kernel {
        /// Namespace.
        namespace: String,
        /// What was asked, as an iproute2 command.
        what: String,
        /// Its answer.
        source: rtnetlink::Error,
    },
    /// No such device.
    #[error("{namespace}: no device {device}")]
    NoDevice {
        /// Namespace.
        namespace: String,
        /// Its name.
        device: String,
    },
    /// A message that cannot be built.
    #[error("{0}")]
    Malformed(String),
    /// A socket, a thread or a file.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// A netlink socket inside a namespace, with iproute2's verbs. Calls block; do
/// not call from async code.
#[derive(Debug)]
pub struct Ip {
    namespace: String,
    runtime: Runtime,
    handle: Handle,
}

/// How a VXLAN device is to be made.
#[derive(Debug, Clone)]
pub struct Vxlan {
    /// `id`.
    pub vni: u32,
    /// `dev`: the underlay device.
    pub device: String,
    /// `local`.
    pub local: IpAddr,
    /// `dstport`.
    pub port: u16,
    /// The device's MAC.
    pub address: MacAddress,
    /// Bytes.
    pub mtu: u32,
}

impl Ip {
    /// Opens a socket in `netns`. It stays there wherever this is used.
    pub fn new(netns: &Netns) -> Result<Self, Error> {
        let open = || -> std::io::Result<(Runtime, Handle)> {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            let guard = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection()?;
            runtime.spawn(connection);
            drop(guard);
            Ok((runtime, handle))
        };
        let (runtime, handle) = netns.run(open).and_then(|opened| opened).map_err(|source| Error::Io {
            what: format!("{}: netlink socket", netns.name()),
            source,
        })?;
        Ok(Self {
            namespace: netns.name().to_owned(),
            runtime,
            handle,
        })
    }

    /// `ip link add NAME type bridge`.
    pub fn add_bridge(&self, name: &str) -> Result<(), Error> {
        let message = LinkBridge::new(name).build();
        self.ask(
            format!("ip link add {name} type bridge"),
            self.handle.link().add(message).execute(),
        )
    }

    /// `ip link property add dev NAME altname OTHER`.
    pub fn add_altname(&self, name: &str, other: &str) -> Result<(), Error> {
        let request = self.handle.link().property_add(self.index(name)?);
        self.ask(
            format!("ip link property add dev {name} altname {other}"),
            request.alt_ifname(&[other]).execute(),
        )
    }

    /// `ip link add NAME type veth peer name PEER netns NAMESPACE`.
    pub fn add_veth(&self, name: &str, peer: &str, peer_netns: &Netns) -> Result<(), Error> {
        let peer_message = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .setns_by_fd(peer_netns.file().as_raw_fd())
            .build();
        let message = LinkVeth::new(name, peer)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer_message)))
            .build();
        self.ask(
            format!(
                "ip link add {name} type veth peer name {peer} netns {}",
                peer_netns.name()
            ),
            self.handle.link().add(message).execute(),
        )
    }

    /// `ip link add NAME type vxlan id … dev … local … dstport … nolearning`.
    pub fn add_vxlan(&self, name: &str, vxlan: &Vxlan) -> Result<(), Error> {
        let builder = LinkVxlan::new(name, vxlan.vni)
            .dev(self.index(&vxlan.device)?)
            .port(vxlan.port)
            .learning(false)
            .address(vxlan.address.0.to_vec())
            .mtu(vxlan.mtu);
        let builder = match vxlan.local {
            IpAddr::V4(local) => builder.local(local),
            IpAddr::V6(local) => builder.local6(local),
        };
        self.ask(
            format!(
                "ip link add {name} type vxlan id {} dev {} local {} dstport {} nolearning",
                vxlan.vni, vxlan.device, vxlan.local, vxlan.port
            ),
            self.handle.link().add(builder.build()).execute(),
        )
    }

    /// `ip link set NAME up`.
    pub fn set_up(&self, name: &str) -> Result<(), Error> {
        self.set(
            format!("ip link set {name} up"),
            LinkUnspec::new_with_index(self.index(name)?).up().build(),
        )
    }

    /// `ip link set NAME down`.
    pub fn set_down(&self, name: &str) -> Result<(), Error> {
        self.set(
            format!("ip link set {name} down"),
            LinkUnspec::new_with_index(self.index(name)?).down().build(),
        )
    }

    /// `ip link set NAME mtu BYTES`.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), Error> {
        self.set(
            format!("ip link set {name} mtu {mtu}"),
            LinkUnspec::new_with_index(self.index(name)?).mtu(mtu).build(),
        )
    }

    /// `ip link delete NAME`.
    pub fn del_link(&self, name: &str) -> Result<(), Error> {
        let request = self.handle.link().del(self.index(name)?);
        self.ask(format!("ip link delete {name}"), request.execute())
    }

    /// `ip link set NAME master BRIDGE`.
    pub fn set_master(&self, name: &str, bridge: &str) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(self.index(name)?)
            .controller(self.index(bridge)?)
            .build();
        self.set(format!("ip link set {name} master {bridge}"), message)
    }

    /// `ip addr add ADDRESS dev NAME`, IPv6 with `nodad`: nobody else is on
    /// these links, and a tentative address cannot be used for a second.
    pub fn add_addr(&self, name: &str, address: IpNet) -> Result<(), Error> {
        let request = self.address_request(name, address)?;
        self.ask(format!("ip addr add {address} dev {name}"), request.execute())
    }

    /// `ip addr replace ADDRESS dev NAME`.
    pub fn replace_addr(&self, name: &str, address: IpNet) -> Result<(), Error> {
        let request = self.address_request(name, address)?.replace();
        self.ask(format!("ip addr replace {address} dev {name}"), request.execute())
    }

    fn address_request(&self, name: &str, address: IpNet) -> Result<AddressAddRequest, Error> {
        let mut request = self
            .handle
            .address()
            .add(self.index(name)?, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        Ok(request)
    }

    /// `ip route add ROUTE`.
    pub fn add_route(&self, route: &Route) -> Result<(), Error> {
        let message = route.message(|device| self.index(device))?;
        self.ask(
            format!("ip route add {route}"),
            self.handle.route().add(message).execute(),
        )
    }

    /// `ip route add` for many: devices are looked up once.
    pub fn add_routes(&self, routes: &[Route]) -> Result<(), Error> {
        let indices = RefCell::new(HashMap::new());
        let index = |device: &str| -> Result<u32, Error> {
            if let Some(&index) = indices.borrow().get(device) {
                return Ok(index);
            }
            let index = self.index(device)?;
            indices.borrow_mut().insert(device.to_owned(), index);
            Ok(index)
        };
        for route in routes {
            let message = route.message(index)?;
            self.ask(
                format!("ip route add {route}"),
                self.handle.route().add(message).execute(),
            )?;
        }
        Ok(())
    }

    /// `ip route replace ROUTE`.
    pub fn replace_route(&self, route: &Route) -> Result<(), Error> {
        let message = route.message(|device| self.index(device))?;
        self.ask(
            format!("ip route replace {route}"),
            self.handle.route().add(message).replace().execute(),
        )
    }

    /// `ip route del ROUTE`.
    pub fn del_route(&self, route: &Route) -> Result<(), Error> {
        let message = route.message(|device| self.index(device))?;
        self.ask(
            format!("ip route del {route}"),
            self.handle.route().del(message).execute(),
        )
    }

    /// `ip neigh replace ADDRESS lladdr MAC dev NAME nud permanent`.
    pub fn replace_neigh(&self, name: &str, address: IpAddr, lladdr: MacAddress) -> Result<(), Error> {
        self.ask(
            format!("ip neigh replace {address} lladdr {lladdr} dev {name} nud permanent"),
            self.handle
                .neighbours()
                .add(self.index(name)?, address)
                .link_layer_address(&lladdr.0)
                .replace()
                .execute(),
        )
    }

    /// `ip neigh del ADDRESS dev NAME`.
    pub fn del_neigh(&self, name: &str, address: IpAddr) -> Result<(), Error> {
        let mut request = self.handle.neighbours().add(self.index(name)?, address);
        let message = std::mem::take(request.message_mut());
        self.ask(
            format!("ip neigh del {address} dev {name}"),
            self.handle.neighbours().del(message).execute(),
        )
    }

    /// `bridge fdb replace MAC dev NAME dst ADDRESS self permanent`.
    pub fn replace_fdb(&self, name: &str, lladdr: MacAddress, destination: IpAddr) -> Result<(), Error> {
        self.ask(
            format!("bridge fdb replace {lladdr} dev {name} dst {destination} self permanent"),
            self.handle
                .neighbours()
                .add_bridge(self.index(name)?, &lladdr.0)
                .state(NeighbourState::Permanent)
                .flags(NeighbourFlags::Own)
                .destination(destination)
                .replace()
                .execute(),
        )
    }

    /// `bridge fdb del MAC dev NAME dst ADDRESS self`.
    pub fn del_fdb(&self, name: &str, lladdr: MacAddress, destination: IpAddr) -> Result<(), Error> {
        let mut request = self
            .handle
            .neighbours()
            .add_bridge(self.index(name)?, &lladdr.0)
            .flags(NeighbourFlags::Own)
            .destination(destination);
        let message = std::mem::take(request.message_mut());
        self.ask(
            format!("bridge fdb del {lladdr} dev {name} dst {destination} self"),
            self.handle.neighbours().del(message).execute(),
        )
    }

    /// A device's ifindex.
    pub fn index(&self, name: &str) -> Result<u32, Error> {
        self.link(name).map(|link| link.header.index)
    }

    /// A device's MAC address.
    pub fn address(&self, name: &str) -> Result<Option<MacAddress>, Error> {
        let link = self.link(name)?;
        Ok(link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress),
            _ => None,
        }))
    }

    fn link(&self, name: &str) -> Result<LinkMessage, Error> {
        let mut links = self.handle.link().get().match_name(name.to_owned()).execute();
        let found = self.runtime.block_on(links.try_next());
        found.ok().flatten().ok_or_else(|| Error::NoDevice {
            namespace: self.namespace.clone(),
            device: name.to_owned(),
        })
    }

    fn set(&self, what: String, message: LinkMessage) -> Result<(), Error> {
        self.ask(what, self.handle.link().set(message).execute())
    }

    fn ask(&self, what: String, request: impl Future<Output = Result<(), rtnetlink::Error>>) -> Result<(), Error> {
        self.runtime.block_on(request).map_err(|source| Error::Kernel {
            namespace: self.namespace.clone(),
            what,
            source,
        })
    }
}
