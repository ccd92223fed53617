//! Which neighbours decide a landing: of a node's hundreds, most are its pods', which come and go with traffic.

use std::collections::HashSet;
use std::net::IpAddr;

use super::dumped::Neighbours;
use crate::view::{Hop, Hops, Kernel, LinkDetail, Nexthop};

/// More neighbours than this that differ between two dumps, and one of them is taken to decide something.
const LOOKED_UP: usize = 16;

/// Gateways of routes and of nexthop objects, as they are now. Kept between messages: there may be thousands of routes, and a
/// neighbour changes every second.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Gateways {
    all: HashSet<(u32, IpAddr)>,
    /// Devices with a link-local one.
    link_local: HashSet<u32>,
}

impl Gateways {
    /// Of all routes and objects.
    pub(super) fn of(kernel: &Kernel) -> Self {
        let mut gateways = Self::default();
        for nexthop in kernel.nexthops.values() {
            match nexthop {
                Nexthop::Hop(hop) => gateways.add(hop),
                Nexthop::Blackhole | Nexthop::Group(_) | Nexthop::Fdb(_) => {}
            }
        }
        for route in kernel.routes.iter() {
            match &route.hops {
                Hops::One(hop) => gateways.add(hop),
                Hops::Many(hops) => hops.iter().for_each(|hop| gateways.add(hop)),
                // Objects were looked at.
                Hops::None | Hops::Object(_) => {}
            }
        }
        gateways
    }

    fn add(&mut self, hop: &Hop) {
        let Some((device, gateway)) = hop.device.zip(hop.gateway) else {
            return;
        };
        self.all.insert((device, gateway));
        if is_link_local(gateway) {
            self.link_local.insert(device);
        }
    }

    fn have(&self, device: u32, address: IpAddr) -> bool {
        self.all.contains(&(device, address)) || (address.is_ipv6() && self.link_local.contains(&device))
    }
}

/// Whether a landing may rest on this neighbour, as the routes are now. A route that comes later is resolved when it
/// comes, and a device that is not known yet moves everything when it does.
///
/// On a tunnel every neighbour may; elsewhere only a gateway, and every IPv6 neighbour of a device with a link-local
/// gateway: by its MAC it may tell which node that is. `kept` are the gateways, if they are known; they are then.
pub(super) fn decides(kernel: &Kernel, kept: &mut Option<Gateways>, device: u32, address: IpAddr) -> bool {
    let plain = |link: &crate::view::Link| link.detail == LinkDetail::Plain;
    if !kernel.links.get(&device).is_some_and(plain) {
        return true;
    }
    let gateways = kept.get_or_insert_with(|| Gateways::of(kernel));
    debug_assert_eq!(
        *gateways,
        Gateways::of(kernel),
        "routes changed, and the gateways were not forgotten"
    );
    gateways.have(device, address)
}

/// Whether a landing may have moved by what differs from `before`.
pub(super) fn moved(kernel: &Kernel, before: &Neighbours) -> bool {
    let now = &kernel.neighbours;
    let new = now.iter().filter(|(key, entry)| before.get(key) != Some(entry));
    let gone = before.iter().filter(|(key, _)| !now.contains_key(key));
    let mut differing = new.chain(gone).map(|(key, _)| *key);
    let few = differing.by_ref().take(LOOKED_UP).collect::<Vec<_>>();
    let mut gateways = None;
    differing.next().is_some()
        || few
            .into_iter()
            .any(|(device, address)| decides(kernel, &mut gateways, device, address))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::fixture::{self, CNI0, ETH0, FLANNEL, add};
    use crate::view::Neighbour;

    fn decides(kernel: &Kernel, device: u32, address: IpAddr) -> bool {
        super::decides(kernel, &mut None, device, address)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn kernel() -> Kernel {
        let mut kernel = fixture::host();
        add(&mut kernel, "10.244.2.0/24 via 192.168.1.2 dev eth0");
        kernel
    }

    #[test]
    fn a_gateway_decides_and_a_pod_does_not() {
        let kernel = kernel();
        assert!(decides(&kernel, ETH0, address("192.168.1.2")));
        assert!(!decides(&kernel, ETH0, address("192.168.1.3")));
        assert!(!decides(&kernel, CNI0, address("10.244.1.7")));
        // Another device's neighbour of the same address.
        assert!(!decides(&kernel, CNI0, address("192.168.1.2")));
        assert!(!decides(&kernel, CNI0, address("fe80::7")));
    }

    #[test]
    fn on_a_tunnel_and_on_a_device_that_is_not_known_each_may() {
        assert!(decides(&kernel(), FLANNEL, address("10.244.9.0")));
        assert!(decides(&kernel(), 4711, address("10.244.9.0")));
    }

    #[test]
    fn behind_a_link_local_gateway_every_neighbour_of_ipv6_may() {
        let mut kernel = kernel();
        add(&mut kernel, "fd00:2::/64 via fe80::2 dev eth0");
        assert!(decides(&kernel, ETH0, address("fd00:f::2")));
        assert!(decides(&kernel, ETH0, address("fe80::2")));
        assert!(!decides(&kernel, ETH0, address("192.168.1.3")));
        assert!(!decides(&kernel, CNI0, address("fd00:f::2")));
    }

    #[test]
    fn a_nexthop_objects_gateway_decides() {
        let mut kernel = fixture::host();
        let hop = Hop {
            device: Some(ETH0),
            gateway: Some(address("192.168.1.9")),
            weight: 1,
            dead: false,
            linkdown: false,
            onlink: false,
            encap: None,
        };
        assert!(!decides(&kernel, ETH0, address("192.168.1.9")));
        kernel.nexthops.insert(7, Nexthop::Hop(hop));
        assert!(decides(&kernel, ETH0, address("192.168.1.9")));
    }

    #[test]
    fn of_two_dumps_what_differs_is_looked_up_and_very_much_of_it_is_not() {
        let failed = Neighbour {
            lladdr: None,
            permanent: false,
            failed: true,
        };
        let kernel = kernel();
        let mut before = kernel.neighbours.clone();
        assert!(!moved(&kernel, &before));
        before.insert((CNI0, address("10.244.1.7")), failed);
        assert!(!moved(&kernel, &before));
        before.insert((ETH0, address("192.168.1.2")), failed);
        assert!(moved(&kernel, &before));
        before.remove(&(ETH0, address("192.168.1.2")));
        before.extend((0..16).map(|last| ((CNI0, IpAddr::from([10, 244, 1, 100 + last])), failed)));
        assert!(moved(&kernel, &before));
    }
}
