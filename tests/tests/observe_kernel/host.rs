//! A namespace, and what a test does to it.

use std::net::{IpAddr, Ipv4Addr};

use cidrift_agent::observe::netlink::{Look, Options, Referee, look};
use cidrift_lab::netns::Netns;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourState};
use netlink_packet_route::route::{RouteMessage, RouteNextHop};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder, RouteNextHopBuilder};
use tokio::runtime;

/// What to do with a route that is there already.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    /// `ip route add`
    Add,
    /// `ip route replace`
    Replace,
    /// `ip route append`
    Append,
}

/// A namespace with its loopback up, and the means to act on it.
pub(crate) struct Host {
    pub(crate) netns: Netns,
    pub(crate) ip: Handle,
    raw: Socket,
}

impl Host {
    pub(crate) async fn new(name: &str) -> Self {
        let netns = Netns::new(name).unwrap();
        let (ip, raw) = inside(&netns, || {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            let raw = Socket::new(NETLINK_ROUTE).unwrap();
            raw.connect(&SocketAddr::new(0, 0)).unwrap();
            (handle, raw)
        });
        let host = Self { netns, ip, raw };
        host.set_up("lo", true).await;
        host
    }

    /// Looks at it once.
    pub(crate) async fn look(&self) -> Look {
        inside(&self.netns, || {
            runtime::Handle::current().block_on(look(&Options::default()))
        })
        .unwrap()
    }

    pub(crate) async fn referee(&self) -> Referee {
        inside(&self.netns, || runtime::Handle::current().block_on(Referee::new())).unwrap()
    }

    pub(crate) async fn index(&self, name: &str) -> u32 {
        let mut links = self.ip.link().get().match_name(name.to_owned()).execute();
        links.try_next().await.unwrap().unwrap().header.index
    }

    pub(crate) async fn bridge(&self, name: &str) -> u32 {
        self.add_link(LinkBridge::new(name).build()).await;
        self.set_up(name, true).await;
        self.index(name).await
    }

    /// Both ends in this namespace, both up.
    pub(crate) async fn veth(&self, name: &str, peer: &str) -> u32 {
        self.add_link(LinkVeth::new(name, peer).build()).await;
        self.set_up(peer, true).await;
        self.set_up(name, true).await;
        self.index(name).await
    }

    pub(crate) async fn vxlan(&self, name: &str, vni: u32, local: Ipv4Addr) -> u32 {
        let message = LinkVxlan::new(name, vni)
            .local(local)
            .port(8472)
            .learning(false)
            .build();
        self.add_link(message).await;
        self.set_up(name, true).await;
        self.index(name).await
    }

    pub(crate) async fn add_link(&self, message: LinkMessage) {
        self.ip.link().add(message).execute().await.unwrap();
    }

    pub(crate) async fn set_up(&self, name: &str, up: bool) {
        let mut message = LinkMessage::default();
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.ip.link().change(message).execute().await.unwrap();
    }

    pub(crate) async fn set_master(&self, name: &str, master: u32) {
        let message = LinkUnspec::new_with_name(name).controller(master).build();
        self.ip.link().change(message).execute().await.unwrap();
    }

    pub(crate) async fn delete_link(&self, name: &str) {
        let index = self.index(name).await;
        self.ip.link().del(index).execute().await.unwrap();
    }

    pub(crate) async fn add_address(&self, device: u32, net: &str) {
        let net: IpNet = net.parse().unwrap();
        let request = self.ip.address().add(device, net.addr(), net.prefix_len());
        request.execute().await.unwrap();
    }

    pub(crate) async fn delete_address(&self, device: u32, net: &str) {
        self.try_delete_address(device, net).await.unwrap();
    }

    /// As `delete_address`; it is no fault if the address is not there.
    pub(crate) async fn try_delete_address(&self, device: u32, net: &str) -> Result<(), rtnetlink::Error> {
        let net: IpNet = net.parse().unwrap();
        let mut request = self.ip.address().get();
        request.message_mut().header.index = device;
        let all: Vec<_> = request.execute().try_collect().await?;
        let wanted = all.into_iter().find(|message| {
            message.header.index == device
                && message.header.prefix_len == net.prefix_len()
                && message.attributes.contains(&AddressAttribute::Address(net.addr()))
        });
        match wanted {
            Some(wanted) => self.ip.address().del(wanted).execute().await,
            None => Ok(()),
        }
    }

    /// Sends a route message with these flags beside REQUEST and ACK.
    pub(crate) async fn route(&self, how: How, message: RouteMessage) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
        request.header.flags |= match how {
            How::Add => NLM_F_EXCL,
            How::Replace => NLM_F_REPLACE,
            How::Append => NLM_F_APPEND,
        };
        self.request(request).await
    }

    pub(crate) async fn delete_route(&self, message: RouteMessage) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::DelRoute(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        self.request(request).await
    }

    async fn request(&self, request: NetlinkMessage<RouteNetlinkMessage>) -> Result<(), rtnetlink::Error> {
        let mut ip = self.ip.clone();
        let mut answers = ip.request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }

    pub(crate) async fn neighbour(&self, device: u32, address: &str, lladdr: [u8; 6], state: NeighbourState) {
        let request = self.ip.neighbours().add(device, address.parse().unwrap()).replace();
        request
            .link_layer_address(&lladdr)
            .state(state)
            .execute()
            .await
            .unwrap();
    }

    pub(crate) async fn fdb(&self, device: u32, lladdr: [u8; 6], destination: &str) {
        self.ip
            .neighbours()
            .add_bridge(device, &lladdr)
            .replace()
            .state(NeighbourState::Permanent)
            .flags(NeighbourFlags::Own)
            .destination(destination.parse().unwrap())
            .execute()
            .await
            .unwrap();
    }

    /// `ip nexthop replace id ID via GATEWAY dev DEVICE`; rtnetlink has no words for it.
    pub(crate) fn nexthop(&self, id: u32, device: u32, gateway: Ipv4Addr) {
        let attributes = [
            DefaultNla::new(1, id.to_ne_bytes().to_vec()),
            DefaultNla::new(5, device.to_ne_bytes().to_vec()),
            DefaultNla::new(6, gateway.octets().to_vec()),
        ];
        self.raw(104, NLM_F_CREATE | NLM_F_REPLACE, 2, &attributes);
    }

    /// `ip nexthop replace id ID group MEMBER/MEMBER…`
    pub(crate) fn nexthop_group(&self, id: u32, members: &[u32]) {
        let mut group = Vec::new();
        for member in members {
            group.extend(member.to_ne_bytes());
            group.extend([0; 4]);
        }
        let attributes = [DefaultNla::new(1, id.to_ne_bytes().to_vec()), DefaultNla::new(2, group)];
        self.raw(104, NLM_F_CREATE | NLM_F_REPLACE, 0, &attributes);
    }

    /// `ip nexthop del id ID`
    pub(crate) fn delete_nexthop(&self, id: u32) {
        self.raw(105, 0, 0, &[DefaultNla::new(1, id.to_ne_bytes().to_vec())]);
    }

    /// A nexthop request: `struct nhmsg`, attributes.
    fn raw(&self, kind: u16, flags: u16, family: u8, attributes: &[DefaultNla]) {
        let mut bytes = vec![0; 24];
        bytes[16] = family;
        for attribute in attributes {
            let start = bytes.len();
            bytes.resize(start + attribute.buffer_len(), 0);
            attribute.emit(&mut bytes[start..]);
        }
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        self.raw.send(&bytes, 0).unwrap();
        let mut answer = Vec::with_capacity(4096);
        self.raw.recv(&mut answer, 0).unwrap();
        let code = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert_eq!(code, 0, "{}", Errno::from_raw(-code));
    }

    /// Writes a sysctl of this namespace.
    pub(crate) fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        inside(&self.netns, || std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// Runs on a thread in the namespace, with this runtime at hand.
pub(crate) fn inside<T: Send>(netns: &Netns, work: impl FnOnce() -> T + Send) -> T {
    let runtime = runtime::Handle::current();
    netns
        .run(|| {
            let _entered = runtime.enter();
            work()
        })
        .unwrap()
}

/// `PREFIX [via GATEWAY] [dev DEVICE]`
pub(crate) fn to(prefix: &str, gateway: Option<&str>, device: Option<u32>) -> RouteMessageBuilder<IpAddr> {
    let net: IpNet = prefix.parse().unwrap();
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(net.addr(), net.prefix_len())
        .unwrap();
    if let Some(gateway) = gateway {
        builder = builder.gateway(gateway.parse().unwrap()).unwrap();
    }
    if let Some(device) = device {
        builder = builder.output_interface(device);
    }
    builder
}

/// A leg of a multipath route.
pub(crate) fn leg(gateway: &str, device: u32) -> RouteNextHop {
    let gateway: IpAddr = gateway.parse().unwrap();
    let builder = match gateway {
        IpAddr::V4(_) => RouteNextHopBuilder::new_ipv4(),
        IpAddr::V6(_) => RouteNextHopBuilder::new_ipv6(),
    };
    builder.interface(device).via(gateway).unwrap().build()
}
